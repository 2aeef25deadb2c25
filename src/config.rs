//! What the operator wants: flags over environment over file over defaults. [`RawConfig`] is what they wrote; [`Config`] holds only what can be used,
//! and only that one travels.

mod hosts;
mod keeping;
mod status;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    domain::{Secret, facet::input::DeclaredHost, network::Network, queue::QueueRules, standing::Thresholds},
    tls::TlsMode,
};

pub use hosts::{Environment, RawHost};
pub use keeping::{DatabaseConfig, LogsConfig, RawDatabase, RawLogs};
pub use status::RawStatus;

/// The configuration file, and the flags that override it. All optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Folder of the database and the keys.
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on.
    pub listen: Option<String>,
    /// Address under which agents and browsers reach this server.
    pub public_url: Option<String>,
    /// PEM file of the certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's key.
    pub tls_key: Option<PathBuf>,
    /// Make and keep a certificate.
    pub tls_self_signed: Option<bool>,
    /// Serve plain HTTP to other machines.
    pub allow_plain_http: Option<bool>,
    /// Addresses, or ranges such as `10.0.0.0/8`, of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Option<Vec<String>>,
    /// Serve `/metrics` without a token.
    pub metrics_public: Option<bool>,
    /// Jobs that one host runs at once.
    pub jobs_per_host: Option<u32>,
    /// Jobs that all hosts run at once.
    pub jobs_in_all: Option<u32>,
    /// Seconds that a job waits for an agent to take it.
    pub queue_expiry: Option<u64>,
    /// File of the master key.
    pub key_file: Option<PathBuf>,
    /// Copies of the database.
    pub database: Option<RawDatabase>,
    /// How long logs are kept.
    pub logs: Option<RawLogs>,
    /// The agent that runs in this process.
    pub own_agent: Option<RawOwnAgent>,
    /// Hosts that are there without anyone adding them: `[[hosts]]`.
    pub hosts: Option<Vec<RawHost>>,
    /// Variables of the environment, of which some declare hosts.
    #[serde(skip)]
    pub environment: Environment,
    /// From where on a host's figures are worth a colour.
    pub status: Option<RawStatus>,
    /// The master key itself; by `FLOTILLA_KEY` only.
    #[serde(skip)]
    pub key: Option<Secret>,
}

/// `[own_agent]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOwnAgent {
    /// Whether it runs; it does where absent.
    pub enabled: Option<bool>,
}

/// Why the configuration can't be used. Every text names the key and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("the configuration file {path} is not valid: {reason}", path = path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line and reason.
        reason: String,
    },
    /// A value that can't be used.
    #[error("`{key}` is not valid: {reason}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong, what would be right.
        reason: String,
    },
    /// A declared host can't be used.
    #[error("`{key}` is not valid: {reason}")]
    Host {
        /// Which variable, or which key of the file.
        key: String,
        /// What is wrong, what would be right.
        reason: String,
    },
    /// Plain HTTP would leave the machine.
    #[error(
        "refusing to serve plain HTTP on {0}: passwords and tokens would travel in clear. Use --tls-cert and --tls-key, or --tls-self-signed; \
         or name the proxy in front with --trusted-proxy; or say --allow-plain-http"
    )]
    PlainHttp(SocketAddr),
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the database and the keys.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Address under which agents and browsers reach this server, without a slash at the end; `None`: made from `listen`.
    pub public_url: Option<String>,
    /// How connections are secured.
    pub tls: TlsMode,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether `/metrics` needs no token.
    pub metrics_public: bool,
    /// Jobs that one host runs at once.
    pub jobs_per_host: u32,
    /// Jobs that all hosts run at once.
    pub jobs_in_all: u32,
    /// How long a job waits for an agent to take it.
    pub queue_expiry: Duration,
    /// The master key, where it is given.
    pub key: Option<Secret>,
    /// File of the master key.
    pub key_file: PathBuf,
    /// Copies of the database.
    pub database: DatabaseConfig,
    /// How long logs are kept.
    pub logs: LogsConfig,
    /// Whether an agent runs in this process: it tests repositories, looks after them, and restores where no host can.
    pub own_agent: bool,
    /// Hosts that are declared.
    pub hosts: Vec<DeclaredHost>,
    /// From where on a host's figures are worth a colour.
    pub status: Thresholds,
}

impl RawConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with the line, for unknown keys too.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|e| ConfigError::Parse { path: path.to_owned(), reason: e.to_string() })
    }

    /// This configuration, with `base` where it says nothing.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(base.data_dir),
            listen: self.listen.or(base.listen),
            public_url: self.public_url.or(base.public_url),
            tls_cert: self.tls_cert.or(base.tls_cert),
            tls_key: self.tls_key.or(base.tls_key),
            tls_self_signed: self.tls_self_signed.or(base.tls_self_signed),
            allow_plain_http: self.allow_plain_http.or(base.allow_plain_http),
            trusted_proxies: self.trusted_proxies.or(base.trusted_proxies),
            metrics_public: self.metrics_public.or(base.metrics_public),
            jobs_per_host: self.jobs_per_host.or(base.jobs_per_host),
            jobs_in_all: self.jobs_in_all.or(base.jobs_in_all),
            queue_expiry: self.queue_expiry.or(base.queue_expiry),
            key_file: self.key_file.or(base.key_file),
            database: self.database.or(base.database),
            logs: self.logs.or(base.logs),
            own_agent: self.own_agent.or(base.own_agent),
            hosts: self.hosts.or(base.hosts),
            environment: if self.environment.is_empty() { base.environment } else { self.environment },
            status: self.status.or(base.status),
            key: self.key.or(base.key),
        }
    }

    /// The folder of the database: all that the commands beside `serve` need.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/flotilla"))
    }

    /// Checks everything before anything is opened.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that can't be used.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let data_dir = self.data_dir();
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:8080");
        let listen: SocketAddr = listen.parse().map_err(|_| ConfigError::Value {
            key: "listen",
            reason: format!("{listen:?} is not an address and a port, such as 127.0.0.1:8080 or [::]:8443"),
        })?;
        let tls = tls_mode(self.tls_cert, self.tls_key, self.tls_self_signed.unwrap_or(false))?;
        let trusted_proxies = proxies(&self.trusted_proxies.unwrap_or_default())?;
        let plain_is_fine =
            listen.ip().is_loopback() || !trusted_proxies.is_empty() || self.allow_plain_http.unwrap_or(false);
        if tls == TlsMode::Plain && !plain_is_fine {
            return Err(ConfigError::PlainHttp(listen));
        }
        let public_url = self.public_url.map(|url| public_url(&url)).transpose()?;
        let key_file = self.key_file.unwrap_or_else(|| data_dir.join("master.key"));
        let usual = QueueRules::default();
        let queue_expiry = self.queue_expiry.unwrap_or(usual.expiry_s);
        let metrics_public = self.metrics_public.unwrap_or(false);
        let hosts = hosts::declared(self.hosts.unwrap_or_default(), &self.environment)?;
        Ok(Config {
            hosts,
            data_dir,
            listen,
            public_url,
            tls,
            trusted_proxies,
            metrics_public,
            // An agent's link takes 64 frames at once.
            jobs_per_host: at_once("jobs_per_host", self.jobs_per_host.unwrap_or(usual.per_host), 32)?,
            jobs_in_all: at_once("jobs_in_all", self.jobs_in_all.unwrap_or(usual.in_all), 100_000)?,
            queue_expiry: expiry(queue_expiry)?,
            key: self.key,
            key_file,
            database: self.database.unwrap_or_default().validate()?,
            logs: self.logs.unwrap_or_default().validate()?,
            own_agent: self.own_agent.and_then(|own| own.enabled).unwrap_or(true),
            status: self.status.unwrap_or_default().validate()?,
        })
    }
}

fn tls_mode(cert: Option<PathBuf>, key: Option<PathBuf>, self_signed: bool) -> Result<TlsMode, ConfigError> {
    match (cert, key, self_signed) {
        (None, None, false) => Ok(TlsMode::Plain),
        (None, None, true) => Ok(TlsMode::SelfSigned),
        (Some(cert), Some(key), false) => Ok(TlsMode::Files { cert, key }),
        (Some(_), None, _) => {
            Err(ConfigError::Value { key: "tls_key", reason: "it is missing beside tls_cert".to_owned() })
        }
        (None, Some(_), _) => {
            Err(ConfigError::Value { key: "tls_cert", reason: "it is missing beside tls_key".to_owned() })
        }
        (Some(_), Some(_), true) => Err(ConfigError::Value {
            key: "tls_self_signed",
            reason: "it cannot be used together with tls_cert and tls_key".to_owned(),
        }),
    }
}

fn at_once(key: &'static str, jobs: u32, most: u32) -> Result<u32, ConfigError> {
    if !(1..=most).contains(&jobs) {
        return Err(ConfigError::Value { key, reason: format!("{jobs} jobs at once; it must be 1 to {most}") });
    }
    Ok(jobs)
}

fn expiry(seconds: u64) -> Result<Duration, ConfigError> {
    const RANGE: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 3600;
    if !RANGE.contains(&seconds) {
        let reason = format!("{seconds} seconds; it must be {} (a minute) to {} (30 days)", RANGE.start(), RANGE.end());
        return Err(ConfigError::Value { key: "queue_expiry", reason });
    }
    Ok(Duration::from_secs(seconds))
}

fn proxies(texts: &[String]) -> Result<Vec<Network>, ConfigError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|reason| ConfigError::Value { key: "trusted_proxies", reason }))
        .collect()
}

fn public_url(text: &str) -> Result<String, ConfigError> {
    let url = text.trim().trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => Ok(url.to_owned()),
        _ => Err(ConfigError::Value {
            key: "public_url",
            reason: format!("{text:?} is not of the form https://flotilla.example.org or http://10.0.0.1:8080"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(on: &str) -> RawConfig {
        RawConfig { listen: Some(on.to_owned()), ..RawConfig::default() }
    }

    #[test]
    fn plain_http_is_refused_beyond_loopback_unless_someone_answers_for_it() {
        assert!(matches!(listening("0.0.0.0:8080").validate(), Err(ConfigError::PlainHttp(_))));
        assert!(listening("127.0.0.1:8080").validate().is_ok());
        assert!(listening("[::1]:8080").validate().is_ok());
        assert!(RawConfig { allow_plain_http: Some(true), ..listening("0.0.0.0:80") }.validate().is_ok());
        assert!(RawConfig { tls_self_signed: Some(true), ..listening("0.0.0.0:443") }.validate().is_ok());
        let behind = RawConfig { trusted_proxies: Some(vec!["10.0.0.2".to_owned()]), ..listening("0.0.0.0:80") };
        assert!(behind.validate().is_ok());
    }

    #[test]
    fn a_value_that_cannot_be_used_names_its_key() {
        for (raw, key) in [
            (listening("localhost"), "listen"),
            (RawConfig { tls_cert: Some("c".into()), ..RawConfig::default() }, "tls_key"),
            (RawConfig { tls_key: Some("c".into()), ..RawConfig::default() }, "tls_cert"),
            (RawConfig { public_url: Some("flotilla.example".into()), ..RawConfig::default() }, "public_url"),
            (RawConfig { trusted_proxies: Some(vec!["proxy".into()]), ..RawConfig::default() }, "trusted_proxies"),
            (RawConfig { jobs_per_host: Some(0), ..RawConfig::default() }, "jobs_per_host"),
            (RawConfig { jobs_per_host: Some(33), ..RawConfig::default() }, "jobs_per_host"),
            (RawConfig { jobs_in_all: Some(0), ..RawConfig::default() }, "jobs_in_all"),
            (RawConfig { queue_expiry: Some(5), ..RawConfig::default() }, "queue_expiry"),
        ] {
            assert!(matches!(raw.validate(), Err(ConfigError::Value { key: named, .. }) if named == key), "{key}");
        }
    }

    #[test]
    fn the_own_agent_runs_unless_the_file_says_otherwise() {
        assert!(RawConfig::default().validate().unwrap().own_agent);
        let off: RawConfig = toml::from_str("[own_agent]\nenabled = false").unwrap();
        assert!(!off.validate().unwrap().own_agent);
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: RawConfig = toml::from_str("listen = \"127.0.0.1:1\"\npublic_url = \"https://a.example\"").unwrap();
        let config = listening("127.0.0.1:2").over(file).validate().unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.public_url.as_deref(), Some("https://a.example"));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flotilla.toml");
        fs::write(&path, "listn = \"127.0.0.1:1\"").unwrap();
        assert!(RawConfig::from_file(&path).unwrap_err().to_string().contains("listn"));
    }
}
