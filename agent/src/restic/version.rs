//! Which restic is here and what it can do. Flags that a version does not know make it fail before anything happens,
//! so every newer flag is asked for here first.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    time::{Duration, SystemTime},
};

use tokio::{process::Command, time::timeout};

/// A version of restic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResticVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

/// Something that restic learned after 0.14; the table is the protocol's, so that the control plane knows it too.
pub use flotilla_proto::abilities::Ability as Feature;

impl ResticVersion {
    /// The oldest restic that the agent knows how to read.
    pub const OLDEST: Self = Self { major: 0, minor: 14, patch: 0 };

    /// Whether this version has the feature.
    #[must_use]
    pub fn supports(self, feature: Feature) -> bool {
        feature.is_in((self.major, self.minor, self.patch))
    }
}

impl fmt::Display for ResticVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that does not begin like `restic 0.18.0 …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the output of `restic version`")]
pub struct NotAVersion;

impl FromStr for ResticVersion {
    type Err = NotAVersion;
    /// Reads the first line of `restic version`.
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let word = text.strip_prefix("restic ").and_then(|rest| rest.split_whitespace().next()).ok_or(NotAVersion)?;
        let mut numbers = word.splitn(3, '.').map(|part| {
            // The third may carry a suffix: `0.19.1-dev`.
            let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
            digits.parse::<u32>().map_err(|_| NotAVersion)
        });
        let mut next = || numbers.next().unwrap_or(Err(NotAVersion));
        Ok(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

/// A restic that was found and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restic {
    /// Where it is.
    pub path: PathBuf,
    /// What it says it is.
    pub version: ResticVersion,
}

#[cfg(not(windows))]
const INSTALL: &str = "install it: `apt install restic` (Debian, Ubuntu), `dnf install restic` (Fedora, RHEL with EPEL), \
                       or see https://restic.readthedocs.io/en/stable/020_installation.html";
#[cfg(windows)]
const INSTALL: &str = "install it: `winget install restic.restic`, or see \
                       https://restic.readthedocs.io/en/stable/020_installation.html";

/// Why there is no restic to work with.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No such program.
    #[error("restic is not installed on this host (looked in {looked}): {INSTALL}")]
    Missing {
        /// Where it was looked for.
        looked: String,
    },
    /// The program does not start.
    #[error("{path} does not start: {reason}; repair or replace it ({INSTALL})", path = .path.display())]
    Broken {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another program, or an unknown one.
    #[error("{path} does not answer like restic; point FLOTILLA_RESTIC at the right program, or {INSTALL}", path = .path.display())]
    NotRestic {
        /// The program.
        path: PathBuf,
    },
    /// Before 0.14.
    #[error("{path} is restic {version}; the agent needs {oldest} or newer: {INSTALL}", path = .path.display(), oldest = ResticVersion::OLDEST)]
    TooOld {
        /// The program.
        path: PathBuf,
        /// What it says it is.
        version: ResticVersion,
    },
}

/// Finds restic: the given path, else `FLOTILLA_RESTIC`, else the `PATH`; and asks for its version.
///
/// # Errors
/// [`ProbeError`], which says how to install it.
pub async fn probe(path: Option<&Path>) -> Result<Restic, ProbeError> {
    let path = find(path)?;
    let mut command = Command::new(&path);
    command.arg("version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let broken = |reason: String| ProbeError::Broken { path: path.clone(), reason };
    let output = timeout(Duration::from_secs(20), command.output())
        .await
        .map_err(|_| broken("`restic version` did not end within 20 s".to_owned()))?
        .map_err(|e| broken(e.to_string()))?;
    let version: ResticVersion = String::from_utf8_lossy(&output.stdout)
        .parse()
        .map_err(|NotAVersion| ProbeError::NotRestic { path: path.clone() })?;
    if version < ResticVersion::OLDEST {
        return Err(ProbeError::TooOld { path, version });
    }
    Ok(Restic { path, version })
}

/// What tells one program from the one that was there before, without running it: where it is, its length and its time.
pub(crate) type Footprint = Option<(PathBuf, u64, Option<SystemTime>)>;

/// That of the restic which [`probe`] would ask now; `None` where there is none. Blocks.
pub(crate) fn footprint(given: Option<&Path>) -> Footprint {
    let path = find(given).ok()?;
    let meta = fs::metadata(&path).ok()?;
    Some((path, meta.len(), meta.modified().ok()))
}

fn find(given: Option<&Path>) -> Result<PathBuf, ProbeError> {
    let chosen = given.map(Path::to_owned).or_else(|| env::var_os("FLOTILLA_RESTIC").map(PathBuf::from));
    if let Some(path) = chosen {
        return if path.is_file() { Ok(path) } else { Err(ProbeError::Missing { looked: path.display().to_string() }) };
    }
    let name = format!("restic{}", env::consts::EXE_SUFFIX);
    let search = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())
        .ok_or_else(|| ProbeError::Missing { looked: format!("PATH = {}", search.to_string_lossy()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_each_restic_prints() {
        let read = |text: &str| text.parse::<ResticVersion>().map(|v| v.to_string());
        assert_eq!(read("restic 0.14.0 compiled with go1.19.8 on linux/amd64\n"), Ok("0.14.0".into()));
        assert_eq!(read("restic 0.19.1-dev (compiled manually)"), Ok("0.19.1".into()));
        assert_eq!(read("rclone v1.60"), Err(NotAVersion));
        assert_eq!(read("restic 0.x.1"), Err(NotAVersion));
        assert_eq!(read("restic 0.14"), Err(NotAVersion));
    }

    #[test]
    fn features_begin_with_the_version_that_brought_them() {
        let old: ResticVersion = "restic 0.15.2".parse().unwrap();
        let mid: ResticVersion = "restic 0.16.0".parse().unwrap();
        let new: ResticVersion = "restic 1.0.0".parse().unwrap();
        assert!(!old.supports(Feature::RestoreJson) && mid.supports(Feature::RestoreJson));
        assert!(!mid.supports(Feature::RestoreOverwrite) && new.supports(Feature::RestoreOverwrite));
    }

    #[tokio::test]
    async fn a_missing_restic_is_reported_with_the_way_to_install_it() {
        let error = probe(Some(Path::new("/nowhere/restic"))).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/restic") && error.contains("apt install restic"), "{error}");
    }

    #[tokio::test]
    async fn another_program_is_not_taken_for_restic() {
        let error = probe(Some(Path::new("/bin/echo"))).await.unwrap_err();
        assert!(matches!(error, ProbeError::NotRestic { .. }), "{error}");
    }
}
