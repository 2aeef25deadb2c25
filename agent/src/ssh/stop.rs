//! The end of a run on the host, proven: a second session looks for all that carries the run's mark, ends it, and looks again.

use std::time::Duration;

use russh::ChannelMsg;
use tokio::time::timeout;

use super::{
    Ssh,
    connection::Channel,
    error::{Doing, SshError, Stage},
    script::check_mark,
};
use crate::leftovers::{self, MOST_OUTPUT, Stopped, WORK};

impl Ssh {
    /// Ends what runs on the host under this mark, whoever started it: also what a process of Flotilla that is no more had begun. Politely first; after `grace` for certain.
    ///
    /// # Errors
    /// The host can't be reached, or does not answer: whether anything runs is unknown.
    pub async fn kill_marked(&self, mark: &str, grace: Duration) -> Result<Stopped, SshError> {
        check_mark(mark)?;
        let script = leftovers::script(mark, grace);
        let limit = grace + WORK;
        let (connection, channel) = self.session_for_sure().await?;
        let said = timeout(limit, ask(channel, script)).await;
        let answer = match said {
            Ok(Some(output)) => leftovers::read(&output),
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
            Some(ChannelMsg::Data { data }) if output.len() < MOST_OUTPUT => output.extend_from_slice(&data),
            Some(ChannelMsg::Close) | None => break,
            Some(ChannelMsg::Failure) => return None,
            Some(_) => {}
        }
    }
    // Closed by the server already as a rule.
    let _ = channel.close().await;
    Some(String::from_utf8_lossy(&output).into_owned())
}
