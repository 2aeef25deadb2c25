//! `flotilla serve`: the control plane in the foreground, until a signal.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::anyhow;
use clap::Args;
use flotilla_agent::cli::StopSignals;
use tokio_util::sync::CancellationToken;

use super::{CliError, log_to_stderr, print};
use crate::{
    app,
    clock::SystemClock,
    config::{Config, Environment, RawConfig},
    domain::Secret,
    vault::KeyOrigin,
};

/// How long connections and jobs in flight may take to end.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "FLOTILLA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the database and the keys [default: /var/lib/flotilla]
    #[arg(long, env = "FLOTILLA_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "FLOTILLA_LISTEN", value_name = "ADDR")]
    listen: Option<String>,
    /// Address under which agents and browsers reach this server, such as https://flotilla.example.org
    #[arg(long, env = "FLOTILLA_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// PEM file of the TLS certificate chain
    #[arg(long, env = "FLOTILLA_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the TLS key
    #[arg(long, env = "FLOTILLA_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Make a TLS certificate, keep it in the data folder, and print its fingerprint
    #[arg(long, env = "FLOTILLA_TLS_SELF_SIGNED")]
    tls_self_signed: bool,
    /// Serve plain HTTP to other machines: passwords and tokens travel in clear
    #[arg(long, env = "FLOTILLA_ALLOW_PLAIN_HTTP")]
    allow_plain_http: bool,
    /// Address or range (10.0.0.0/8) of a proxy in front, whose X-Forwarded-For is believed (may be given several times)
    #[arg(long, env = "FLOTILLA_TRUSTED_PROXY", value_name = "IP", value_delimiter = ',')]
    trusted_proxy: Vec<String>,
    /// Serve /metrics without a token
    #[arg(long, env = "FLOTILLA_METRICS_PUBLIC")]
    metrics_public: bool,
    /// Jobs that one host runs at once, at most 32 [default: 2]
    #[arg(long, env = "FLOTILLA_JOBS_PER_HOST", value_name = "N")]
    jobs_per_host: Option<u32>,
    /// Jobs that all hosts run at once [default: 256]
    #[arg(long, env = "FLOTILLA_JOBS_IN_ALL", value_name = "N")]
    jobs_in_all: Option<u32>,
    /// Seconds that a job waits for an agent to take it, then it is given up [default: 86400]
    #[arg(long, env = "FLOTILLA_QUEUE_EXPIRY", value_name = "SECONDS")]
    queue_expiry: Option<u64>,
    /// File of the master key [default: master.key in the data folder; or the key itself in FLOTILLA_KEY]
    #[arg(long, env = "FLOTILLA_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl ServeArgs {
    fn into_config(self) -> Result<Config, CliError> {
        let file = self.config.as_deref().map(RawConfig::from_file).transpose()?.unwrap_or_default();
        let given = RawConfig {
            data_dir: self.data_dir,
            listen: self.listen,
            public_url: self.public_url,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            // A flag that is not given leaves the file's word.
            tls_self_signed: self.tls_self_signed.then_some(true),
            allow_plain_http: self.allow_plain_http.then_some(true),
            trusted_proxies: (!self.trusted_proxy.is_empty()).then_some(self.trusted_proxy),
            metrics_public: self.metrics_public.then_some(true),
            jobs_per_host: self.jobs_per_host,
            jobs_in_all: self.jobs_in_all,
            queue_expiry: self.queue_expiry,
            key_file: self.key_file,
            key: std::env::var("FLOTILLA_KEY").ok().map(Secret::new),
            environment: Environment::of_process(),
            ..RawConfig::default()
        };
        Ok(given.over(file).validate()?)
    }
}

pub(super) async fn run(args: ServeArgs) -> Result<(), CliError> {
    log_to_stderr();
    // Before it says that it listens: whoever reads that may stop it at once, and that is a stop like any other.
    let signals = StopSignals::catch().map_err(CliError::failed)?;
    let server = app::start(args.into_config()?, Arc::new(SystemClock)).await.map_err(|e| match e {
        app::StartError::Config(e) => CliError::from(e),
        e => CliError::failed(e),
    })?;
    if let KeyOrigin::Generated(file) = &server.key_origin {
        tracing::warn!(file = %file.display(), "made a new master key: KEEP A COPY ELSEWHERE; without it no stored secret opens again");
    }
    if let Some(pin) = &server.ca_fingerprint {
        print(&format!("certificate fingerprint {pin}"))?;
    }
    if let Some(link) = &server.setup_link {
        print(&format!("make the first account at {link}"))?;
    }
    print(&format!("listening on {}", server.url))?;
    let stop = CancellationToken::new();
    tokio::select! {
        () = signals.stop(stop.clone()) => Err(CliError::Failed(anyhow!("stopped at once by a second signal"))),
        () = stop_politely(server, stop) => Ok(()),
    }
}

/// Waits for the first signal, or for a core task to give up; then ends what can be ended.
async fn stop_politely(server: app::Running, signal: CancellationToken) {
    tokio::select! {
        () = signal.cancelled() => {}
        () = server.tasks.stopping() => {}
    }
    tracing::info!("stopping");
    if !server.stop(GRACE).await {
        tracing::warn!("some connections did not end in time and were cut off");
    }
}
