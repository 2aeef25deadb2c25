//! A whole agent as one future: connection, outbox and runner put together. Spawns nothing, reads no environment and takes no signal,
//! so that a test, the demo and the control plane's own agent can have as many as they like.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    backoff::{Backoff, BackoffPolicy, Entropy, system_entropy},
    blocking::blocking,
    clock::{Clock, SystemClock},
    dial::{DialError, Dialer, Door, ProxySettings},
    duties::{Duties, Member},
    enrol::EnrolError,
    errand::Messenger,
    identity::{Identity, IdentityError},
    link::{self, Parts},
    outbox::OutboxLimits,
    runner::Runner,
    schedule::SchedulePolicy,
    server_url::ServerUrlError,
};

/// How long a stopping agent waits for the server to confirm what its jobs said last.
const DELIVERY_GRACE: Duration = Duration::from_secs(10);

/// Why an agent can't run, or must not any longer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// State folder or identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The server's address.
    #[error(transparent)]
    Server(#[from] ServerUrlError),
    /// Proxy or certificate settings that can't work.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The server does not want this agent any more.
    #[error(
        "{server} has revoked this agent: it stops for good; to bring this host back, enrol it anew with --replace"
    )]
    Revoked {
        /// Which server.
        server: String,
    },
    /// The state folder can't be read.
    #[error("cannot read the agent's state folder {path}: {source}", path = path.display())]
    State {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A second signal.
    #[error("stopped at once by a second signal; what runs goes on, and the agent follows it again once it is back")]
    Interrupted,
    /// No signal handlers.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

impl AgentError {
    /// 2 for usage and configuration, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Server(_) | Self::Usage(_) => 2,
            Self::Identity(
                IdentityError::NotEnrolled(_) | IdentityError::AlreadyEnrolled { .. } | IdentityError::NoHome,
            ) => 2,
            Self::Dial(DialError::Proxy(_)) => 2,
            Self::Identity(_)
            | Self::State { .. }
            | Self::Dial(_)
            | Self::Enrol(_)
            | Self::Revoked { .. }
            | Self::Interrupted
            | Self::Signals(_) => 1,
        }
    }
}

/// What an agent is made of, beside its identity.
#[derive(Clone)]
pub struct AgentOptions {
    /// Its folder, whose disk is watched.
    pub state_dir: PathBuf,
    /// Runs the jobs.
    pub runner: Arc<dyn Runner>,
    /// Stamps the lines.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Entropy,
    /// Proxies on the way.
    pub proxies: ProxySettings,
    /// Bounds of what is kept undelivered.
    pub outbox: OutboxLimits,
    /// How schedules are followed.
    pub schedules: SchedulePolicy,
    /// How fast to come back.
    pub backoff: BackoffPolicy,
    /// How long the runner has after the shutdown to let go of its jobs.
    pub drain_grace: Duration,
    /// The way to a server in the same process, instead of its address.
    pub door: Option<Door>,
}

impl AgentOptions {
    /// The usual ones: system clock and randomness, no proxy.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, runner: Arc<dyn Runner>) -> Self {
        Self {
            state_dir: state_dir.into(),
            runner,
            clock: Arc::new(SystemClock),
            entropy: system_entropy(),
            proxies: ProxySettings::none(),
            outbox: OutboxLimits::default(),
            schedules: SchedulePolicy::default(),
            backoff: BackoffPolicy::default(),
            drain_grace: Duration::from_secs(20),
            door: None,
        }
    }

    fn dialer(&self, identity: &Identity) -> Result<Dialer, DialError> {
        match &self.door {
            Some(door) => Ok(Dialer::within(&identity.server, door.clone())),
            None => Dialer::new(&identity.server, identity.ca_fingerprint, &self.proxies),
        }
    }
}

/// Runs an agent until `shutdown`; then the runner lets go of its jobs (or ends them), and what they said is delivered, each within its grace.
///
/// # Errors
/// [`AgentError`] where the identity can't work at all, or where the server revoked it. A server that is away is no error.
pub async fn serve(identity: Identity, options: AgentOptions, shutdown: CancellationToken) -> Result<(), AgentError> {
    identity.server.permit(identity.plain_http)?;
    let dialer = Arc::new(options.dialer(&identity)?);
    let messenger = Messenger { dialer: Arc::clone(&dialer), agent_token: identity.agent_token.clone() };
    options.runner.connect(Arc::new(messenger));
    let member =
        Member { host_id: identity.host_id, host_name: identity.host_name, agent_token: identity.agent_token.clone() };
    let duties = Duties::take_up(member, &options, shutdown.clone())?;
    let (runner, outbox) = (Arc::clone(&duties.runner), duties.outbox.clone());
    let parts =
        Parts { dialer, agent_token: identity.agent_token, state_dir: options.state_dir, duties: duties.clone() };
    let stop = CancellationToken::new();
    let mut link = Box::pin(link::run(parts, Backoff::new(options.backoff, options.entropy), stop.clone()));
    let drained = async {
        shutdown.cancelled().await;
        tracing::info!("stopping: what runs goes on without the agent");
        // What runs on is the next process's: a sink that goes away now says nothing of its job's end.
        outbox.close();
        runner.drain(options.drain_grace).await;
        if tokio::time::timeout(DELIVERY_GRACE, outbox.delivered()).await.is_err() {
            tracing::warn!("stopping although the server has not confirmed everything that jobs said last");
        }
    };
    let ended = tokio::select! {
        result = &mut link => {
            outbox.close();
            runner.drain(options.drain_grace).await;
            result
        }
        () = drained => {
            stop.cancel();
            link.await
        }
        never = duties.follow_schedules() => match never {},
        () = outbox.keep_synced() => Ok(()),
    };
    // What was said last, also where the server was away.
    blocking(|| outbox.flush());
    ended
}
