//! The end of a run on the host, proven: a second session looks for all that carries the run's mark, ends it, and looks again.
//!
//! What it can't find: a process that took the mark out of its environment, made a session of its own and lost all of its parents.

use std::{fmt, time::Duration};

use russh::ChannelMsg;
use tokio::time::timeout;

use super::{
    Ssh,
    connection::Channel,
    error::{Doing, SshError, Stage},
    script::check_mark,
};
use crate::text;

const SCRIPT: &str = include_str!("stop.sh");
/// What it may take longer than the grace.
const WORK: Duration = Duration::from_secs(30);
/// Most that it may say.
const MAX_OUTPUT: usize = 1 << 20;

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
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.proven {
            return f.write_str("whether anything of the command still runs is unknown: the host has no /proc to look through. Look for it there by hand");
        }
        if !self.left.is_empty() {
            let left: Vec<String> = self.left.iter().map(|left| format!("{} ({})", left.pid, left.name)).collect();
            return write!(
                f,
                "these processes of the command could not be ended: {}. They belong to another user, or wait for a device; end them on the host",
                left.join(", ")
            );
        }
        match (self.found, self.killed) {
            (0, _) => f.write_str("nothing of the command ran any more"),
            (found, false) => write!(f, "the command's processes ({found}) have ended"),
            (found, true) => write!(f, "the command's processes ({found}) have ended, not all at the polite signal"),
        }
    }
}

impl Ssh {
    /// Ends what runs on the host under this mark, whoever started it: also what a process of Flotilla that is no more had begun. Politely first; after `grace` for certain.
    ///
    /// # Errors
    /// The host can't be reached, or does not answer: whether anything runs is unknown.
    pub async fn kill_marked(&self, mark: &str, grace: Duration) -> Result<Stopped, SshError> {
        check_mark(mark)?;
        let script = format!("mark={mark} grace={}\n{SCRIPT}", grace.as_secs());
        let limit = grace + WORK;
        let (connection, channel) = self.session_for_sure().await?;
        let said = timeout(limit, ask(channel, script)).await;
        let answer = match said {
            Ok(Some(output)) => read(&output),
            Ok(None) => None,
            Err(_) => return Err(connection.late(Stage::Session, limit)),
        };
        answer.ok_or_else(|| {
            if connection.is_closed() {
                connection.dropped(Doing::Command)
            } else {
                connection.refused("it did not run the script that ends processes")
            }
        })
    }
}

/// Runs a script by the host's sh; its output.
async fn ask(mut channel: Channel, script: String) -> Option<String> {
    channel.exec(true, "exec sh -s").await.ok()?;
    channel.data_bytes(script.into_bytes()).await.ok()?;
    channel.eof().await.ok()?;
    let mut output = Vec::new();
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) if output.len() < MAX_OUTPUT => output.extend_from_slice(&data),
            Some(ChannelMsg::Close) | None => break,
            Some(ChannelMsg::Failure) => return None,
            Some(_) => {}
        }
    }
    // Closed by the server already as a rule.
    let _ = channel.close().await;
    Some(String::from_utf8_lossy(&output).into_owned())
}

/// `None` where the script did not come to its end.
fn read(output: &str) -> Option<Stopped> {
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
