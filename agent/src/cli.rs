//! The agent's commands, shared by `flotilla-agent` and `flotilla agent`: arguments, and what they do. Prints nothing; a result or an
//! error is one plain sentence for the caller to print.

use std::{fmt, io::Read, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use flotilla_proto::{HostId, Limits, PROTOCOL, Secret};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{Clock, SystemClock},
    dial::{Dialer, Fingerprint, ProxySettings},
    enrol::{self, EnrolRequest},
    executor::{AtStop, Executor, ExecutorConfig},
    host_facts,
    identity::{Identity, IdentityError, StateDir},
    seal::Seal,
    serve::{AgentError, AgentOptions, serve},
    server_url::{PlainHttp, ServerUrl},
    spool::SpoolLimits,
};

/// Longest token read from standard input, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// `enroll`: redeem an enrolment token and write this host's identity.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// Address of the control plane, such as https://fleet.example:8443
    #[arg(long, value_name = "URL", env = "FLOTILLA_SERVER")]
    pub server: ServerUrl,
    /// Enrolment token; `-` reads it from standard input, so that it shows up in no process list
    #[arg(long, value_name = "TOKEN", env = "FLOTILLA_ENROLL_TOKEN", hide_env_values = true, value_parser = parse_secret)]
    pub token: Secret,
    /// Name of this host in Flotilla (default: its own name)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder for the agent's identity and state
    #[arg(long, value_name = "DIR", env = "FLOTILLA_AGENT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Trust only this certificate (the server's own, or the authority that signed it)
    #[arg(long, value_name = "sha256:HEX")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Allow plain http across the network. The agent's token then travels in clear
    #[arg(long)]
    pub allow_plain_http: bool,
    /// Replace the identity that this host already has
    #[arg(long)]
    pub replace: bool,
}

/// `run`: the agent, in the foreground.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Folder for the agent's identity and state
    #[arg(long, value_name = "DIR", env = "FLOTILLA_AGENT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Longest pause between two attempts to reach the server, in seconds (default: 60)
    #[arg(long, value_name = "SECONDS", env = "FLOTILLA_AGENT_RECONNECT_MAX", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub reconnect_max: Option<u64>,
    /// Most of one job's log that is kept on disk until the server has it; what comes after is counted, not kept
    #[arg(long, value_name = "MIB", env = "FLOTILLA_AGENT_SPOOL_JOB_MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub spool_job_mib: u32,
    /// The same for all jobs together
    #[arg(long, value_name = "MIB", env = "FLOTILLA_AGENT_SPOOL_TOTAL_MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub spool_total_mib: u32,
    /// What a stop of the agent means for its jobs
    #[arg(skip = AtStop::default())]
    pub at_stop: AtStop,
}

impl RunArgs {
    /// For a state folder, all else as usual.
    #[must_use]
    pub fn of(state_dir: PathBuf) -> Self {
        Self {
            state_dir: Some(state_dir),
            reconnect_max: None,
            spool_job_mib: 256,
            spool_total_mib: 1024,
            at_stop: AtStop::default(),
        }
    }
}

/// A host that has just been enrolled. Its text tells the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// Who it is.
    pub host_id: HostId,
    /// Under which name.
    pub host_name: String,
    /// At which server.
    pub server: ServerUrl,
    /// Where its identity stands.
    pub identity_path: PathBuf,
}

impl fmt::Display for Enrollment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_id, host_name, server, identity_path } = self;
        write!(f, "enrolled {host_name} at {server} as host {host_id}; the identity is in {}", identity_path.display())
    }
}

fn parse_secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::from(text))
}

fn state_dir(given: Option<PathBuf>) -> Result<StateDir, IdentityError> {
    given.map_or_else(StateDir::default_for_user, |path| Ok(StateDir::at(path)))
}

/// Redeems the token and writes the identity. Everything that can be wrong on this side is checked first: a token may be used up by one attempt.
///
/// # Errors
/// [`AgentError`] with what to do.
pub async fn enroll(args: EnrollArgs) -> Result<Enrollment, AgentError> {
    let plain_http = if args.allow_plain_http { PlainHttp::Allowed } else { PlainHttp::LoopbackOnly };
    args.server.permit(plain_http)?;
    let dialer = Dialer::new(&args.server, args.ca_fingerprint, &ProxySettings::from_env())?;
    let dir = state_dir(args.state_dir)?;
    dir.create()?;
    // Two at once, or one beside a running agent, would leave a host with an identity that nobody uses.
    let _lock = dir.lock()?;
    if !args.replace
        && let Ok(present) = dir.load()
    {
        let server = present.server.to_string();
        return Err(IdentityError::AlreadyEnrolled { path: dir.identity_path(), host: present.host_id, server }.into());
    }
    let host_name = args.name.unwrap_or_else(host_facts::hostname);
    if host_name.trim().is_empty() {
        return Err(AgentError::Usage("this machine has no name of its own: give one with --name".to_owned()));
    }
    let request = EnrolRequest {
        token: read_token(args.token)?,
        hostname: host_name.clone(),
        os: host_facts::os().to_owned(),
        arch: host_facts::arch().to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
    };
    let enrolled = enrol::enrol(&dialer, &request).await?;
    dir.save(&Identity {
        server: args.server.clone(),
        host_id: enrolled.host_id,
        agent_token: enrolled.agent_token,
        host_name: host_name.clone(),
        ca_fingerprint: args.ca_fingerprint,
        plain_http,
    })?;
    let identity_path = dir.identity_path();
    Ok(Enrollment { host_id: enrolled.host_id, host_name, server: args.server, identity_path })
}

fn read_token(given: Secret) -> Result<Secret, AgentError> {
    let text = if given.expose() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(MAX_TOKEN_BYTES).read_to_string(&mut text);
        read.map_err(|e| AgentError::Usage(format!("cannot read the enrolment token from standard input: {e}")))?;
        Secret::new(text)
    } else {
        given
    };
    match text.expose().trim() {
        "" => Err(AgentError::Usage("the enrolment token is empty: copy it from Flotilla, Hosts, Add host".to_owned())),
        token => Ok(Secret::from(token)),
    }
}

/// Runs the agent of a state folder until `shutdown`.
///
/// # Errors
/// [`AgentError`] with what to do.
pub async fn run(args: RunArgs, shutdown: CancellationToken) -> Result<(), AgentError> {
    let dir = state_dir(args.state_dir)?;
    let identity = dir.load()?;
    let _lock = dir.lock()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stamp = Arc::clone(&clock);
    let mut config = ExecutorConfig::new(dir.path().to_owned(), None, Limits::default());
    config.at_stop = args.at_stop;
    let seal = Seal::from_token(&identity.agent_token);
    let executor = Executor::new(config, seal, TaskTracker::new(), Arc::new(move || stamp.now()));
    let executor = executor.map_err(|source| AgentError::State { path: dir.path().to_owned(), source })?;
    let mut options = AgentOptions::new(dir.path(), Arc::new(executor));
    options.clock = clock;
    options.outbox.spool = SpoolLimits {
        job_bytes: u64::from(args.spool_job_mib) << 20,
        total_bytes: u64::from(args.spool_total_mib) << 20,
    };
    options.proxies = ProxySettings::from_env();
    if let Some(seconds) = args.reconnect_max {
        options.backoff.cap = Duration::from_secs(seconds);
    }
    serve(identity, options, shutdown).await
}

/// [`run`], with the process's signals as the shutdown: the first drains, the second ends at once.
///
/// # Errors
/// [`AgentError`]; [`AgentError::Interrupted`] at the second signal.
pub async fn run_until_signal(args: RunArgs, shutdown: CancellationToken) -> Result<(), AgentError> {
    let signals = StopSignals::catch().map_err(AgentError::Signals)?;
    tokio::select! {
        result = run(args, shutdown.clone()) => result,
        () = signals.stop(shutdown) => Err(AgentError::Interrupted),
    }
}

/// The process's stop signals, caught from [`StopSignals::catch`] on: one that arrives before anybody waits is kept, not fatal.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Catches SIGTERM and SIGINT (Ctrl-C elsewhere) from now on. To be called before the process says that it is ready.
    ///
    /// # Errors
    /// Where the system takes no signal handlers.
    pub fn catch() -> std::io::Result<Self> {
        Signals::new().map(Self)
    }

    /// Cancels `shutdown` at the first signal and returns at the second: then it is time to go at once.
    pub async fn stop(mut self, shutdown: CancellationToken) {
        self.0.next().await;
        shutdown.cancel();
        self.0.next().await;
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // An error here means that no handler can be set: then the agent is stopped from outside.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_that_comes_before_anybody_waits_for_it_is_kept() {
        let signals = StopSignals::catch().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        let shutdown = CancellationToken::new();
        tokio::select! {
            () = signals.stop(shutdown.clone()) => panic!("there was one signal only"),
            () = shutdown.cancelled() => {}
        }
    }
}
