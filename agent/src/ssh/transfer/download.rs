//! From the host to here.

use std::{
    io,
    path::{Path, PathBuf},
};

use russh_sftp::protocol::OpenFlags;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use super::{
    Meter, Progress, Sftp, Side, TransferError, TransferOptions, Transferred, digest, partial_name, sftp::Fetch,
};
use crate::ssh::{
    Ssh,
    script::{check_mark, check_path},
};

/// Read from disk at once.
const BLOCK: usize = 256 * 1024;
const PERMISSIONS: u32 = 0o777;

/// Where it goes.
struct Goal<'a> {
    target: &'a Path,
    folder: PathBuf,
    partial: PathBuf,
}

impl Ssh {
    /// Brings a file from the host. `local` is the name of the new file; one that is there is replaced.
    ///
    /// Dropped in its midst it leaves the partial file; another download with the same id removes it or goes on with it.
    ///
    /// # Errors
    /// See [`TransferError`]; the target is as it was.
    pub async fn download(
        &self,
        remote: &str,
        local: &Path,
        options: TransferOptions<'_>,
    ) -> Result<Transferred, TransferError> {
        check_mark(&options.id)?;
        check_path(remote)?;
        let TransferOptions { id, resume, mode, progress } = options;
        let remote = remote.strip_prefix("~/").unwrap_or(remote);
        let folder = match local.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let partial = folder.join(partial_name(&local.to_string_lossy(), &id));
        let goal = Goal { target: local, folder, partial };
        let mut meter = Meter::new(progress, 0);
        match self.fetch(remote, &goal, (&id, resume, mode), &mut meter).await {
            Ok(done) => Ok(done),
            Err(error) => Err(after(error, &goal, resume, meter.progress).await),
        }
    }

    async fn fetch(
        &self,
        remote: &str,
        goal: &Goal<'_>,
        (id, resume, mode): (&str, bool, Option<u32>),
        meter: &mut Meter<'_, '_>,
    ) -> Result<Transferred, TransferError> {
        if fs::metadata(goal.target).await.is_ok_and(|metadata| metadata.is_dir()) {
            let path = goal.target.display().to_string();
            return Err(TransferError::NotAFile { side: Side::Here, path, what: "a folder" });
        }
        let sftp = Sftp::open(self).await?;
        let Some(attrs) = sftp.look(remote).await? else {
            return Err(TransferError::NoSuchFile { side: Side::Host, path: remote.to_owned() });
        };
        if !attrs.file_type().is_file() {
            let what = if attrs.is_dir() { "a folder" } else { "no regular file" };
            return Err(TransferError::NotAFile { side: Side::Host, path: remote.to_owned(), what });
        }
        let total = attrs.len();
        meter.progress.total = total;
        let handle = sftp.open_file(remote, OpenFlags::READ, 0o600).await?;
        let (mut file, from, mut hash) = self.resume_from(&sftp, remote, goal, id, (resume, total)).await?;
        meter.progress.done = from;
        if let Some(free) = free(&goal.folder)
            && free < total - from
        {
            return Err(full(goal, total - from, free));
        }
        meter.at(from);
        let mut done = from;
        let mut fetch = Fetch::new(&sftp, &handle, remote, from, total);
        while let Some(piece) = fetch.next().await? {
            hash.update(&piece);
            file.write_all(&piece).await.map_err(|error| unwritten(goal, total - done, &error))?;
            done += piece.len() as u64;
            meter.at(done);
        }
        drop(fetch);
        // Its writes are only known to have worked after this.
        file.flush().await.map_err(|error| unwritten(goal, total - from, &error))?;
        set_mode(&file, mode.unwrap_or_else(|| attrs.permissions.unwrap_or(0o600)) & PERMISSIONS)
            .await
            .map_err(|error| TransferError::here(goal.target, "setting the mode", &error))?;
        file.sync_all().await.map_err(|error| unwritten(goal, total - from, &error))?;
        drop(file);
        let here = digest(hash);
        let there = self.digest_there(&sftp, remote, total, id).await?;
        if here != there {
            return Err(TransferError::Damaged { path: remote.to_owned(), here, there });
        }
        fs::rename(&goal.partial, goal.target)
            .await
            .map_err(|error| TransferError::here(goal.target, "renaming", &error))?;
        sync_folder(&goal.folder).await.map_err(|error| TransferError::here(&goal.folder, "syncing", &error))?;
        meter.progress.done = total;
        meter.tell();
        Ok(Transferred { bytes: total, resumed_from: from, sha256: here, synced: true })
    }

    /// The partial file, where it goes on, and the hash up to there.
    async fn resume_from(
        &self,
        sftp: &Sftp,
        remote: &str,
        goal: &Goal<'_>,
        id: &str,
        (resume, total): (bool, u64),
    ) -> Result<(File, u64, Sha256), TransferError> {
        let failed = |error: io::Error| TransferError::here(goal.target, "writing beside it", &error);
        match fs::symlink_metadata(&goal.partial).await {
            Ok(metadata) if resume && metadata.is_file() && (1..=total).contains(&metadata.len()) => {
                let mut file = OpenOptions::new().read(true).write(true).open(&goal.partial).await.map_err(failed)?;
                let hash = prefix(&mut file, metadata.len()).await.map_err(failed)?;
                if self.digest_there(sftp, remote, metadata.len(), id).await? == digest(hash.clone()) {
                    return Ok((file, metadata.len(), hash));
                }
                fs::remove_file(&goal.partial).await.map_err(failed)?;
            }
            Ok(_) => fs::remove_file(&goal.partial).await.map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let file = create(&goal.partial).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TransferError::here(&goal.folder, "opening", &error),
            _ => failed(error),
        })?;
        Ok((file, 0, Sha256::new()))
    }
}

/// Removes what is of no use, and says what became of the rest.
async fn after(
    error: TransferError,
    goal: &Goal<'_>,
    resume: bool,
    Progress { done, total }: Progress,
) -> TransferError {
    let keep = resume && error.is_resumable();
    if !keep {
        // Often it was never made.
        let _ = fs::remove_file(&goal.partial).await;
    }
    match error {
        TransferError::Ssh(source) if done > 0 => {
            let rest = if keep {
                format!("It stays here as {}; the same transfer goes on from there", goal.partial.display())
            } else {
                "The partial file was removed".to_owned()
            };
            TransferError::Cut { source, done, total, rest }
        }
        other => other,
    }
}

fn full(goal: &Goal<'_>, needed: u64, free: u64) -> TransferError {
    TransferError::DiskFull { side: Side::Here, path: goal.target.display().to_string(), needed, free }
}

fn unwritten(goal: &Goal<'_>, needed: u64, error: &io::Error) -> TransferError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            full(goal, needed, free(&goal.folder).unwrap_or(0))
        }
        _ => TransferError::here(goal.target, "writing", error),
    }
}

async fn prefix(file: &mut File, length: u64) -> io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        file.read_exact(&mut block[..size]).await?;
        hash.update(&block[..size]);
        left -= size as u64;
    }
    Ok(hash)
}

#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let space = crate::blocking::blocking(|| rustix::fs::statvfs(folder)).ok()?;
    (space.f_blocks > 0).then(|| space.f_frsize.saturating_mul(space.f_bavail))
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

async fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path).await
}

#[cfg(unix)]
async fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).await
}

#[cfg(not(unix))]
async fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
async fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder).await?.sync_all().await
}

#[cfg(not(unix))]
async fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
