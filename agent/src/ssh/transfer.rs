//! Files to and from a host, by sftp: to a temporary name beside the target, compared by SHA-256 on both sides, then renamed into place. Whoever looks at the target
//! sees the old file or the whole new one.
//!
//! A transfer that was cut leaves its partial file where it may be resumed, and the next one with the same id goes on from there, after comparing what is there.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    Ssh,
    error::SshError,
    exec::{End, Exec},
    target::Endpoint,
};
use crate::text;

mod download;
mod sftp;
mod upload;

use sftp::Sftp;

/// How a file goes over.
#[derive(Default)]
pub struct TransferOptions<'a> {
    /// Names the transfer: the same again goes on with what it left. 1 to 64 letters, digits, dashes and underscores, which no other transfer has.
    pub id: String,
    /// Whether a partial file is kept when the transfer is cut, and gone on with.
    pub resume: bool,
    /// Permission bits of the new file; those of the source where `None`.
    pub mode: Option<u32>,
    /// Told at the beginning, at most once a second, and at the end.
    pub progress: Option<&'a mut (dyn FnMut(Progress) + Send)>,
}

impl std::fmt::Debug for TransferOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TransferOptions({}, resume: {}, mode: {:?})", self.id, self.resume, self.mode)
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many of them an earlier try had brought.
    pub resumed_from: u64,
    /// In lower-case hexadecimal; the same on both sides.
    pub sha256: String,
    /// Whether the file is known to be on disk: the server may not have the extension for it.
    pub synced: bool,
}

/// Which of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The machine that connects.
    Here,
    /// The host.
    Host,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Here => "the machine that runs the transfer",
            Self::Host => "the host",
        })
    }
}

/// Why a file did not go over. The target is as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransferError {
    /// No connection to begin with, or a wrong order.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The server transfers no files.
    #[error("{at} has no sftp: {why}. Check the line \"Subsystem sftp\" in its sshd_config")]
    NoSftp {
        /// Which host.
        at: Arc<Endpoint>,
        /// What happened.
        why: String,
    },
    /// It is not there.
    #[error("{path} does not exist on {side}. Check the path; the folder that a file goes to must be there before")]
    NoSuchFile {
        /// Where.
        side: Side,
        /// What.
        path: String,
    },
    /// Not for this user.
    #[error(
        "permission denied for {path} on {side}. The user of this end must be allowed to read the file, or to write to its folder"
    )]
    Denied {
        /// Where.
        side: Side,
        /// What.
        path: String,
    },
    /// A folder, a device …
    #[error("{path} on {side} is {what}; name a regular file")]
    NotAFile {
        /// Where.
        side: Side,
        /// What.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// No room.
    #[error("the disk of {path} on {side} is full: {} more are needed, {} are free. Make room and try again; the partial file was removed", text::size(*.needed), text::size(*.free))]
    DiskFull {
        /// Where.
        side: Side,
        /// What was written.
        path: String,
        /// Bytes that were still to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Not the same on both sides.
    #[error(
        "what arrived of {path} is not what was read: SHA-256 {here} here, {there} on the host. The file changed meanwhile, or a disk or memory is failing. The partial file was removed; try again"
    )]
    Damaged {
        /// What.
        path: String,
        /// Here.
        here: String,
        /// On the host.
        there: String,
    },
    /// The connection is gone.
    #[error("{source}; {} of {} had gone over. {rest}", text::size(*.done), text::size(*.total))]
    Cut {
        /// How.
        source: SshError,
        /// Bytes that were there.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// What became of them.
        rest: String,
    },
    /// Something else.
    #[error("{path} on {side}: {what} failed: {why}")]
    Failed {
        /// Where.
        side: Side,
        /// What.
        path: String,
        /// During what.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl TransferError {
    /// An error of the local file system.
    fn here(path: &std::path::Path, what: &'static str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let (side, path) = (Side::Here, path.display().to_string());
        match error.kind() {
            ErrorKind::NotFound => Self::NoSuchFile { side, path },
            ErrorKind::PermissionDenied => Self::Denied { side, path },
            ErrorKind::IsADirectory => Self::NotAFile { side, path, what: "a folder" },
            _ => Self::Failed { side, path, what, why: error.to_string() },
        }
    }

    /// Whether the partial file may still be of use.
    fn is_resumable(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Ssh(_))
    }
}

/// Whether the host transfers files.
pub(super) async fn try_sftp(ssh: &Ssh) -> Result<(), TransferError> {
    Sftp::open(ssh).await.map(|_| ())
}

/// Tells of progress, not too often.
struct Meter<'a, 'b> {
    tell: Option<&'a mut (dyn FnMut(Progress) + Send + 'b)>,
    progress: Progress,
    told: Option<Instant>,
}

impl<'a> Meter<'a, 'a> {
    fn new(tell: Option<&'a mut (dyn FnMut(Progress) + Send)>, total: u64) -> Self {
        Self { tell, progress: Progress { done: 0, total }, told: None }
    }
}

impl Meter<'_, '_> {
    fn at(&mut self, done: u64) {
        const INTERVAL: Duration = Duration::from_secs(1);
        self.progress.done = done;
        if self.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = Some(Instant::now());
        if let Some(tell) = &mut self.tell {
            tell(self.progress);
        }
    }
}

/// The temporary name beside `target`, `/` or the platform's separator before its last part.
fn partial_name(target: &str, id: &str) -> String {
    let digest = hex(Sha256::digest(target).as_slice());
    format!(".flotilla-{id}-{}.part", &digest[..8])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(hash: Sha256) -> String {
    hex(hash.finalize().as_slice())
}

impl Ssh {
    /// The SHA-256 of the first `length` bytes of a file on the host: by its own `sha256sum`, and by reading it over the network where it has none.
    async fn digest_there(&self, sftp: &Sftp, path: &str, length: u64, id: &str) -> Result<String, TransferError> {
        match self.sum_there(path, length, id).await? {
            Some(sum) => Ok(sum),
            None => sftp.digest(path, length).await,
        }
    }

    async fn sum_there(&self, path: &str, length: u64, id: &str) -> Result<Option<String>, TransferError> {
        const DIGITS: usize = 64;
        let exec = Exec {
            script: r#"head -c "$FLOTILLA_LENGTH" <"$FLOTILLA_PATH" | LC_ALL=C sha256sum"#.to_owned(),
            env: vec![
                ("FLOTILLA_LENGTH".to_owned(), length.to_string().as_str().into()),
                ("FLOTILLA_PATH".to_owned(), path.into()),
            ],
            stdin: None,
            mark: id.to_owned(),
        };
        let mut running = match self.exec(exec).await {
            Ok(running) => running,
            // An account for file transfers only.
            Err(SshError::NoBash { .. } | SshError::ChannelRefused { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut sum = None;
        while let Some(line) = running.line().await {
            let word = line.text.split_whitespace().next().unwrap_or_default();
            if word.len() == DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                sum = Some(word.to_ascii_lowercase());
            }
        }
        match running.wait().await {
            End::Exited { code: 0, .. } => Ok(sum),
            End::Exited { .. } | End::Signalled { .. } => Ok(None),
            End::Unknown(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_targets_of_one_transfer_have_two_temporary_names() {
        let name = partial_name("/srv/a", "01ABC");
        assert!(name.starts_with(".flotilla-01ABC-") && name.ends_with(".part"), "{name}");
        assert_ne!(name, partial_name("/srv/b", "01ABC"));
        assert_eq!(name, partial_name("/srv/a", "01ABC"));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_at_first_and_then_at_most_once_a_second() {
        let mut told = Vec::new();
        let mut tell = |progress: Progress| told.push(progress.done);
        let mut meter = Meter::new(Some(&mut tell), 100);
        for done in 0..40 {
            meter.at(done);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        meter.tell();
        assert_eq!(told, [0, 10, 20, 30, 39]);
    }
}
