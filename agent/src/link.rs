//! The connection that is kept for as long as the agent lives: dial, talk, and after each end decide whether and when to come back.
//! One connection at a time; what it carries is among the agent's duties, so losing it loses nothing.

mod ended;
mod session;
mod upgrade;

use std::{path::PathBuf, sync::Arc, time::Duration};

use flotilla_proto::Secret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    ended::{Ended, Verdict},
    session::Session,
};
use crate::{backoff::Backoff, dial::Dialer, duties::Duties, serve::AgentError};

/// A connection that lived this long was a good one: the next attempts start over.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// All that a connection needs, of which nothing belongs to one connection alone.
pub(crate) struct Parts {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) agent_token: Secret,
    pub(crate) state_dir: PathBuf,
    pub(crate) duties: Duties,
}

/// Keeps the agent connected until `stop`, or until the server says that it must not come back.
///
/// # Errors
/// [`AgentError::Revoked`].
pub(crate) async fn run(parts: Parts, mut backoff: Backoff, stop: CancellationToken) -> Result<(), AgentError> {
    let server = parts.dialer.server().to_string();
    loop {
        let began = Instant::now();
        let ended = connection(&parts, &stop).await;
        if began.elapsed() > GOOD_CONNECTION {
            backoff.reset();
        }
        let delay = match ended.verdict() {
            Verdict::Stop => {
                let Ended::Revoked = ended else { return Ok(()) };
                return Err(AgentError::Revoked { server });
            }
            Verdict::Slowly(floor) => backoff.slow(floor),
            Verdict::Soon => backoff.next_delay(),
        };
        tracing::warn!(server, retry_ms = delay.as_millis() as u64, "{ended}");
        if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
            return Ok(());
        }
    }
}

async fn connection(parts: &Parts, stop: &CancellationToken) -> Ended {
    let opened = stop.run_until_cancelled(async {
        let socket = upgrade::connect(&parts.dialer, &parts.agent_token).await?;
        Session::open(parts, socket).await
    });
    match opened.await {
        None => Ended::Stopped,
        Some(Err(ended)) => ended,
        Some(Ok(session)) => {
            let ended = session.run(stop).await;
            parts.duties.disconnected();
            ended
        }
    }
}
