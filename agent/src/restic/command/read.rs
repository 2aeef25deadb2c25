//! The commands that look at a repository and change nothing in it. None takes a lock, but `check`.

use std::ffi::OsString;

use flotilla_proto::{CommandRun, DumpForm, DumpSpec, Operation, Selection, StatsMode};

use super::{OrderError, refuse, snapshot_id, words};

pub(super) fn snapshots() -> Vec<OsString> {
    words(&["snapshots", "--json", "--no-lock"])
}

/// A folder whose name is no UTF-8 can't be named: then all below the last one that can is listed, and read selectively.
pub(super) fn ls(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let Some(Operation::Ls(spec)) = &order.operation else {
        return refuse("the order does not say which folder to list; choose one and run it again");
    };
    let mut folder = listed_folder(order);
    if !folder.starts_with('/') {
        return refuse(format!("{folder:?} is not a path inside a snapshot; those begin with /"));
    }
    let mut args = words(&["ls", "--json", "--no-lock"]);
    if let Some(at) = folder.find(char::REPLACEMENT_CHARACTER) {
        args.push("--recursive".into());
        folder = match folder[..at].rfind('/') {
            Some(0) | None => "/",
            Some(end) => &folder[..end],
        };
    }
    args.extend(["--".into(), snapshot_id(&spec.snapshot)?.into(), folder.into()]);
    Ok(args)
}

/// The folder that an order lists, without a slash at its end; empty where it lists none.
pub(crate) fn listed_folder(order: &CommandRun) -> &str {
    match &order.operation {
        Some(Operation::Ls(spec)) => match spec.path.trim_end_matches('/') {
            "" if !spec.path.is_empty() => "/",
            path => path,
        },
        _ => "",
    }
}

pub(super) fn find(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let Some(Operation::Find(spec)) = &order.operation else {
        return refuse("the order does not say what to look for; enter a name and run it again");
    };
    if spec.pattern.trim().is_empty() {
        return refuse("there is nothing to look for: enter a name or a pattern such as *.conf");
    }
    let mut args = words(&["find", "--json", "--no-lock"]);
    if spec.ignore_case {
        args.push("--ignore-case".into());
    }
    args.extend(selection(&spec.of)?);
    for id in &spec.snapshots {
        args.push(format!("--snapshot={}", snapshot_id(id)?).into());
    }
    args.extend(["--".into(), spec.pattern.as_str().into()]);
    Ok(args)
}

pub(super) fn diff(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let Some(Operation::Diff(spec)) = &order.operation else {
        return refuse("the order does not say which snapshots to compare; choose two and run it again");
    };
    let mut args = words(&["diff", "--json", "--no-lock"]);
    if spec.metadata {
        args.push("--metadata".into());
    }
    args.extend(["--".into(), snapshot_id(&spec.a)?.into(), snapshot_id(&spec.b)?.into()]);
    Ok(args)
}

pub(super) fn stats(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let spec = match &order.operation {
        None => &flotilla_proto::StatsSpec::default(),
        Some(Operation::Stats(spec)) => spec,
        Some(_) => return refuse("the order's details are not those of a count; run it again"),
    };
    let mut args = words(&["stats", "--json", "--no-lock"]);
    args.push(format!("--mode={}", mode_word(spec.mode)).into());
    match &spec.snapshot {
        // With an id restic does not look at the selection.
        Some(id) => args.extend(["--".into(), snapshot_id(id)?.into()]),
        None => args.extend(selection(&spec.of)?),
    }
    Ok(args)
}

/// restic's word for a way of counting.
pub(crate) fn mode_word(mode: StatsMode) -> &'static str {
    match mode {
        StatsMode::RawData => "raw-data",
        StatsMode::RestoreSize => "restore-size",
        StatsMode::FilesByContents => "files-by-contents",
        StatsMode::BlobsPerFile => "blobs-per-file",
    }
}

pub(super) fn check(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let mut args = words(&["check", "--json"]);
    match &order.operation {
        None => {}
        Some(Operation::Check(spec)) => match &spec.read_data_subset {
            _ if spec.read_data => args.push("--read-data".into()),
            Some(share) => args.push(format!("--read-data-subset={share}").into()),
            None => {}
        },
        Some(_) => return refuse("the order's details are not those of a check; run it again"),
    }
    Ok(args)
}

/// The snapshots that an operation is about, as flags.
pub(super) fn selection(of: &Selection) -> Result<Vec<OsString>, OrderError> {
    if let Some(tag) = of.tags.iter().find(|tag| tag.trim().is_empty() || tag.contains(',')) {
        return refuse(format!("the tag {tag:?} is empty or holds a comma; choose another"));
    }
    let flags = |name: &'static str, values: &[String]| -> Vec<OsString> {
        values.iter().map(|value| format!("--{name}={value}").into()).collect()
    };
    Ok([flags("host", &of.hosts), flags("tag", &of.tags), flags("path", &of.paths)].concat())
}

/// What an order sends through to a browser.
pub(crate) fn dumped(order: &CommandRun) -> Result<&DumpSpec, OrderError> {
    let Some(Operation::Dump(spec)) = &order.operation else {
        return refuse("the order does not say what to download; choose a file or a folder and run it again");
    };
    if !spec.paths.is_empty() && spec.form != DumpForm::Tar {
        return refuse(
            "several files and folders are sent as tar: restic packs each by itself, and only tars can be joined. Choose tar",
        );
    }
    if spec.paths.len() > DumpSpec::MOST_PATHS {
        let most = DumpSpec::MOST_PATHS;
        return refuse(format!(
            "more than {most} paths are to be sent as one archive; pick the folders that they lie in"
        ));
    }
    for path in spec.picks() {
        if !path.starts_with('/') {
            return refuse(format!("{path:?} is not a path inside a snapshot; those begin with /"));
        }
        if path.contains(char::REPLACEMENT_CHARACTER) {
            return refuse(format!(
                "the name of {path} holds bytes that are no UTF-8, which a download can't ask restic for: restore it instead, or download the folder that it is in"
            ));
        }
    }
    Ok(spec)
}

/// The path without a slash at its end.
pub(crate) fn dumped_path(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// What tells whether the paths are there, and what they are.
pub(super) fn look_at_dumped(spec: &DumpSpec) -> Result<Vec<OsString>, OrderError> {
    let mut args = words(&["ls", "--json", "--no-lock", "--"]);
    args.push(snapshot_id(&spec.snapshot)?.into());
    args.extend(spec.picks().iter().map(|path| dumped_path(path).into()));
    Ok(args)
}

/// Sends one of the paths.
pub(super) fn dump(spec: &DumpSpec, path: &str, form: DumpForm) -> Result<Vec<OsString>, OrderError> {
    let mut args = words(&["dump", "--no-lock"]);
    match form {
        DumpForm::File => {}
        DumpForm::Tar => args.push("--archive=tar".into()),
        DumpForm::Zip => args.push("--archive=zip".into()),
    }
    args.extend(["--".into(), snapshot_id(&spec.snapshot)?.into(), dumped_path(path).into()]);
    Ok(args)
}
