//! Which commands a server may have this endpoint run: those that the endpoint's own rules name, and scripts in its folder of hooks. A line for the shell only
//! where the endpoint's owner said so. So a server in foreign hands gets no shell here.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{FILE, Policy};
use crate::platform;

/// Where scripts lie unless the rules name another folder.
pub const HOOKS_DIR: &str = "/etc/flotilla-agent/hooks";
/// How a line for the shell begins.
const SHELL: &str = "sh:";

/// A command that is allowed, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// How it is called in the log.
    pub name: String,
    /// Program and arguments; never empty.
    pub words: Vec<OsString>,
}

/// Why a command is not run. The texts are for people.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nothing of that name.
    #[error(
        "{name:?} is not allowed on this host, whose own rules name no such command. On the host, add `{name} = [\"program\", \"argument\"]` under `[commands]` in {file}, or put a script of that name into {folder}",
        file = .file.display(), folder = .folder.display()
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The file with the rules.
        file: PathBuf,
        /// The folder of scripts.
        folder: PathBuf,
    },
    /// A line for the shell.
    #[error(
        "a line for the shell is not allowed on this host. On the host, give the command a name under `[commands]` in {file}; or, if whoever runs the server may run anything here, set `allow_remote_commands = true` there",
        file = .file.display()
    )]
    Shell {
        /// The file with the rules.
        file: PathBuf,
    },
    /// Not a name.
    #[error("{0:?} is no name of a command: it is empty, or holds a slash or a control character. Correct the plan")]
    NoName(String),
    /// A command without a program.
    #[error("the command {name} in this host's own rules ({file}) names no program; correct it there", file = .file.display())]
    Empty {
        /// Which.
        name: String,
        /// The file with the rules.
        file: PathBuf,
    },
    /// A script that others may change, or no file.
    #[error("the script {script} is not run: {reason}. Correct that on the host", script = .script.display())]
    Unsafe {
        /// Which.
        script: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Policy {
    /// The command that `run` stands for: a name under `[commands]`, a script's name, or `sh: …`. Looks at the disk.
    ///
    /// # Errors
    /// [`CommandError`] where it is not allowed.
    pub fn command(&self, run: &str, state_dir: &Path) -> Result<Allowed, CommandError> {
        let file = state_dir.join(FILE);
        if let Some(line) = run.strip_prefix(SHELL) {
            if !self.allow_remote_commands {
                return Err(CommandError::Shell { file });
            }
            let shell: [&str; 2] = if cfg!(windows) { ["cmd", "/C"] } else { ["/bin/sh", "-c"] };
            let words = shell.into_iter().map(OsString::from).chain([line.trim().into()]).collect();
            return Ok(Allowed { name: "sh".to_owned(), words });
        }
        let name = run.trim();
        if name.is_empty() || name.contains(['/', '\\']) || name.chars().any(char::is_control) || name.starts_with('.')
        {
            return Err(CommandError::NoName(run.to_owned()));
        }
        if let Some(words) = self.commands.get(name) {
            if words.first().is_none_or(|program| program.trim().is_empty()) {
                return Err(CommandError::Empty { name: name.to_owned(), file });
            }
            let words = words.iter().map(OsString::from).collect();
            return Ok(Allowed { name: name.to_owned(), words });
        }
        let folder = self.hooks_dir.clone().unwrap_or_else(|| HOOKS_DIR.into());
        let script = folder.join(name);
        match fs::symlink_metadata(&script) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(CommandError::Unknown { name: name.to_owned(), file, folder });
            }
            Err(e) => return Err(CommandError::Unsafe { script, reason: e.to_string() }),
        }
        match platform::not_ours_alone(&folder, &script) {
            Some(reason) => Err(CommandError::Unsafe { script, reason }),
            None => Ok(Allowed { name: name.to_owned(), words: vec![script.into_os_string()] }),
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn hooks() -> (tempfile::TempDir, Policy) {
        let folder = tempfile::tempdir().unwrap();
        let policy = Policy { hooks_dir: Some(folder.path().to_owned()), ..Policy::default() };
        (folder, policy)
    }

    fn script(folder: &Path, name: &str, mode: u32) {
        fs::write(folder.join(name), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(policy: &Policy, run: &str) -> String {
        policy.command(run, Path::new("/state")).unwrap_err().to_string()
    }

    #[test]
    fn what_the_endpoint_does_not_name_is_refused_with_what_to_add_there() {
        let (_folder, policy) = hooks();
        let words = refusal(&policy, "pg");
        assert!(
            words.contains("pg = [") && words.contains("/state/agent.toml") && words.contains("put a script"),
            "{words}"
        );
        let words = refusal(&policy, "sh: rm -rf /");
        assert!(words.contains("allow_remote_commands = true") && words.contains("/state/agent.toml"), "{words}");
        for run in ["", " ", "../pg", "/bin/sh", ".hidden", "a\\b", "a\nb"] {
            assert!(refusal(&policy, run).contains("no name of a command"), "{run:?}");
        }
    }

    #[test]
    fn a_named_command_is_its_words_and_a_shell_line_needs_the_owners_word() {
        let policy = Policy {
            allow_remote_commands: true,
            commands: [("pg".to_owned(), vec!["pg_dump".to_owned(), "a b".to_owned()]), ("none".to_owned(), vec![])]
                .into(),
            ..Policy::default()
        };
        assert_eq!(policy.command("pg", Path::new("/s")).unwrap().words, ["pg_dump", "a b"]);
        assert!(refusal(&policy, "none").contains("names no program"));
        assert_eq!(policy.command("sh: echo a; b", Path::new("/s")).unwrap().words, ["/bin/sh", "-c", "echo a; b"]);
    }

    #[test]
    fn a_script_must_be_a_file_that_nobody_else_may_change_in_a_folder_that_nobody_else_may_change() {
        let (folder, policy) = hooks();
        let root = folder.path();
        script(root, "good", 0o755);
        script(root, "open", 0o777);
        script(root, "plain", 0o644);
        symlink("good", root.join("link")).unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        assert_eq!(policy.command("good", root).unwrap().words, [root.join("good").into_os_string()]);
        for (name, words) in [
            ("open", "others may write to it"),
            ("plain", "may not be run"),
            ("link", "no regular file"),
            ("folder", "no regular file"),
        ] {
            assert!(refusal(&policy, name).contains(words), "{name}: {}", refusal(&policy, name));
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refusal(&policy, "good").contains("its folder"), "{}", refusal(&policy, "good"));
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
