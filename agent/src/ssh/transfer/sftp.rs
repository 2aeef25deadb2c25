//! The sftp session below a transfer: its requests, with errors that name file and reason, and reading with many requests under way.

use std::{collections::HashMap, pin::Pin, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use russh::ChannelMsg;
use russh_sftp::{
    client::{Config, RawSftpSession, error::Error},
    protocol::{FileAttributes, OpenFlags, Packet, StatusCode},
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{Side, TransferError, digest};
use crate::ssh::{
    Ssh,
    connection::Connection,
    error::{Doing, Stage},
};

/// Bytes of one request; every server takes as many.
pub(super) const PIECE: usize = 32 * 1024;
/// Requests under way at once: 1 MiB, which is also all the memory that they need.
pub(super) const IN_FLIGHT: usize = 32;
/// How long one may take: as many bytes may be before it, on a slow network.
const ANSWER_SECONDS: u64 = 120;

const FSYNC: &str = "fsync@openssh.com";
const STATVFS: &str = "statvfs@openssh.com";
const POSIX_RENAME: &str = "posix-rename@openssh.com";

pub(super) struct Sftp {
    pub(super) raw: RawSftpSession,
    extensions: HashMap<String, String>,
    connection: Arc<Connection>,
}

impl Sftp {
    pub(super) async fn open(ssh: &Ssh) -> Result<Self, TransferError> {
        let limit = ssh.inner.plan.timeouts.open;
        let at = || Arc::clone(&ssh.inner.plan.at);
        let (connection, mut channel) = ssh.session().await?;
        let late = || connection.late(Stage::Session, limit);
        let granted = async {
            channel.request_subsystem(true, "sftp").await.ok()?;
            loop {
                match channel.wait().await? {
                    ChannelMsg::Success => return Some(()),
                    ChannelMsg::Failure | ChannelMsg::Close => return None,
                    _ => {}
                }
            }
        };
        match timeout(limit, granted).await {
            Ok(Some(())) => {}
            Ok(None) if connection.is_closed() => return Err(connection.dropped(Doing::Opening).into()),
            Ok(None) => return Err(TransferError::NoSftp { at: at(), why: "the server refused the subsystem".into() }),
            Err(_) => return Err(late().into()),
        }
        let config = Config { request_timeout_secs: ANSWER_SECONDS, ..Config::default() };
        let raw = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version = match timeout(limit, raw.init()).await {
            Ok(Ok(version)) => version,
            Ok(Err(_)) if connection.is_closed() => return Err(connection.dropped(Doing::Opening).into()),
            Ok(Err(_)) => {
                let why = "what the server started for it does not speak sftp: its program may be missing, or the login shell prints something";
                return Err(TransferError::NoSftp { at: at(), why: why.into() });
            }
            Err(_) => return Err(late().into()),
        };
        Ok(Self { raw, extensions: version.extensions, connection })
    }

    /// What a request's error means.
    pub(super) fn failed(&self, path: &str, what: &'static str, error: &Error) -> TransferError {
        let (side, path) = (Side::Host, path.to_owned());
        match error {
            Error::Status(status) => match status.status_code {
                StatusCode::NoSuchFile => TransferError::NoSuchFile { side, path },
                StatusCode::PermissionDenied => TransferError::Denied { side, path },
                StatusCode::Failure => {
                    TransferError::Failed { side, path, what, why: "the server gives no reason".into() }
                }
                _ => TransferError::Failed { side, path, what, why: error.to_string() },
            },
            Error::Timeout => {
                self.connection.late(Stage::Transfer, std::time::Duration::from_secs(ANSWER_SECONDS)).into()
            }
            _ => self.connection.dropped(Doing::Transfer).into(),
        }
    }

    /// What stands at a path, the target of a link; `None` where nothing does.
    pub(super) async fn look(&self, path: &str) -> Result<Option<FileAttributes>, TransferError> {
        present(self.raw.stat(path).await.map(|attrs| attrs.attrs))
            .map_err(|error| self.failed(path, "looking", &error))
    }

    /// The same without following a link.
    pub(super) async fn look_at_itself(&self, path: &str) -> Result<Option<FileAttributes>, TransferError> {
        present(self.raw.lstat(path).await.map(|attrs| attrs.attrs))
            .map_err(|error| self.failed(path, "looking", &error))
    }

    pub(super) async fn open_file(&self, path: &str, flags: OpenFlags, mode: u32) -> Result<String, TransferError> {
        let attrs = FileAttributes { permissions: Some(mode), ..FileAttributes::empty() };
        match self.raw.open(path, flags, attrs).await {
            Ok(handle) => Ok(handle.handle),
            Err(error) => Err(self.failed(path, "opening", &error)),
        }
    }

    /// Mode and disk; whether it is on disk is returned.
    pub(super) async fn seal(&self, path: &str, handle: &str, mode: u32) -> Result<bool, TransferError> {
        let attrs = FileAttributes { permissions: Some(mode), ..FileAttributes::empty() };
        self.raw.fsetstat(handle, attrs).await.map_err(|error| self.failed(path, "setting the mode", &error))?;
        let synced = self.extensions.contains_key(FSYNC);
        if synced {
            self.raw.fsync(handle).await.map_err(|error| self.failed(path, "syncing", &error))?;
        }
        self.raw.close(handle).await.map_err(|error| self.failed(path, "closing", &error))?;
        Ok(synced)
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), TransferError> {
        match present(self.raw.remove(path).await) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(path, "removing", &error)),
        }
    }

    /// In one step where the server can; else the old file goes first.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<(), TransferError> {
        if self.extensions.contains_key(POSIX_RENAME) {
            let mut data = Vec::new();
            for path in [from, to] {
                // A path over 4 GiB is not sent: the packet is over the server's limit long before.
                data.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes());
                data.extend_from_slice(path.as_bytes());
            }
            return match self.raw.extended(POSIX_RENAME, data).await {
                Ok(Packet::Status(status)) if status.status_code == StatusCode::Ok => Ok(()),
                Ok(Packet::Status(status)) => Err(self.failed(to, "renaming", &Error::Status(status))),
                Ok(_) => Err(self.failed(to, "renaming", &Error::UnexpectedPacket)),
                Err(error) => Err(self.failed(to, "renaming", &error)),
            };
        }
        self.remove(to).await?;
        self.raw.rename(from, to).await.map(|_| ()).map_err(|error| self.failed(to, "renaming", &error))
    }

    /// Bytes free for this user in the folder, where the server tells and the file system has a size.
    pub(super) async fn free(&self, folder: &str) -> Option<u64> {
        if !self.extensions.contains_key(STATVFS) {
            return None;
        }
        let space = self.raw.statvfs(folder).await.ok()?;
        (space.blocks > 0).then(|| space.fragment_size.saturating_mul(space.blocks_avail))
    }

    /// Whether the connection is no more.
    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// The SHA-256 of a file's first bytes, by reading them.
    pub(super) async fn digest(&self, path: &str, length: u64) -> Result<String, TransferError> {
        let handle = self.open_file(path, OpenFlags::READ, 0o600).await?;
        let mut fetch = Fetch::new(self, &handle, path, 0, length);
        let mut hash = Sha256::new();
        while let Some(piece) = fetch.next().await? {
            hash.update(&piece);
        }
        drop(fetch);
        self.raw.close(handle).await.map_err(|error| self.failed(path, "closing", &error))?;
        Ok(digest(hash))
    }
}

/// `None` where there is no such file.
fn present<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => Ok(None),
        Err(error) => Err(error),
    }
}

type Answer = (u64, usize, Result<Vec<u8>, Error>);

/// A file on the host, read in order with many requests under way.
pub(super) struct Fetch<'a> {
    sftp: &'a Sftp,
    handle: &'a str,
    path: &'a str,
    asked: u64,
    total: u64,
    flight: FuturesOrdered<Pin<Box<dyn Future<Output = Answer> + Send + 'a>>>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(sftp: &'a Sftp, handle: &'a str, path: &'a str, from: u64, total: u64) -> Self {
        Self { sftp, handle, path, asked: from, total, flight: FuturesOrdered::new() }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, TransferError> {
        while self.asked < self.total && self.flight.len() < IN_FLIGHT {
            let length = usize::try_from(self.total - self.asked).map_or(PIECE, |left| left.min(PIECE));
            let (offset, sftp, handle) = (self.asked, self.sftp, self.handle);
            self.flight.push_back(Box::pin(async move { (offset, length, read(sftp, handle, offset, length).await) }));
            self.asked += length as u64;
        }
        let Some((offset, length, answer)) = self.flight.next().await else { return Ok(None) };
        let mut piece = answer.map_err(|error| self.ended(&error))?;
        // A server may give less than was asked for.
        while piece.len() < length {
            let at = offset + piece.len() as u64;
            let more =
                read(self.sftp, self.handle, at, length - piece.len()).await.map_err(|error| self.ended(&error))?;
            piece.extend_from_slice(&more);
        }
        Ok(Some(piece))
    }

    fn ended(&self, error: &Error) -> TransferError {
        match error {
            Error::Status(status) if status.status_code == StatusCode::Eof => {
                let why = "it became shorter meanwhile".to_owned();
                TransferError::Failed { side: Side::Host, path: self.path.to_owned(), what: "reading", why }
            }
            error => self.sftp.failed(self.path, "reading", error),
        }
    }
}

async fn read(sftp: &Sftp, handle: &str, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let data = sftp.raw.read(handle, offset, length).await?.data;
    if data.is_empty() { Err(Error::UnexpectedPacket) } else { Ok(data) }
}
