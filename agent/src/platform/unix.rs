//! Unix: process groups by `setpgid`, secrets by inherited pipes, files by mode. No descriptor made here is ever
//! inheritable in the agent itself: only the forked child clears the flag.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    ops::Range,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, OpenOptionsExt as _},
            process::ExitStatusExt as _,
        },
    },
    path::Path,
    process::ExitStatus,
};

use command_fds::CommandFdExt as _;
use rustix::{
    io::Errno,
    process::{Pid, Signal, getuid, kill_process_group, test_kill_process},
};
use tokio::process::{Child, Command};

use crate::{platform::Volume, process::SecretFile};
pub(crate) use ownership::not_ours_alone;
pub(crate) use worker::{Found, RESERVE, Traces, Worker, end_stray, mark_of};

mod ownership;
mod worker;

/// A child and all that it started.
#[derive(Debug)]
pub(crate) struct Group(Pid);

impl Group {
    /// Makes the command's process the leader of a group of its own.
    pub(crate) fn prepare(command: &mut Command) {
        command.process_group(0);
    }

    /// The group of a child started after [`Group::prepare`].
    pub(crate) fn of(child: &Child) -> io::Result<Self> {
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .map(Self)
            .ok_or_else(|| io::Error::other("the process ended before it could be looked after"))
    }

    /// Asks all of the group to stop: SIGINT, for restic 0.14 removes its lock on that signal only.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Asks all of the group to end, as systems do it: SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all of the group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // The group may be gone already (ESRCH): that is what was wanted.
        let _ = kill_process_group(self.0, signal);
    }
}

/// How the polite and the hard stop are called here, for log lines.
pub(crate) fn interrupt_names() -> (&'static str, &'static str) {
    ("SIGINT", "SIGKILL")
}

/// The exit code; negative for a signal.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap_or(-1)
}

/// Gives each secret to the child as a pipe that it inherits, and names the pipe in the secret's `*_FILE` variable.
///
/// The pipe keeps its number in the child. Moving it to a fixed one could overwrite the descriptor through which
/// the standard library reports a failed exec.
pub(crate) fn hand_over(command: &mut Command, secrets: &[SecretFile]) -> io::Result<()> {
    // Linux gives a pipe 64 KiB, other systems at least 16: content under this bound never blocks the writer.
    const MOST: usize = 8 * 1024;
    let mut pipes: Vec<OwnedFd> = Vec::with_capacity(secrets.len());
    for secret in secrets {
        if secret.content.expose().len() > MOST {
            return Err(io::Error::other(format!(
                "the value for {} is longer than {MOST} bytes",
                secret.file_variable
            )));
        }
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(secret.content.expose().as_bytes())?;
        command.env(secret.file_variable, format!("/dev/fd/{}", reader.as_raw_fd()));
        pipes.push(reader.into());
    }
    command.preserved_fds(pipes);
    Ok(())
}

/// Gives the child its own hold on a locked file: the lock of flock(2) lasts until the last that holds it is gone.
pub(crate) fn hold(command: &mut Command, file: &File) -> io::Result<()> {
    command.preserved_fds(vec![file.try_clone()?.into()]);
    Ok(())
}

/// Bytes that the process has read and written so far, through whatever channel; `None` where the system doesn't say.
pub(crate) fn moved_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(field("rchar:")?.saturating_add(field("wchar:")?))
}

/// Whether any process has this number at present.
pub(crate) fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)))
}

/// The user that this process, and what it starts, belongs to.
pub(crate) fn user_id() -> Option<u32> {
    Some(getuid().as_raw())
}

/// Makes a folder, and its parents, that only this user may enter. A new one is on disk when this returns.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The file system that holds `path`; `None` where it does not tell.
pub(crate) fn volume(path: &Path) -> Option<Volume> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Volume {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// Gives the blocks of part of a file back to the file system; the file keeps its length, and zeros stand there.
///
/// # Errors
/// Where the file system can't, or the file is not open for writing.
pub(crate) fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(file, flags, range.start, range.end - range.start)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, range);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Replaces a file whole, mode 0600, on disk when this returns.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // Left by an agent that died in between; its mode and content are not to be trusted.
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // On a full disk the part that was written is what others would need.
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::{fs::TryLockError, process::Stdio};

    use super::*;

    #[tokio::test]
    async fn a_lock_given_to_a_program_lasts_until_the_program_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = File::create(&path).unwrap();
        file.try_lock().unwrap();
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped());
        hold(&mut command, &file).unwrap();
        let mut child = command.spawn().unwrap();
        drop((command, file));
        let other = File::open(&path).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(child.stdin.take());
        child.wait().await.unwrap();
        other.try_lock().unwrap();
    }
}
