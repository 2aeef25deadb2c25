//! The command of a restore: which snapshot, which of its paths, where to. Paths are literal: what a pattern would take for itself is escaped.

use std::{ffi::OsString, path::Path};

use flotilla_proto::{CommandRun, Overwrite};

use super::{OrderError, host_flag, refuse, snapshot_id, words};
use crate::restic::version::{Feature, ResticVersion};

pub(super) fn args(version: ResticVersion, order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let Some(spec) = &order.restore else {
        return refuse("the order does not say what to restore; choose a snapshot and run it again");
    };
    let snapshot = match spec.snapshot.as_str() {
        "latest" => "latest",
        id => snapshot_id(id)?,
    };
    if !Path::new(&spec.target).is_absolute() {
        return refuse(format!("the restore target {:?} is not an absolute path", spec.target));
    }
    let mut args = words(&["restore", "--json"]);
    args.push(format!("--target={}", spec.target).into());
    match spec.overwrite {
        Overwrite::Always => {}
        other if version.supports(Feature::RestoreOverwrite) => {
            args.push(format!("--overwrite={}", overwrite_word(other)).into());
        }
        other => {
            return refuse(format!(
                "overwrite = {} needs restic 0.17 or newer and this host has {}; update restic, or restore into an empty folder",
                overwrite_word(other),
                version
            ));
        }
    }
    for path in &spec.paths {
        if !path.starts_with('/') {
            return refuse(format!("{path:?} is not a path inside a snapshot; those begin with /"));
        }
        args.push(format!("--include={}", literal_pattern(path)).into());
    }
    if snapshot == "latest" {
        args.push(host_flag(order)?);
    }
    args.extend(["--".into(), snapshot.into()]);
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

/// A path as a pattern that matches itself only.
fn literal_pattern(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut out, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}
