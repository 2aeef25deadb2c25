//! From here to the host.

use std::{io, path::Path, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use russh_sftp::protocol::OpenFlags;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    time::timeout,
};

use super::{
    Meter, Progress, Sftp, Side, TransferError, TransferOptions, Transferred, digest, partial_name,
    sftp::{IN_FLIGHT, PIECE},
};
use crate::ssh::{
    Ssh, SshError, Stage,
    script::{check_mark, check_path},
};

/// Read from disk at once.
const BLOCK: usize = 8 * PIECE;
/// How long the removal of a partial file may take.
const TIDY: Duration = Duration::from_secs(15);

/// A file here, opened.
struct Source<'a> {
    path: &'a Path,
    file: File,
    /// Of what was read.
    hash: Sha256,
    total: u64,
    mode: u32,
}

/// Where it goes.
struct Goal {
    target: String,
    partial: String,
    folder: String,
}

impl Goal {
    fn of(remote: &str, id: &str) -> Self {
        // A relative path is relative to the user's home in any case.
        let target = remote.strip_prefix("~/").unwrap_or(remote).to_owned();
        let name = partial_name(&target, id);
        let (folder, partial) = match target.rsplit_once('/') {
            Some(("", _)) => ("/".to_owned(), format!("/{name}")),
            Some((folder, _)) => (folder.to_owned(), format!("{folder}/{name}")),
            None => (".".to_owned(), name),
        };
        Self { target, partial, folder }
    }
}

impl Ssh {
    /// Brings a file to the host. `remote` is the name of the new file, below the user's home where it is relative; a file that is there is replaced.
    ///
    /// Dropped in its midst it leaves the partial file; another upload with the same id removes it or goes on with it.
    ///
    /// # Errors
    /// See [`TransferError`]; the target is as it was.
    pub async fn upload(
        &self,
        local: &Path,
        remote: &str,
        options: TransferOptions<'_>,
    ) -> Result<Transferred, TransferError> {
        check_mark(&options.id)?;
        check_path(remote)?;
        let TransferOptions { id, resume, mode, progress } = options;
        let source = open(local, mode).await?;
        let goal = Goal::of(remote, &id);
        let mut meter = Meter::new(progress, source.total);
        match self.send(source, &goal, &id, resume, &mut meter).await {
            Ok(done) => Ok(done),
            Err(error) => Err(self.after(error, &goal, resume, meter.progress).await),
        }
    }

    async fn send(
        &self,
        mut source: Source<'_>,
        goal: &Goal,
        id: &str,
        resume: bool,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Transferred, TransferError> {
        let sftp = Sftp::open(self).await?;
        if sftp.look(&goal.target).await?.is_some_and(|attrs| attrs.is_dir()) {
            return Err(TransferError::NotAFile { side: Side::Host, path: goal.target.clone(), what: "a folder" });
        }
        let from = self.resume_at(&sftp, &mut source, goal, id, resume).await?;
        meter.progress.done = from;
        if let Some(free) = sftp.free(&goal.folder).await
            && free < source.total - from
        {
            return Err(full(goal, source.total - from, free));
        }
        let mut flags = OpenFlags::WRITE;
        if from == 0 {
            // It was removed; what somebody else puts there meanwhile is not written through.
            flags = flags | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        }
        let handle = sftp.open_file(&goal.partial, flags, 0o600).await.map_err(|error| error.named(&goal.target))?;
        meter.at(from);
        pour(&sftp, &handle, &mut source, goal, from, meter).await?;
        let synced = sftp.seal(&goal.partial, &handle, source.mode).await?;
        let here = digest(source.hash);
        let there = self.digest_there(&sftp, &goal.partial, source.total, id).await?;
        let size = sftp.look_at_itself(&goal.partial).await?.map(|attrs| attrs.len());
        if here != there || size != Some(source.total) {
            return Err(TransferError::Damaged { path: source.path.display().to_string(), here, there });
        }
        sftp.rename(&goal.partial, &goal.target).await?;
        meter.progress.done = source.total;
        meter.tell();
        Ok(Transferred { bytes: source.total, resumed_from: from, sha256: here, synced })
    }

    /// How much of the file is there already; the source stands there. Nothing is there where that is 0.
    async fn resume_at(
        &self,
        sftp: &Sftp,
        source: &mut Source<'_>,
        goal: &Goal,
        id: &str,
        resume: bool,
    ) -> Result<u64, TransferError> {
        let Some(attrs) = sftp.look_at_itself(&goal.partial).await? else { return Ok(0) };
        let there = attrs.len();
        if resume && attrs.file_type().is_file() && (1..=source.total).contains(&there) {
            prefix(source, there).await?;
            if self.digest_there(sftp, &goal.partial, there, id).await? == digest(source.hash.clone()) {
                return Ok(there);
            }
        }
        sftp.remove(&goal.partial).await?;
        source.file.rewind().await.map_err(|error| TransferError::here(source.path, "reading", &error))?;
        source.hash = Sha256::new();
        Ok(0)
    }

    /// Removes what is of no use, and says what became of the rest.
    async fn after(
        &self,
        error: TransferError,
        goal: &Goal,
        resume: bool,
        Progress { done, total }: Progress,
    ) -> TransferError {
        let keep = resume && error.is_resumable();
        // Where the host could not be reached to begin with nothing was made, and nobody is there to ask.
        let began = match &error {
            TransferError::Ssh(error) => {
                matches!(error, SshError::Dropped { .. } | SshError::TimedOut { stage: Stage::Transfer, .. })
            }
            TransferError::NoSftp { .. } => false,
            _ => true,
        };
        let tidy = async { Sftp::open(self).await.ok()?.remove(&goal.partial).await.ok() };
        let removed = !keep && began && matches!(timeout(TIDY, tidy).await, Ok(Some(())));
        match error {
            TransferError::Ssh(source) if done > 0 => {
                let rest = if keep {
                    format!("It stays on the host as {}; the same transfer goes on from there", goal.partial)
                } else if removed {
                    "The partial file was removed".to_owned()
                } else {
                    format!("The partial file {} may still be on the host; remove it there", goal.partial)
                };
                TransferError::Cut { source, done, total, rest }
            }
            other => other,
        }
    }
}

impl TransferError {
    /// The same of the file that a person knows.
    fn named(mut self, target: &str) -> Self {
        if let Self::NoSuchFile { path, .. } | Self::Denied { path, .. } | Self::Failed { path, .. } = &mut self {
            target.clone_into(path);
        }
        self
    }
}

fn full(goal: &Goal, needed: u64, free: u64) -> TransferError {
    TransferError::DiskFull { side: Side::Host, path: goal.target.clone(), needed, free }
}

async fn open(path: &Path, mode: Option<u32>) -> Result<Source<'_>, TransferError> {
    let failed = |error: io::Error| TransferError::here(path, "opening", &error);
    // Opening a pipe would wait for its other end.
    let metadata = tokio::fs::metadata(path).await.map_err(failed)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "no regular file" };
        return Err(TransferError::NotAFile { side: Side::Here, path: path.display().to_string(), what });
    }
    let file = File::open(path).await.map_err(failed)?;
    Ok(Source {
        path,
        file,
        hash: Sha256::new(),
        total: metadata.len(),
        mode: mode.unwrap_or_else(|| permissions(&metadata)),
    })
}

#[cfg(unix)]
fn permissions(metadata: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn permissions(_: &std::fs::Metadata) -> u32 {
    0o600
}

/// Reads the first bytes for their hash.
async fn prefix(source: &mut Source<'_>, length: u64) -> Result<(), TransferError> {
    let mut block = vec![0; BLOCK];
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        read(source, &mut block[..size]).await?;
        left -= size as u64;
    }
    Ok(())
}

async fn read(source: &mut Source<'_>, block: &mut [u8]) -> Result<(), TransferError> {
    match source.file.read_exact(block).await {
        Ok(_) => {
            source.hash.update(block);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(TransferError::Failed {
            side: Side::Here,
            path: source.path.display().to_string(),
            what: "reading",
            why: "it became shorter meanwhile".into(),
        }),
        Err(error) => Err(TransferError::here(source.path, "reading", &error)),
    }
}

/// Writes all from `from` on, many requests under way.
async fn pour(
    sftp: &Sftp,
    handle: &str,
    source: &mut Source<'_>,
    goal: &Goal,
    from: u64,
    meter: &mut Meter<'_, '_>,
) -> Result<(), TransferError> {
    let mut flight = FuturesUnordered::new();
    let mut block = vec![0; BLOCK];
    let (mut offset, mut done) = (from, from);
    while offset < source.total || !flight.is_empty() {
        if offset < source.total && flight.len() + BLOCK / PIECE <= IN_FLIGHT {
            let size = usize::try_from(source.total - offset).map_or(BLOCK, |left| left.min(BLOCK));
            read(source, &mut block[..size]).await?;
            for piece in block[..size].chunks(PIECE) {
                let (at, length) = (offset, piece.len() as u64);
                let write = sftp.raw.write(handle, at, piece.to_vec());
                flight.push(async move { write.await.map(|_| length) });
                offset += length;
            }
        } else if let Some(written) = flight.next().await {
            match written {
                Ok(length) => done += length,
                Err(error) => {
                    return Err(
                        no_room(sftp, goal, source.total - done, sftp.failed(&goal.target, "writing", &error)).await
                    );
                }
            }
            meter.at(done);
        }
    }
    Ok(())
}

/// sftp has no code for a full disk: where a write failed without a reason and there is hardly any room, that is it.
async fn no_room(sftp: &Sftp, goal: &Goal, needed: u64, error: TransferError) -> TransferError {
    const HARDLY: u64 = 64 * 1024;
    match error {
        TransferError::Failed { .. } if !sftp.is_closed() => match sftp.free(&goal.folder).await {
            Some(free) if free < needed.max(HARDLY) => full(goal, needed, free),
            _ => error,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partial_file_stands_beside_its_target() {
        for (remote, folder, start) in [
            ("/srv/a", "/srv", "/srv/.flotilla-x-"),
            ("/a", "/", "/.flotilla-x-"),
            ("~/a", ".", ".flotilla-x-"),
            ("b/a", "b", "b/.flotilla-x-"),
        ] {
            let goal = Goal::of(remote, "x");
            assert!(
                goal.folder == folder && goal.partial.starts_with(start),
                "{remote}: {} {}",
                goal.folder,
                goal.partial
            );
        }
    }
}
