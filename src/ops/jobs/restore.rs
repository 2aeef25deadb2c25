//! What a restore may do. Writing over the original files needs the host's name as confirmation, by whatever spelling of `/` it is asked for.

use crate::{
    domain::{RestoreSpec, host::Host, snapshot::check_folder},
    ops::{
        error::{OpError, Problems},
        jobs::JobRequest,
        plans::check_path,
    },
};

/// The original place, as the agent is told.
const IN_PLACE: &str = "/";

/// The details of a restore; what is wrong is noted.
pub(super) fn spec(problems: &mut Problems, host: &Host, request: JobRequest) -> Option<RestoreSpec> {
    let snapshot = match request.snapshot {
        Some(text) => problems.take("snapshot", check_snapshot(&text)),
        None => {
            problems.add("snapshot", "is missing: give a snapshot's id, or latest");
            None
        }
    };
    let mut paths = Vec::new();
    for (i, path) in request.paths.unwrap_or_default().iter().enumerate() {
        paths.extend(problems.take(&format!("paths[{i}]"), check_folder(path)));
    }
    let dry_run = request.dry_run.unwrap_or(false);
    let source_host = request.source_host.and_then(|name| {
        let name = name.trim().to_owned();
        let fits = (1..=255).contains(&name.len()) && !name.chars().any(char::is_control);
        problems.take("source_host", if fits { Ok(name) } else { Err("must be a host's name of 1 to 255 bytes") })
    });
    let target = if request.in_place.unwrap_or(false) {
        // A dry run overwrites nothing, so that there is nothing to confirm.
        let confirm = if dry_run { Some(host.name.as_str()) } else { request.confirm.as_deref() };
        in_place(problems, host, request.target.as_deref(), confirm)
    } else {
        beside(problems, request.target.as_deref())
    };
    Some(RestoreSpec {
        snapshot: snapshot?,
        paths,
        target: target?,
        overwrite: request.overwrite.unwrap_or_default(),
        dry_run,
        source_host,
    })
}

fn check_snapshot(text: &str) -> Result<String, String> {
    if text.trim().eq_ignore_ascii_case("latest") {
        return Ok("latest".to_owned());
    }
    check_id(text).map_err(|_| "must be latest or a snapshot's id: 4 to 64 hexadecimal digits".to_owned())
}

/// A snapshot's id, whole or its beginning.
pub(super) fn check_id(text: &str) -> Result<String, String> {
    let id = text.trim().to_ascii_lowercase();
    if (4..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(id);
    }
    Err("must be a snapshot's id: 4 to 64 hexadecimal digits".to_owned())
}

fn in_place(problems: &mut Problems, host: &Host, target: Option<&str>, confirm: Option<&str>) -> Option<String> {
    if target.is_some_and(|target| !is_root(target)) {
        problems.add("target", "can't go with in_place: files go back to where they were");
    }
    match confirm {
        Some(name) if name == host.name => return Some(IN_PLACE.to_owned()),
        Some(_) => problems.add("confirm", format!("must be the host's name: {}", host.name)),
        None => problems.add(
            "confirm",
            format!("is missing: files of {0} will be overwritten; give the host's name ({0}) to confirm", host.name),
        ),
    }
    None
}

fn beside(problems: &mut Problems, target: Option<&str>) -> Option<String> {
    let Some(target) = target else {
        problems.add("target", "is missing: name a folder to restore into, or set in_place and confirm");
        return None;
    };
    let target = problems.take("target", check_path(target))?;
    if target.split(['/', '\\']).any(|part| part == "..") {
        problems.add("target", "must not hold ..");
        return None;
    }
    if is_root(&target) {
        problems.add("target", "is the original place: set in_place and confirm for that, or name another folder");
        return None;
    }
    Some(target)
}

/// Whether a target is the root of a file system, however it is spelt.
fn is_root(target: &str) -> bool {
    let bytes = target.as_bytes();
    let rest = match bytes {
        [drive, b':', rest @ ..] if drive.is_ascii_alphabetic() => rest,
        _ => bytes,
    };
    rest.split(|b| matches!(b, b'/' | b'\\')).all(|part| part.is_empty() || part == b".")
}

/// Refuses to repeat a restore over the original files.
///
/// # Errors
/// [`OpError::Invalid`]: that has to be confirmed each time.
pub(super) fn refuse_in_place(spec: &RestoreSpec) -> Result<(), OpError> {
    if is_root(&spec.target) && !spec.dry_run {
        return Err(OpError::field(
            "confirm",
            "is missing: a restore over the original files is confirmed each time; order it anew from the host's page",
        ));
    }
    Ok(())
}
