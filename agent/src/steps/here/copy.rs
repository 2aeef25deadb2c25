//! A file written whole or not at all: to a temporary name beside its target, synced, compared, renamed. Whoever looks at the target sees the old file or the new one.

use std::{
    io,
    path::{Path, PathBuf},
};

use flotilla_proto::FailureClass;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use crate::steps::failure::Failure;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// A file that is being made. Dropped before [`Fresh::finish`], it leaves nothing.
pub(in crate::steps) struct Fresh {
    partial: PathBuf,
    target: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
    done: bool,
}

impl Fresh {
    /// Beside `target`, under a name with `id` in it.
    pub(in crate::steps) async fn beside(target: &Path, id: &str) -> Result<Self, Failure> {
        let name = target.file_name().ok_or_else(|| format!("{} names no file", target.display()))?;
        let partial = target.with_file_name(format!(".{}.{id}.part", name.to_string_lossy()));
        // Left by a process that died over it.
        let _ = fs::remove_file(&partial).await;
        let file = File::options().write(true).create_new(true).open(&partial).await;
        let file = file.map_err(|error| explain(target, "write", &error))?;
        Ok(Self { partial, target: target.to_owned(), file, hash: Sha256::new(), bytes: 0, done: false })
    }

    pub(in crate::steps) async fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        self.file.write_all(piece).await.map_err(|error| explain(&self.target, "write", &error))
    }

    /// Puts it in its place; the number of its bytes.
    pub(in crate::steps) async fn finish(mut self, mode: Option<std::fs::Permissions>) -> Result<u64, Failure> {
        let failed = |error: io::Error| explain(&self.target, "write", &error);
        self.file.flush().await.map_err(failed)?;
        if let Some(mode) = mode {
            self.file.set_permissions(mode).await.map_err(failed)?;
        }
        self.file.sync_all().await.map_err(failed)?;
        let written = std::mem::take(&mut self.hash).finalize();
        let (found, _) = digest(&self.partial, &mut |_| {}).await?;
        if found != written[..] {
            return Err(format!(
                "what arrived at {} is not what was sent (SHA-256 differs): the disk or the memory is failing. Nothing was changed; try again",
                self.target.display()
            )
            .into());
        }
        fs::rename(&self.partial, &self.target).await.map_err(failed)?;
        self.done = true;
        Ok(self.bytes)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// SHA-256 and size of a file.
async fn digest(path: &Path, told: &mut (dyn FnMut(u64) + Send)) -> Result<(Vec<u8>, u64), Failure> {
    let failed = |error: io::Error| explain(path, "read", &error);
    let mut file = File::open(path).await.map_err(failed)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = Vec::with_capacity(PIECE);
    while file.read_buf(&mut piece).await.map_err(failed)? > 0 {
        hash.update(&piece);
        bytes += piece.len() as u64;
        piece.clear();
        told(bytes);
    }
    Ok((hash.finalize().to_vec(), bytes))
}

/// Copies a file on this machine, its mode with it. Gives its size.
pub(super) async fn within(
    from: &Path,
    to: &Path,
    id: &str,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<u64, Failure> {
    for path in [from, to] {
        if !path.is_absolute() {
            return Err(format!("{} is no absolute path: write it from the root on", path.display()).into());
        }
    }
    let about = fs::metadata(from).await.map_err(|error| explain(from, "read", &error))?;
    if !about.is_file() {
        return Err(format!("{} is no regular file; name one, or pack a folder first", from.display()).into());
    }
    if let (Ok(from), Ok(same)) = (fs::canonicalize(from).await, fs::canonicalize(to).await)
        && from == same
    {
        return Err(format!("{} would be copied onto itself: name another target", from.display()).into());
    }
    let mut source = File::open(from).await.map_err(|error| explain(from, "read", &error))?;
    let mut fresh = Fresh::beside(to, id).await?;
    let mut piece = Vec::with_capacity(PIECE);
    while source.read_buf(&mut piece).await.map_err(|error| explain(from, "read", &error))? > 0 {
        fresh.write(&piece).await?;
        piece.clear();
        progress(fresh.bytes, about.len().max(fresh.bytes));
    }
    fresh.finish(Some(about.permissions())).await
}

/// An error of the file system in words.
pub(in crate::steps) fn explain(path: &Path, what: &str, error: &io::Error) -> Failure {
    use io::ErrorKind as Kind;
    let path = path.display();
    let class = match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => FailureClass::DiskFull,
        _ => FailureClass::Transfer,
    };
    let why = match error.kind() {
        Kind::NotFound if what == "write" => {
            format!("{path} can't be written: its folder does not exist. Make it in a step before")
        }
        Kind::NotFound => format!("{path} does not exist. Check the path"),
        Kind::PermissionDenied => {
            format!("{path}: permission to {what} it is denied. Look at its rights and its folder's")
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            format!("{path} can't be written: the disk is full. Make room and try again; nothing was changed")
        }
        _ => format!("{path} can't be {}: {error}", if what == "write" { "written" } else { "read" }),
    };
    Failure::new(class, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_is_the_same_file_and_a_refused_one_leaves_nothing() {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        std::fs::write(at("a"), vec![7; 3 << 20]).unwrap();
        let mut told = Vec::new();
        let copied = within(&at("a"), &at("b"), "j1", &mut |done, of| told.push((done, of))).await;
        assert_eq!(copied, Ok(3 << 20));
        assert_eq!(std::fs::read(at("a")).unwrap(), std::fs::read(at("b")).unwrap());
        assert_eq!(told.last(), Some(&(3 << 20, 3 << 20)));
        for (from, to, words) in [
            ("missing", "c", "does not exist"),
            ("a", "no/c", "its folder does not exist"),
            ("a", "a", "onto itself"),
            (".", "c", "no regular file"),
        ] {
            let error = within(&at(from), &at(to), "j1", &mut |_, _| {}).await.unwrap_err();
            assert!(error.why.contains(words), "{error}");
        }
        assert!(within(Path::new("a"), &at("c"), "j1", &mut |_, _| {}).await.is_err());
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 2);
    }
}
