//! A repository as `restic init` leaves it, empty, with one difference: its password costs nothing to try. restic makes keys so that each opening takes half a second of
//! a core, which is right for a thief and tells a test nothing. That a repository is created is tested where it is what the test is about.

use std::{fs, path::Path};

/// What it opens with.
pub(crate) const PASSWORD: &str = "planted-repo pw\"%/1";

/// Made by restic 0.14; all newer ones read it.
const CONFIG: &[u8] = include_bytes!("../fixtures/ready/config");
/// The key file of `restic init`, sealed anew with scrypt's least work (N = 2, r = 1, p = 1) instead of what the machine can do in half a second.
const KEY: &[u8] =
    include_bytes!("../fixtures/ready/keys/9847811121629e1dfc2e1ea9f2e5207c122010a4c299555558067763f06de8a2");
/// restic checks that a file is what its name says.
const KEY_NAME: &str = "9847811121629e1dfc2e1ea9f2e5207c122010a4c299555558067763f06de8a2";

/// Lays it out in `folder`; one that is there already stays as it is.
#[expect(clippy::unwrap_used, reason = "test support: a failed step is a failed test")]
pub(crate) fn lay_out(folder: &Path) {
    if folder.exists() {
        return;
    }
    for name in ["keys", "locks", "index", "snapshots"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    for first in 0..=u8::MAX {
        fs::create_dir_all(folder.join(format!("data/{first:02x}"))).unwrap();
    }
    fs::write(folder.join("keys").join(KEY_NAME), KEY).unwrap();
    fs::write(folder.join("config"), CONFIG).unwrap();
}
