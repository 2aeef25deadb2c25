//! What this endpoint allows its server, by a file of the endpoint's own: `STATE_DIR/agent.toml`. No file means no restriction; a file that can't be read or
//! holds a key that is not known allows nothing, for it may be meant to forbid.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

/// Name of the file in the agent's state folder.
pub const FILE: &str = "agent.toml";

/// What is allowed here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Folders into which, or below which, may be restored. Absent: anywhere. Empty: nowhere.
    pub restore_roots: Option<Vec<PathBuf>>,
}

/// Why something is not allowed. The texts are for people.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is there and can't be read.
    #[error("this host's own rules in {path} can't be read: {error}. Correct the file's rights there", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no TOML, or holds what is not known.
    #[error("this host's own rules in {path} are not understood: {reason}. Correct the file on the host", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, in one line.
        reason: String,
    },
    /// A restore would go elsewhere.
    #[error("this host allows restores only into {roots} (`restore_roots` in its {FILE}), and {target} is not there. Choose a folder below one of them", target = .target.display())]
    Elsewhere {
        /// Where it would go, links resolved.
        target: PathBuf,
        /// What is allowed.
        roots: String,
    },
    /// A target whose place can't be told.
    #[error("where the folder {target} lies can't be told: {reason}. Choose another", target = .target.display())]
    Unclear {
        /// The folder as it was given.
        target: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Policy {
    /// The rules that are in force now. Reads the file.
    ///
    /// # Errors
    /// Where it is there and not understood.
    pub fn load(state_dir: &Path) -> Result<Self, PolicyError> {
        let path = state_dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(PolicyError::Unreadable { path, error }),
        };
        let malformed = |reason: String| PolicyError::Malformed { path: path.clone(), reason };
        let policy: Self = toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
        let relative = policy.restore_roots.iter().flatten().find(|root| !root.is_absolute());
        match relative {
            Some(root) => Err(malformed(format!("{} in restore_roots is not an absolute path", root.display()))),
            None => Ok(policy),
        }
    }

    /// Whether something may be restored into the folder, which need not exist yet. Looks at the disk: links count as what they point to.
    ///
    /// # Errors
    /// Where it may not, or where it can't be told.
    pub fn allows_restore(&self, target: &Path) -> Result<(), PolicyError> {
        let Some(roots) = &self.restore_roots else { return Ok(()) };
        let place = resolve(target).map_err(|reason| PolicyError::Unclear { target: target.to_owned(), reason })?;
        let within = |root: &PathBuf| fs::canonicalize(root).is_ok_and(|root| place.starts_with(root));
        if roots.iter().any(within) {
            return Ok(());
        }
        let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
        let roots = if roots.is_empty() { "no folder at all".to_owned() } else { roots.join(", ") };
        Err(PolicyError::Elsewhere { target: place, roots })
    }
}

/// Where a path lies, links resolved. What of it does not exist is taken by its name, which must not lead up again.
fn resolve(path: &Path) -> Result<PathBuf, String> {
    let mut missing = Vec::new();
    let mut known = path;
    loop {
        match fs::canonicalize(known) {
            Ok(place) => return Ok(missing.iter().rev().fold(place, |place, name| place.join(name))),
            // A link to nowhere is there, and what is made through it is made where it points to.
            Err(_) if fs::symlink_metadata(known).is_ok() => {
                return Err(format!("{} is a link that leads nowhere", known.display()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            Err(_) => {}
        }
        match (known.components().next_back(), known.parent()) {
            (Some(Component::Normal(name)), Some(parent)) => {
                missing.push(name.to_owned());
                known = parent;
            }
            _ => return Err("it holds `..`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, String> {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(FILE), text).unwrap();
        Policy::load(state.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn no_file_restricts_nothing_and_one_that_is_not_understood_allows_nothing() {
        let state = tempfile::tempdir().unwrap();
        let free = Policy::load(state.path()).unwrap();
        assert!(free.allows_restore(Path::new("/anywhere")).is_ok());
        for (text, words) in [
            ("restore_root = []", "unknown field"),
            ("restore_roots = 1", "invalid type"),
            ("restore_roots = [", "not understood"),
            ("restore_roots = [\"srv\"]", "not an absolute path"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
        fs::create_dir(state.path().join(FILE)).unwrap();
        assert!(Policy::load(state.path()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_target_counts_by_where_it_really_lies() {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        fs::create_dir_all(at("root/sub")).unwrap();
        fs::create_dir_all(at("rooted")).unwrap();
        std::os::unix::fs::symlink(at("rooted"), at("root/out")).unwrap();
        std::os::unix::fs::symlink(at("root"), at("in")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("root/nowhere")).unwrap();
        let policy = Policy { restore_roots: Some(vec![at("in"), at("missing")]) };
        for allowed in ["root", "root/", "root/sub", "root/new/deeper", "in/sub/new", "rooted/../root/x"] {
            assert!(policy.allows_restore(&at(allowed)).is_ok(), "{allowed}");
        }
        for refused in [
            "",
            "rooted",
            "root/..",
            "root/sub/../../rooted",
            "root/out",
            "root/out/new",
            "missing/x",
            "root/new/../../rooted",
            "root/nowhere/x",
        ] {
            let error = policy.allows_restore(&at(refused)).unwrap_err().to_string();
            assert!(error.contains("restores only into") || error.contains("can't be told"), "{refused}: {error}");
        }
        let none = Policy { restore_roots: Some(Vec::new()) };
        assert!(none.allows_restore(&at("root")).unwrap_err().to_string().contains("no folder at all"));
    }
}
