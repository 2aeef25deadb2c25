//! What a plan may say of how its backups run: options and hooks, checked field by field. What an endpoint allows, only the endpoint knows.

use super::{check_line, check_path, each};
use crate::{
    domain::{Hook, PlanOptions, check_tag},
    ops::error::Problems,
};

/// Hooks in one plan at most.
const MOST_HOOKS: usize = 20;
/// Seconds that a hook may take at most.
const LONGEST_HOOK_S: u64 = 24 * 3600;
/// Files that restic may read at the same time.
const MOST_READERS: u32 = 64;

pub(super) fn check_options(problems: &mut Problems, options: PlanOptions) -> PlanOptions {
    let backup_tags =
        each(problems, "options.backup_tags", &options.backup_tags, |tag| check_tag(tag).map_err(str::to_owned));
    let exclude_files = each(problems, "options.exclude_files", &options.exclude_files, check_path);
    if options.exclude_larger_than.as_deref().is_some_and(|size| !is_size(size)) {
        problems.add("options.exclude_larger_than", "must be a size such as 100M or 2G");
    }
    if options.nice.is_some_and(|nice| nice > 19) {
        problems.add("options.nice", "must be between 0 and 19; 19 is the most polite");
    }
    if options.read_concurrency.is_some_and(|files| files == 0 || files > MOST_READERS) {
        problems.add("options.read_concurrency", format!("must be between 1 and {MOST_READERS}"));
    }
    let stdin_command = options.stdin_command.and_then(|run| problems.take("options.stdin_command", check_run(&run)));
    if let Some(file) = &options.stdin_filename {
        if stdin_command.is_none() {
            problems
                .add("options.stdin_filename", "goes with the output of a command only: name one, or leave it empty");
        }
        let plain = check_line(file).and_then(|file| match file.trim_start_matches('/').contains(['/', '\\']) {
            true => Err("must be a plain name such as /db.sql, without folders".to_owned()),
            false => Ok(file),
        });
        problems.take("options.stdin_filename", plain);
    }
    PlanOptions { backup_tags, exclude_files, stdin_command, ..options }
}

pub(super) fn check_hooks(problems: &mut Problems, hooks: Vec<Hook>) -> Vec<Hook> {
    if hooks.len() > MOST_HOOKS {
        problems.add("hooks", format!("must hold at most {MOST_HOOKS}"));
        return Vec::new();
    }
    let mut good = Vec::with_capacity(hooks.len());
    for (i, hook) in hooks.into_iter().enumerate() {
        if hook.timeout_s == 0 || hook.timeout_s > LONGEST_HOOK_S {
            problems.add(&format!("hooks[{i}].timeout_s"), format!("must be between 1 and {LONGEST_HOOK_S} seconds"));
        }
        let run = problems.take(&format!("hooks[{i}].run"), check_run(&hook.run));
        good.extend(run.map(|run| Hook { run, ..hook }));
    }
    good
}

/// The name of a command, or a line for the shell.
fn check_run(text: &str) -> Result<String, String> {
    let run = check_line(text)?;
    if !run.starts_with("sh:") && (run.contains(['/', '\\']) || run.starts_with('.')) {
        return Err(
            "must be the plain name of a command or script that the host's own configuration allows, without a path"
                .to_owned(),
        );
    }
    Ok(run)
}

/// restic's size: a number, and a unit where it is not bytes.
fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| "kKmMgGtT".contains(c));
    (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && text.len() - digits.len() <= 1
}
