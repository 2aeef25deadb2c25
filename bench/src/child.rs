//! Processes of this same program, driven by it: each prints one line of JSON when it is ready, and ends when its standard input closes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child as Process, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::{Serialize, de::DeserializeOwned};

/// A running child. Dropping it ends it.
pub(crate) struct Child {
    process: Process,
}

impl Child {
    /// Starts this program with `arguments` and waits for its line.
    pub(crate) fn start<T: DeserializeOwned>(arguments: &[String]) -> anyhow::Result<(Self, T)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Self { process: command.spawn().context("cannot start a process of this program")? };
        let output = child.process.stdout.take().context("the child has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(!line.is_empty(), "`{}` ended before it was ready", arguments.join(" "));
        Ok((child, serde_json::from_str(&line).with_context(|| format!("not what a child says: {line}"))?))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Already ended is fine: it is to be gone, and waited for.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The child's side: says that it is ready.
pub(crate) fn ready<T: Serialize>(what: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}

/// The child's side: waits until the parent goes.
pub(crate) async fn until_released() {
    // An error means the same as the end: nobody is there.
    tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new()).ok()).await.ok();
}
