//! Whether a script is one that only this user, or root, can have put there: a server may have it run.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::process::getuid;

/// What speaks against running a script of this folder; `None` where nothing does.
pub(crate) fn not_ours_alone(folder: &Path, script: &Path) -> Option<String> {
    let (about_folder, about_script) = match (fs::symlink_metadata(folder), fs::symlink_metadata(script)) {
        (Ok(folder), Ok(script)) => (folder, script),
        (Err(e), _) | (_, Err(e)) => return Some(e.to_string()),
    };
    if !about_folder.is_dir() {
        return Some(format!("its folder {} is a link or a file", folder.display()));
    }
    if !about_script.is_file() {
        return Some("it is no regular file".to_owned());
    }
    let me = getuid().as_raw();
    for (about, what) in [(&about_folder, "its folder"), (&about_script, "it")] {
        if about.uid() != 0 && about.uid() != me {
            return Some(format!("{what} belongs to neither root nor the agent's user"));
        }
        if about.permissions().mode() & 0o022 != 0 {
            let verb = if what == "it" { "others may write to it" } else { "others may write to its folder" };
            return Some(verb.to_owned());
        }
    }
    (about_script.permissions().mode() & 0o111 == 0).then(|| "it may not be run (no `x` in its mode)".to_owned())
}
