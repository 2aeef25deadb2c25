//! What is left of a script's processes: the script that ends all that carries a mark, and what it says. It is the same here, within a container and on another host.
//!
//! What it can't find: a process that took the mark out of its environment, made a session of its own and lost all of its parents.

use std::{fmt, time::Duration};

use crate::text;

const SCRIPT: &str = include_str!("leftovers.sh");
/// What it may take longer than the grace.
pub(crate) const WORK: Duration = Duration::from_secs(30);
/// Most that it may say, in bytes.
pub(crate) const MOST_OUTPUT: usize = 1 << 20;

/// The script, for any `sh`. A mark is of letters, digits and dashes.
pub(crate) fn script(mark: &str, grace: Duration) -> String {
    format!("mark={mark} grace={}\n{SCRIPT}", grace.as_secs())
}

/// What became of a run's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// How many there were.
    pub found: usize,
    /// The polite signal did not do.
    pub killed: bool,
    /// What could not be ended.
    pub left: Vec<Left>,
    /// Whether the host could be looked through: it needs /proc.
    pub proven: bool,
}

/// A process that could not be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its number on the host.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

impl Stopped {
    /// Whether nothing of the run is left, and that was seen.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.proven && self.left.is_empty()
    }

    /// Of two looks at different places.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.found += other.found;
        self.killed |= other.killed;
        self.left.extend(other.left);
        self.proven &= other.proven;
        self
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.left.is_empty() {
            let left: Vec<String> = self.left.iter().map(|left| format!("{} ({})", left.pid, left.name)).collect();
            return write!(
                f,
                "these processes of the command could not be ended: {}. They belong to another user, or wait for a device; end them there",
                left.join(", ")
            );
        }
        match (self.found, self.killed) {
            _ if !self.proven => f.write_str(
                "whether anything of the command still runs is not known, for there is no /proc to look through. Look for it there by hand",
            ),
            (0, _) => f.write_str("nothing of the command runs any more"),
            (found, false) => write!(f, "the command's processes ({found}) have ended"),
            (found, true) => write!(f, "the command's processes ({found}) have ended, not all at the polite signal"),
        }
    }
}

/// What it said; `None` where it did not come to its end.
pub(crate) fn read(output: &str) -> Option<Stopped> {
    let mut stopped = Stopped::default();
    for line in output.lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next().and_then(|pid| pid.parse().ok()), words.next()) {
            (Some("found"), Some(_), _) => stopped.found += 1,
            (Some("killed"), ..) => stopped.killed = true,
            (Some("left"), Some(pid), name) => {
                stopped.left.push(Left { pid, name: text::visible(name.unwrap_or_default()) });
            }
            (Some("looked"), ..) => stopped.proven = true,
            _ if line == "no /proc" => return Some(stopped),
            // What the login shell says.
            _ => {}
        }
    }
    stopped.proven.then_some(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_says_is_read_and_half_of_it_is_nothing() {
        let stopped = read("Welcome\nfound 12\nfound 13\nkilled\nleft 13 a b\nlooked\n").unwrap();
        assert_eq!(
            stopped,
            Stopped { found: 2, killed: true, left: vec![Left { pid: 13, name: "a b".into() }], proven: true }
        );
        assert!(!stopped.is_clean() && stopped.to_string().contains("13 (a b)"));
        assert_eq!(read("found 12\nkilled\n"), None);
        assert!(read("looked\n").unwrap().is_clean());
        assert!(!read("no /proc\n").unwrap().is_clean());
    }
}
