//! A test that runs itself once more where it may do what an ordinary process may not: in user and mount namespaces of its own, or with fewer rights than
//! root has. Where the system allows no such thing, it says so and the test is left out.

#![cfg(test)]

use std::{path::PathBuf, process::Command};

const INSIDE: &str = "FLOTILLA_TEST_INSIDE";

/// The folder of the inner run, for its test to go on there; `None` in the outer one, whose inner run is over by then and went well. `prepare` is a line for the
/// shell in that folder; what it ends with starts the test: `… && exec`.
pub(crate) fn again(test: &str, prepare: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return Some(folder.into());
    }
    let possible = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("no user and mount namespaces here: {test} is left out");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!(r#"cd "${INSIDE}" && {prepare} "$0" --exact {test} --nocapture"#);
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]).arg(std::env::current_exe().unwrap()).env(INSIDE, folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    None
}
