//! A disk that is really small and can really be full: a tmpfs in a mount namespace that a process of the test holds open. It is gone with that process.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Such a disk. Programs see it at [`SmallDisk::path`] when they are started by [`SmallDisk::command`]; the test sees it at [`SmallDisk::seen_from_here`].
pub(crate) struct SmallDisk {
    holder: Child,
    path: PathBuf,
    own_users: bool,
}

const BALLAST: &str = "ballast";

impl SmallDisk {
    /// Mounts one of so many MiB at `path`, an empty folder; `None` where this machine lets us mount nothing, not even among users of our own.
    pub(crate) fn mount(path: &Path, mib: u32) -> Option<Self> {
        [false, true].into_iter().find_map(|own_users| Self::try_mount(path, mib, own_users))
    }

    fn try_mount(path: &Path, mib: u32, own_users: bool) -> Option<Self> {
        let mut unshare = Command::new("unshare");
        if own_users {
            unshare.args(["--user", "--map-root-user"]);
        }
        // `cat` holds the namespace until its input ends, which the end of this process brings about too.
        unshare.args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c"]);
        unshare.arg(format!("mount -t tmpfs -o size={mib}m,mode=0700 tmpfs \"$0\" && echo mounted && exec cat"));
        unshare.arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = unshare.spawn().ok()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut said).ok()?;
        let disk = Self { holder, path: path.to_owned(), own_users };
        // Dropped, and so ended, where it did not work out.
        (said.trim() == "mounted").then_some(disk)
    }

    /// Where it is for programs started by [`Self::command`].
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same folder for this process, which is not in the namespace.
    pub(crate) fn seen_from_here(&self) -> PathBuf {
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(self.path.strip_prefix("/").unwrap())
    }

    /// `command`, in the namespace of the disk; its process has the id of the process that is started.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if self.own_users {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Takes all the room that is left, or that has become free since.
    pub(crate) fn fill(&self) {
        let path = self.seen_from_here().join(BALLAST);
        let mut ballast = File::options().create(true).append(true).open(path).unwrap();
        let (mut size, zeros) = (1 << 20, vec![0; 1 << 20]);
        while size > 0 {
            match ballast.write(&zeros[..size]) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => size /= 4,
                Err(e) => panic!("the small disk: {e}"),
            }
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.seen_from_here().join(BALLAST)).ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}
