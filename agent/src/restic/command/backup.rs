//! The command of a backup: the plan's paths and options as flags. What comes from a plan is bound to its flag, or stands behind `--`.

use std::{ffi::OsString, path::Path};

use flotilla_proto::{CommandRun, PlanOptions};

use super::{OrderError, host_flag, job_tag, refuse, words};

/// What an order backs up, whether it comes from a plan or stands alone.
pub(crate) fn sources(order: &CommandRun) -> &[String] {
    order.plan.as_ref().map_or(&order.args, |plan| &plan.paths)
}

pub(super) fn args(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let none = PlanOptions::default();
    let options = order.plan.as_ref().map_or(&none, |plan| &plan.options);
    let paths = sources(order);
    if paths.is_empty() {
        return refuse("there is nothing to back up: the plan names no paths; add one");
    }
    if let Some(path) = paths.iter().find(|path| !Path::new(path).is_absolute()) {
        return refuse(format!("{path:?} is not an absolute path; write it in full, such as /etc"));
    }
    let mut args = words(&["backup", "--json"]);
    args.push(host_flag(order)?);
    args.push(format!("--tag=flotilla,{}", job_tag(order.job_id)).into());
    for tag in &options.backup_tags {
        if tag.trim().is_empty() || tag.contains(',') {
            return refuse(format!("the tag {tag:?} is empty or holds a comma; change it in the plan"));
        }
        args.push(format!("--tag={tag}").into());
    }
    let excludes = order.plan.as_ref().map_or(&[][..], |plan| &plan.excludes);
    args.extend(excludes.iter().filter(|pattern| !pattern.trim().is_empty()).map(|p| format!("--exclude={p}").into()));
    let flags = [
        (options.one_file_system, "--one-file-system".to_owned()),
        (options.exclude_caches, "--exclude-caches".to_owned()),
        (options.limit_upload_kib > 0, format!("--limit-upload={}", options.limit_upload_kib)),
        (options.limit_download_kib > 0, format!("--limit-download={}", options.limit_download_kib)),
        (options.log_files, "--verbose=2".to_owned()),
    ];
    args.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.into()));
    args.push("--".into());
    args.extend(paths.iter().map(OsString::from));
    Ok(args)
}
