//! Variables that a repository may bring along to restic. Server and agent hold each name against the same words: what could run a program, write a file of its choice
//! or open a port on an endpoint is not among them.

/// Path of the private key on the host, for an SFTP repository; the agent reads it.
pub const SFTP_KEY_FILE: &str = "FLOTILLA_SFTP_KEY_FILE";
/// The SFTP server's host key; the agent reads it.
pub const SFTP_HOST_KEY: &str = "FLOTILLA_SFTP_HOST_KEY";

/// Of rclone's variables those that bound what it does.
const RCLONE: [&str; 9] = [
    "RCLONE_CONFIG",
    "RCLONE_BWLIMIT",
    "RCLONE_CHECKERS",
    "RCLONE_CONTIMEOUT",
    "RCLONE_FAST_LIST",
    "RCLONE_TIMEOUT",
    "RCLONE_TPSLIMIT",
    "RCLONE_TPSLIMIT_BURST",
    "RCLONE_TRANSFERS",
];

/// Whether it is one of rclone's that may be set.
#[must_use]
pub fn is_rclones(name: &str) -> bool {
    RCLONE.contains(&name) || (name.starts_with("RCLONE_CONFIG_") && !runs_a_program(name))
}

/// Whether what reads it takes it for a program's name, or for leave to run one: of a remote, `ssh` and whatever ends in `command`; Google's library runs one if told that it may.
#[must_use]
pub fn runs_a_program(name: &str) -> bool {
    name.ends_with("_COMMAND") || name.ends_with("_SSH") || name.contains("ALLOW_EXECUTABLES")
}

/// Whether it is meant for the agent's ssh, and not for restic.
#[must_use]
pub fn is_for_sftp(name: &str) -> bool {
    [SFTP_KEY_FILE, SFTP_HOST_KEY].contains(&name)
}
