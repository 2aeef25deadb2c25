//! The command of a backup: the plan's paths and options as flags. What comes from a plan is bound to its flag, or stands behind `--`. An option that this
//! restic or this system does not have is refused, unless it only makes the work politer: then it is left out, and said.

use std::{
    env,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, Compression, Operation, PlanOptions};

use super::{OrderError, host_flag, job_tag, needs, refuse, words};
use crate::{
    policy::Policy,
    restic::version::{Feature, ResticVersion},
};

/// What an order backs up, whether it comes from a plan or stands alone.
pub(crate) fn sources(order: &CommandRun) -> &[String] {
    order.plan.as_ref().map_or(&order.args, |plan| &plan.paths)
}

/// Whether an order is a backup that only says what it would do.
pub(crate) fn is_dry_backup(order: &CommandRun) -> bool {
    matches!(&order.operation, Some(Operation::Backup(spec)) if spec.dry_run)
}

pub(super) fn args(version: ResticVersion, order: &CommandRun, state_dir: &Path) -> Result<Vec<OsString>, OrderError> {
    let none = PlanOptions::default();
    let options = order.plan.as_ref().map_or(&none, |plan| &plan.options);
    let paths = sources(order);
    let from = match &options.stdin_command {
        Some(run) => stdin(version, order, run, state_dir)?,
        None if paths.is_empty() => return refuse("there is nothing to back up: the plan names no paths; add one"),
        None => Vec::new(),
    };
    if let Some(path) = paths.iter().find(|path| !Path::new(path).is_absolute()) {
        return refuse(format!("{path:?} is not an absolute path; write it in full, such as /etc"));
    }
    let mut args = words(&["backup", "--json"]);
    args.push(host_flag(order)?);
    args.push(format!("--tag=flotilla,{}", job_tag(order.job_id)).into());
    if let Some(plan) = &order.plan {
        args.push(format!("--tag=plan-{}", plan.id.to_string().to_lowercase()).into());
    }
    for tag in &options.backup_tags {
        if tag.trim().is_empty() || tag.contains(',') {
            return refuse(format!("the tag {tag:?} is empty or holds a comma; change it in the plan"));
        }
        args.push(format!("--tag={tag}").into());
    }
    let excludes = order.plan.as_ref().map_or(&[][..], |plan| &plan.excludes);
    args.extend(excludes.iter().filter(|pattern| !pattern.trim().is_empty()).map(|p| format!("--exclude={p}").into()));
    exclude_files(options, &mut args)?;
    let flags = [
        (options.one_file_system, "--one-file-system".to_owned()),
        (options.exclude_caches, "--exclude-caches".to_owned()),
        (options.limit_upload_kib > 0, format!("--limit-upload={}", options.limit_upload_kib)),
        (options.limit_download_kib > 0, format!("--limit-download={}", options.limit_download_kib)),
        (options.log_files, "--verbose=2".to_owned()),
        (is_dry_backup(order), "--dry-run".to_owned()),
    ];
    args.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.into()));
    newer_flags(version, options, &mut args)?;
    if let Some(file) = options.stdin_filename.as_ref().filter(|_| !from.is_empty()) {
        // restic 0.18 looks for the folders on the disk.
        if file.trim_start_matches('/').contains('/') {
            return refuse(format!(
                "{file:?} names folders; give the output of a command a plain name in the plan, such as /db.sql"
            ));
        }
        args.push(format!("--stdin-filename={file}").into());
    }
    if !from.is_empty() {
        args.push("--stdin-from-command".into());
    }
    args.push("--".into());
    args.extend(from);
    args.extend(paths.iter().map(OsString::from));
    Ok(args)
}

/// The command whose output is backed up, as this endpoint's own rules name it; behind `env -i`, for what restic knows of the repository's secrets by its own
/// environment is none of its business.
fn stdin(version: ResticVersion, order: &CommandRun, run: &str, state_dir: &Path) -> Result<Vec<OsString>, OrderError> {
    needs(version, Feature::StdinCommand, "a backup of a command's output")?;
    if !sources(order).is_empty() {
        return refuse("the plan names both paths and a command whose output is backed up; take one of them out");
    }
    let policy = Policy::load(state_dir).map_err(|e| OrderError::Refused(e.to_string()))?;
    let allowed = policy
        .command(run, state_dir)
        .map_err(|e| OrderError::Refused(format!("the plan's command can't be backed up: {e}")))?;
    let Some(env) = find("env") else {
        return refuse(
            "a command's output can be backed up only where there is `env`, which keeps the repository's secrets from it",
        );
    };
    let kept = ["PATH", "HOME", "TMPDIR", "LANG"].into_iter().filter_map(|name| {
        let mut word = OsString::from(format!("{name}="));
        word.push(env::var_os(name)?);
        Some(word)
    });
    let own = [("JOB_ID", order.job_id.to_string()), ("HOST", order.host_label.clone())];
    let own = own.into_iter().map(|(name, value)| format!("FLOTILLA_{name}={value}").into());
    Ok([env.into_os_string(), "-i".into()].into_iter().chain(kept).chain(own).chain(allowed.words).collect())
}

/// What not every restic or system has.
fn newer_flags(version: ResticVersion, options: &PlanOptions, args: &mut Vec<OsString>) -> Result<(), OrderError> {
    if let Some(compression) = options.compression {
        // Repositories of format 1 (made by restic before 0.14) are not compressed, whatever is said.
        let word = match compression {
            Compression::Auto => "auto",
            Compression::Off => "off",
            Compression::Max => "max",
        };
        args.push(format!("--compression={word}").into());
    }
    if let Some(files) = options.read_concurrency {
        needs(version, Feature::ReadConcurrency, "the number of files read at the same time")?;
        if files == 0 {
            return refuse("the number of files read at the same time is 0; choose 1 or more in the plan");
        }
        args.push(format!("--read-concurrency={files}").into());
    }
    if options.skip_if_unchanged {
        needs(version, Feature::SkipIfUnchanged, "making no snapshot where nothing changed")?;
        args.push("--skip-if-unchanged".into());
    }
    if options.no_scan {
        needs(version, Feature::NoScan, "leaving out the count beforehand")?;
        args.push("--no-scan".into());
    }
    if options.shadow_copy {
        if !cfg!(windows) {
            return refuse(
                "the plan reads from a shadow copy, which only Windows has; take that option out, or use another plan for this host",
            );
        }
        args.push("--use-fs-snapshot".into());
    }
    Ok(())
}

fn exclude_files(options: &PlanOptions, args: &mut Vec<OsString>) -> Result<(), OrderError> {
    for path in &options.exclude_files {
        if !Path::new(path).is_absolute() {
            return refuse(format!(
                "{path:?}, a file with exclude patterns, is not an absolute path; write it in full"
            ));
        }
        // restic would not begin either, but not say what to do.
        let readable = File::open(path).and_then(|file| file.metadata());
        match readable {
            Ok(meta) if meta.is_file() => args.push(format!("--exclude-file={path}").into()),
            Ok(_) => {
                return refuse(format!("{path}, which should hold exclude patterns, is no file; correct the plan"));
            }
            Err(e) => {
                return refuse(format!(
                    "the file {path} with exclude patterns can't be read on this host: {e}. Create it, or take it out of the plan"
                ));
            }
        }
    }
    if let Some(size) = &options.exclude_larger_than {
        let digits = size.trim_end_matches(|c: char| "kKmMgGtT".contains(c));
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && size.len() - digits.len() <= 1;
        if !plain {
            return refuse(format!("{size:?} is not a size such as 100M or 2G; correct it in the plan"));
        }
        args.push(format!("--exclude-larger-than={size}").into());
    }
    Ok(())
}

/// What goes before restic so that it is polite, and what could not be done for that, in words. Each of them becomes the next by `exec`: restic keeps the
/// process's number.
pub(super) fn politeness(order: &CommandRun) -> (Vec<OsString>, Vec<String>) {
    let (mut wrap, mut notes) = (Vec::new(), Vec::new());
    let Some(options) = order.plan.as_ref().map(|plan| &plan.options) else { return (wrap, notes) };
    let mut add = |tool: &str, flag: String, lacks: &str| match find(tool) {
        Some(path) => wrap.extend([path.into_os_string(), flag.into()]),
        None => notes.push(format!("there is no `{tool}` on this host: restic runs {lacks}")),
    };
    if let Some(nice) = options.nice {
        add("nice", format!("-n{}", nice.min(19)), "with the agent's own priority");
    }
    if options.io_idle {
        add("ionice", "-c3".to_owned(), "without yielding its disk to others");
    }
    (wrap, notes)
}

fn find(tool: &str) -> Option<PathBuf> {
    if cfg!(not(unix)) {
        return None;
    }
    let search = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(tool))
        .find(|path| path.is_file())
}
