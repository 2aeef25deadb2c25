//! Who the agent is: one file, written once by enrolment, read at every start. It holds the agent's token, so it is
//! readable by its owner only, and it is replaced as a whole or not at all. Also owns the state folder and its lock.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use flotilla_proto::{HostId, Secret};
use serde::{Deserialize, Serialize};

use crate::{
    dial::Fingerprint,
    server_url::{PlainHttp, ServerUrl},
};

const IDENTITY_FILE: &str = "identity.json";
const LOCK_FILE: &str = "agent.lock";

/// What enrolment left behind. Unknown fields of a newer version are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The control plane.
    pub server: ServerUrl,
    /// Who the server says this host is.
    pub host_id: HostId,
    /// What the agent shows to prove it.
    pub agent_token: Secret,
    /// The name the host enrolled under.
    pub host_name: String,
    /// The only certificate to trust, where one was pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Whether plain HTTP may leave this machine.
    #[serde(default)]
    pub plain_http: PlainHttp,
}

/// Why the state folder or the identity in it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No identity yet.
    #[error(
        "this host is not enrolled (no {}): make an enrolment token in Flotilla under Hosts, Add host, \
         and run `flotilla-agent enroll --server URL --token TOKEN`", .0.display()
    )]
    NotEnrolled(PathBuf),
    /// An identity is there already.
    #[error(
        "this host is already enrolled as {host} at {server} ({}): run the agent, or enrol anew with --replace",
        .path.display()
    )]
    AlreadyEnrolled {
        /// Its file.
        path: PathBuf,
        /// Which host.
        host: HostId,
        /// At which server.
        server: String,
    },
    /// The file can't be read.
    #[error("cannot read the agent's identity {}: {source}; run as the user who enrolled it", .path.display())]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the token.
    #[error(
        "{} can be read by others (mode {mode:o}) and holds this agent's token: run `chmod 600` on it, and enrol anew if others use this machine",
        .path.display()
    )]
    TooOpen {
        /// Its file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no identity.
    #[error("{} is not an agent's identity ({reason}): restore it, or enrol anew with --replace", .path.display())]
    Malformed {
        /// Its file.
        path: PathBuf,
        /// What is wrong, without any content.
        reason: String,
    },
    /// The folder or a file in it can't be written.
    #[error("cannot write {}: {source}; choose another folder with --state-dir, or run as its owner", .path.display())]
    Unwritable {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent runs on this folder.
    #[error("another agent already runs on {}: stop it first, or use another --state-dir", .0.display())]
    Locked(PathBuf),
    /// The system names no home folder.
    #[error("cannot tell where the agent's state belongs: neither XDG_STATE_HOME nor HOME is set; use --state-dir")]
    NoHome,
}

/// The agent's folder: mode 0700, made when first needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// A folder by name. Touches nothing.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder that the system and the user suggest: `/var/lib/flotilla-agent` for root, else below the user's state
    /// folder, `ProgramData\Flotilla` on Windows.
    ///
    /// # Errors
    /// [`IdentityError::NoHome`].
    pub fn default_for_user() -> Result<Self, IdentityError> {
        default_path(is_root(), |name| std::env::var_os(name).map(PathBuf::from)).map(Self).ok_or(IdentityError::NoHome)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the identity stands.
    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.0.join(IDENTITY_FILE)
    }

    /// Makes the folder (0700) where it is missing, and closes one that stands open to others.
    ///
    /// # Errors
    /// [`IdentityError::Unwritable`].
    pub fn create(&self) -> Result<(), IdentityError> {
        let failed = |source| IdentityError::Unwritable { path: self.0.clone(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.0).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&self.0).map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Takes the folder for one process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`IdentityError::Locked`] where another process holds it.
    pub fn lock(&self) -> Result<StateLock, IdentityError> {
        self.create()?;
        let path = self.0.join(LOCK_FILE);
        let failed = |source| IdentityError::Unwritable { path: path.clone(), source };
        let file = owner_only().create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(IdentityError::Locked(self.0.clone())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// [`IdentityError`] with what to do.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let path = self.identity_path();
        let text = match read_private(&path) {
            Ok(text) => text,
            Err(IdentityError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::NotEnrolled(path));
            }
            Err(error) => return Err(error),
        };
        serde_json::from_str(text.expose()).map_err(|e| IdentityError::Malformed { path, reason: e.to_string() })
    }

    /// Writes the identity: to a new file, synced, then renamed over the old one.
    ///
    /// # Errors
    /// [`IdentityError::Unwritable`]; what stood there before is untouched then.
    pub fn save(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.create()?;
        let path = self.identity_path();
        let temp = self.0.join(format!("{IDENTITY_FILE}.{}.tmp", std::process::id()));
        let failed = |source| IdentityError::Unwritable { path: path.clone(), source };
        let text = serde_json::to_string_pretty(identity).map(Secret::new).map_err(|e| failed(e.into()))?;
        let written = write_synced(&temp, text.expose()).and_then(|()| fs::rename(&temp, &path));
        if let Err(error) = written {
            // Best effort: the error that matters is the one above.
            let _ = fs::remove_file(&temp);
            return Err(failed(error));
        }
        sync_folder(&self.0).map_err(failed)
    }
}

/// Held while an agent runs on a state folder.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

fn owner_only() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    // A leftover of a crash might have other permissions: never write a secret into it.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = owner_only().create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn read_private(path: &Path) -> Result<Secret, IdentityError> {
    let failed = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::TooOpen { path: path.to_owned(), mode });
        }
    }
    io::read_to_string(file).map(Secret::new).map_err(failed)
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

fn default_path(root: bool, env: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(env("ProgramData")?.join("Flotilla"));
    }
    if root {
        return Some(PathBuf::from("/var/lib/flotilla-agent"));
    }
    let set = |name| env(name).filter(|path| path.is_absolute());
    let base = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(base.join("flotilla-agent"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn identity() -> Identity {
        Identity {
            server: "https://fleet.example:8443".parse().unwrap(),
            host_id: "01JD3K8ZQV5C0F8R4X7M2N9ABC".parse().unwrap(),
            agent_token: Secret::from("planted-token"),
            host_name: "web-1".to_owned(),
            ca_fingerprint: Some(format!("sha256:{}", "ab".repeat(32)).parse().unwrap()),
            plain_http: PlainHttp::LoopbackOnly,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_identity_comes_back_as_it_was_saved_and_only_its_owner_can_read_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::at(temp.path().join("a/state"));
        dir.save(&identity()).unwrap();
        assert_eq!(dir.load().unwrap(), identity());
        assert_eq!((mode(dir.path()), mode(&dir.identity_path())), (0o700, 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn an_open_folder_is_closed_and_an_open_identity_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::at(temp.path());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        dir.save(&identity()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        fs::set_permissions(dir.identity_path(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = dir.load().unwrap_err();
        assert!(matches!(error, IdentityError::TooOpen { mode: 0o640, .. }));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_host_without_an_identity_is_told_how_to_enrol() {
        let temp = tempfile::tempdir().unwrap();
        let error = StateDir::at(temp.path().join("none")).load().unwrap_err();
        assert!(error.to_string().contains("flotilla-agent enroll --server"), "{error}");
    }

    #[test]
    fn unknown_fields_are_tolerated_and_a_broken_file_is_named_without_its_content() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::at(temp.path());
        dir.save(&identity()).unwrap();
        let path = dir.identity_path();
        let newer = fs::read_to_string(&path).unwrap().replacen('{', "{\"colour\": \"blue\",", 1);
        fs::write(&path, &newer).unwrap();
        assert_eq!(dir.load().unwrap(), identity());

        fs::write(&path, &newer[..newer.len() - 20]).unwrap();
        let error = dir.load().unwrap_err();
        assert!(matches!(error, IdentityError::Malformed { .. }));
        assert!(!error.to_string().contains("planted"), "{error}");
    }

    #[test]
    fn a_second_agent_on_the_same_folder_is_refused_until_the_first_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::at(temp.path());
        let first = dir.lock().unwrap();
        let error = dir.lock().unwrap_err();
        assert!(error.to_string().contains("another agent already runs"), "{error}");
        drop(first);
        dir.lock().unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StateDir::at(file.join("state")).save(&identity()).unwrap_err();
        assert!(matches!(error, IdentityError::Unwritable { .. }));
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }

    #[test]
    fn the_default_folder_follows_the_user() {
        let env = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/u")),
            _ => None,
        };
        assert_eq!(default_path(true, env), Some(PathBuf::from("/var/lib/flotilla-agent")));
        assert_eq!(default_path(false, env), Some(PathBuf::from("/home/u/.local/state/flotilla-agent")));
        let xdg = |name: &str| (name == "XDG_STATE_HOME").then(|| PathBuf::from("/s"));
        assert_eq!(default_path(false, xdg), Some(PathBuf::from("/s/flotilla-agent")));
        assert_eq!(default_path(false, |_| None), None);
    }
}
