//! The command of a restore: which snapshot, which of its paths, where to. Paths are literal: what a pattern would take for itself is escaped. Only a byte
//! that is no UTF-8, of which the order has U+FFFD, becomes a `?`: restic takes that for any one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, Overwrite, RestoreSpec};

use super::{OrderError, needs, refuse, snapshot_id, words};
use crate::{
    platform,
    restic::version::{Feature, ResticVersion},
};

/// Paths that are longer than this together go by a file, where restic takes one.
const BY_FILE_BYTES: usize = 128 * 1024;

/// The command. `folder`: where a list of paths may be written.
pub(super) fn args(version: ResticVersion, order: &CommandRun, folder: &Path) -> Result<Vec<OsString>, OrderError> {
    let spec = checked(version, order)?;
    if is_counted_dry_run(version, order) {
        return counted(order, spec);
    }
    let mut args = words(&["restore", "--json"]);
    args.push(format!("--target={}", spec.target).into());
    if version.supports(Feature::RestoreOverwrite) {
        // Without that it doesn't tell which files it replaces.
        args.push("--verbose=2".into());
        args.push(format!("--overwrite={}", overwrite_word(spec.overwrite)).into());
    }
    if spec.dry_run {
        args.push("--dry-run".into());
    }
    args.extend(includes(version, &spec.paths, folder)?);
    args.extend(snapshot(order, spec)?);
    Ok(args)
}

/// Whether a dry run has to be done by listing the snapshot, for restic has none.
fn is_counted_dry_run(version: ResticVersion, order: &CommandRun) -> bool {
    order.restore.as_ref().is_some_and(|spec| spec.dry_run) && !version.supports(Feature::RestoreDryRun)
}

/// What of an order is to be known before restic runs.
pub(super) fn notes(order: &CommandRun) -> Vec<String> {
    let paths = order.restore.iter().flat_map(|spec| &spec.paths);
    paths
        .filter(|path| path.contains(char::REPLACEMENT_CHARACTER))
        .map(|path| {
            format!("the name of {path} holds bytes that are no UTF-8: each is matched by `?`, so other names of the same shape are restored too")
        })
        .collect()
}

fn checked(version: ResticVersion, order: &CommandRun) -> Result<&RestoreSpec, OrderError> {
    let Some(spec) = &order.restore else {
        return refuse("the order does not say what to restore; choose a snapshot and run it again");
    };
    if !Path::new(&spec.target).is_absolute() {
        return refuse(format!("the restore target {:?} is not an absolute path", spec.target));
    }
    if let Some(path) = spec.paths.iter().find(|path| !path.starts_with('/')) {
        return refuse(format!("{path:?} is not a path inside a snapshot; those begin with /"));
    }
    if spec.overwrite != Overwrite::Always {
        needs(version, Feature::RestoreOverwrite, &format!("overwrite = {}", overwrite_word(spec.overwrite)))?;
    }
    Ok(spec)
}

/// The snapshot, with whose it is where that matters.
fn snapshot(order: &CommandRun, spec: &RestoreSpec) -> Result<Vec<OsString>, OrderError> {
    if spec.snapshot != "latest" {
        return Ok(vec!["--".into(), snapshot_id(&spec.snapshot)?.into()]);
    }
    let host = spec.source_host.as_ref().unwrap_or(&order.host_label);
    if host.is_empty() || host.chars().any(char::is_control) {
        return refuse("the order does not say of which host the latest snapshot is meant; choose a snapshot");
    }
    Ok(vec![format!("--host={host}").into(), "--".into(), "latest".into()])
}

/// A list of all that would be restored.
fn counted(order: &CommandRun, spec: &RestoreSpec) -> Result<Vec<OsString>, OrderError> {
    let mut args = words(&["ls", "--json", "--no-lock", "--recursive"]);
    args.extend(snapshot(order, spec)?);
    // A name that is no UTF-8 can't be given: then all is listed, and what was not asked for is passed over.
    if !spec.paths.iter().any(|path| path.contains(char::REPLACEMENT_CHARACTER)) {
        args.extend(chosen(&spec.paths).map(OsString::from));
    }
    Ok(args)
}

/// The paths without slashes at their ends; none where all is chosen.
pub(crate) fn chosen(paths: &[String]) -> impl Iterator<Item = &str> {
    let all = paths.iter().any(|path| path.trim_end_matches('/').is_empty());
    paths.iter().filter(move |_| !all).map(|path| path.trim_end_matches('/'))
}

fn includes(version: ResticVersion, paths: &[String], folder: &Path) -> Result<Vec<OsString>, OrderError> {
    let patterns: Vec<String> = chosen(paths).map(literal_pattern).collect();
    let bytes: usize = patterns.iter().map(String::len).sum();
    let by_file = bytes > BY_FILE_BYTES && version.supports(Feature::IncludeFile);
    // In a file, a pattern is a line, and space around it is not part of it.
    let (listed, named): (Vec<_>, Vec<_>) = patterns
        .into_iter()
        .partition(|pattern| by_file && !pattern.contains(['\n', '\r']) && pattern.trim() == pattern);
    let mut args: Vec<OsString> = named.into_iter().map(|pattern| format!("--include={pattern}").into()).collect();
    if !listed.is_empty() {
        // restic puts in variables there.
        let text = listed.iter().fold(String::new(), |text, pattern| text + &pattern.replace('$', "$$") + "\n");
        let file: PathBuf = folder.join("include");
        platform::private_dir(folder)?;
        platform::write_private(&file, text.as_bytes())?;
        let mut flag = OsString::from("--include-file=");
        flag.push(file);
        args.push(flag);
    }
    Ok(args)
}

fn overwrite_word(overwrite: Overwrite) -> &'static str {
    match overwrite {
        Overwrite::Always => "always",
        Overwrite::IfChanged => "if-changed",
        Overwrite::IfNewer => "if-newer",
        Overwrite::Never => "never",
    }
}

/// A path as a pattern that matches itself only, as far as the order knows it.
fn literal_pattern(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut out, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(if c == char::REPLACEMENT_CHARACTER { '?' } else { c });
        out
    })
}
