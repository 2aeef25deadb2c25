//! Asks a host whether it can be reached, and how: over SSH, and by one request to its management interface. Nothing is changed there, nothing is kept, and each question has an end of its own.
//! A host that did not prove its key is told nothing.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flotilla_agent::{
    dial::{Connection, DialError, Dialer, ProxySettings},
    server_url::ServerUrl,
    ssh::{HostKey, KeyError, Probe, Ssh, SshError, SshKey, SshTarget, Stage, Timeouts},
};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::domain::{
    Secret,
    facet::{ApiFacet, SshFacet},
    reach::Facet,
};

/// All of a host's test is over by then.
pub const PATIENCE: Duration = Duration::from_secs(18);
/// So long a look at a host's key takes at most.
const GLANCE: Duration = Duration::from_secs(8);

/// What a host answered over SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshFound {
    /// `ok`, `untrusted`, `host_key_changed`, `refused`, `unreachable`, … and what to do.
    pub facet: Facet,
    /// The key that it showed, confirmed or not.
    pub host_key: Option<SeenKey>,
}

/// A host key that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenKey {
    /// `SHA256:…`
    pub fingerprint: String,
    /// `ssh-ed25519`, …
    pub algorithm: Option<String>,
}

/// Whether a private key's text can be used: no passphrase, not the public half.
///
/// # Errors
/// What it is instead, and what to do.
pub fn check_private_key(text: &Secret) -> Result<(), String> {
    let target = SshTarget {
        name: "host".to_owned(),
        address: "host".to_owned(),
        port: 22,
        user: "root".to_owned(),
        key: SshKey::Text(text.clone()),
        host_key: None,
    };
    match Ssh::prepare(&target, Timeouts::default()) {
        Ok(_) => Ok(()),
        Err(SshError::Key(KeyError::Passphrase { .. })) => Err(
            "has a passphrase, and nobody is there to type it: make a key without one for Flotilla (ssh-keygen -t ed25519 -N '' -f FILE), or take it off a copy (ssh-keygen -p -N '' -f FILE)"
                .to_owned(),
        ),
        Err(SshError::Key(KeyError::NotAKey { why, .. })) => Err(format!(
            "is not a private key that Flotilla can use: {why}. Ed25519, ECDSA and RSA keys in OpenSSH's formats are"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// Tries a host over SSH: network, host key, login, bash, transfers. `name` is what people call it; `key` is its private key's text, where one is kept.
pub async fn by_ssh(name: &str, ssh: &SshFacet, key: Option<Secret>) -> SshFound {
    let Some(target) = target(name, ssh, key) else {
        return SshFound {
            facet: Facet::new("key", "it has no private key: name one in the host's settings"),
            host_key: None,
        };
    };
    let seconds = Duration::from_secs;
    let timeouts = Timeouts {
        connect: seconds(8),
        handshake: seconds(8),
        authenticate: seconds(10),
        open: seconds(8),
        start: seconds(8),
        ..Timeouts::default()
    };
    // Two tests of one host must not end each other's bash.
    let mark = format!("flotilla-test-{:x}", getrandom::u64().unwrap_or_default());
    match tokio::time::timeout(PATIENCE, Ssh::probe(&target, timeouts, &mark)).await {
        Ok(probe) => found(ssh, &probe),
        Err(_) => SshFound {
            facet: Facet::new(
                "timed_out",
                format!("it answered too slowly: the test was not through within {} s", PATIENCE.as_secs()),
            ),
            host_key: None,
        },
    }
}

/// The key that a host shows when it is asked for nothing else; `None` where it can't be had in time.
pub async fn host_key(name: &str, ssh: &SshFacet, key: Option<Secret>) -> Option<SeenKey> {
    let target = SshTarget { host_key: None, ..target(name, ssh, key)? };
    let looked = tokio::time::timeout(GLANCE, Ssh::probe(&target, Timeouts::default(), "flotilla-look")).await;
    looked.ok()?.host_key.map(seen)
}

fn target(name: &str, ssh: &SshFacet, key: Option<Secret>) -> Option<SshTarget> {
    let key = match (key, &ssh.key_path) {
        (Some(text), _) => SshKey::Text(text),
        (None, Some(path)) => SshKey::Path(PathBuf::from(path)),
        (None, None) => return None,
    };
    let pin = ssh.host_key.clone();
    let host_key = pin.map(|fingerprint| HostKey { fingerprint, algorithm: ssh.host_key_algorithm.clone() });
    let (address, user) = (ssh.address.clone(), ssh.user.clone());
    Some(SshTarget { name: name.to_owned(), address, port: ssh.port, user, key, host_key })
}

fn seen(key: HostKey) -> SeenKey {
    SeenKey { fingerprint: key.fingerprint, algorithm: key.algorithm }
}

fn found(ssh: &SshFacet, probe: &Probe) -> SshFound {
    let host_key = probe.host_key.clone().map(seen);
    let facet = match (&probe.login, &probe.bash, &probe.sftp) {
        (Err(error), ..) | (Ok(()), Some(Err(error)), _) => Facet::new(state_of(error), error.to_string()),
        (Ok(()), _, Some(Err(error))) => {
            Facet::new("no_sftp", format!("commands run, but files can't go over: {error}"))
        }
        _ => {
            let warning = probe.warning.as_ref().map_or_else(String::new, |warning| format!(". But {warning}"));
            let at = crate::domain::reach::address(ssh);
            Facet::new("ok", format!("{at}: it logs in, commands run and files go over{warning}"))
        }
    };
    SshFound { facet, host_key }
}

fn state_of(error: &SshError) -> &'static str {
    match error {
        SshError::Key(_) => "key",
        SshError::Input { .. } => "invalid",
        SshError::NotResolved { .. } => "not_resolved",
        SshError::Refused { .. } => "refused",
        SshError::Unreachable { .. } => "unreachable",
        SshError::TimedOut { stage: Stage::Start, .. } | SshError::NoBash { .. } => "no_shell",
        SshError::TimedOut { .. } => "timed_out",
        SshError::NotSsh { .. } => "not_ssh",
        SshError::HostKeyUnknown { .. } => "untrusted",
        SshError::HostKeyChanged { .. } => "host_key_changed",
        SshError::AuthenticationRefused { .. } => "authentication",
        SshError::Dropped { .. } => "dropped",
        SshError::ChannelRefused { .. } => "session_refused",
        SshError::Protocol { .. } => "protocol",
    }
}

/// Asks a management interface for its base URL, with its keys: reached, and whether it takes them.
pub async fn by_api(api: &ApiFacet, secret_key: Option<&Secret>) -> Facet {
    let keys = [("public_key", api.public_key.as_deref()), ("secret_key", secret_key.map(Secret::expose))];
    let answer = match get(&api.base_url, &keys, api.tls_insecure, Duration::from_secs(10)).await {
        Ok(answer) => answer,
        Err((state, why)) => return Facet::new(state, why),
    };
    let (status, ms) = (answer.status, answer.latency.as_millis());
    match status {
        200..=299 => Facet::new("ok", format!("it answered {status} within {ms} ms")),
        300..=399 => Facet::new(
            "redirect",
            format!(
                "it answered with a redirect ({status}), which is not followed: set the base URL to where it leads"
            ),
        ),
        401 | 403 => Facet::new("unauthorized", format!("it did not accept the keys ({status}): check both of them")),
        500..=599 => Facet::new("failing", format!("it is reached, and failed ({status}): look at its own log")),
        _ => Facet::new(
            "answered",
            format!(
                "it is reached, and answered {status} to its base URL; whether the keys are right shows with the first operation"
            ),
        ),
    }
}

/// What came back.
struct Answer {
    status: u16,
    latency: Duration,
}

/// Why nothing did: a word, and a sentence.
type Failed = (&'static str, String);

async fn get(
    url: &str,
    headers: &[(&'static str, Option<&str>)],
    tls_insecure: bool,
    timeout: Duration,
) -> Result<Answer, Failed> {
    let asked = ask(url, headers, tls_insecure, timeout);
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| {
        let why =
            format!("there was no answer within {} s: it is overloaded, or a firewall drops it", timeout.as_secs());
        Err(("timed_out", why))
    })
}

async fn ask(
    url: &str,
    headers: &[(&'static str, Option<&str>)],
    tls_insecure: bool,
    timeout: Duration,
) -> Result<Answer, Failed> {
    let malformed = || ("invalid", "its address is none: correct it in the host's settings".to_owned());
    let uri: Uri = url.parse().map_err(|_| malformed())?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(malformed)?;
    let server: ServerUrl = format!("{scheme}://{authority}").parse().map_err(|_| malformed())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(header::HOST, server.host_header())
        .header(header::USER_AGENT, concat!("flotilla/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    for (name, value) in headers {
        let Some(value) = value else { continue };
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| ("invalid", format!("the {name} can't stand in a request's head: correct it")))?;
        value.set_sensitive(true);
        request = request.header(*name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| malformed())?;
    let began = Instant::now();
    let dialer = if tls_insecure { Dialer::unverified(&server) } else { verified(server).await? };
    let connection = dialer.with_deadline(timeout).connect().await.map_err(|e| unreached(&e))?;
    exchange(connection, request, began).await
}

/// The authorities of this machine are files.
async fn verified(server: ServerUrl) -> Result<Dialer, Failed> {
    let made = tokio::task::spawn_blocking(move || Dialer::new(&server, None, &ProxySettings::none())).await;
    let made = made.map_err(|_| ("tls", "the authorities of this machine could not be read".to_owned()))?;
    made.map_err(|e| unreached(&e))
}

async fn exchange(connection: Connection, request: Request<Empty<Bytes>>, began: Instant) -> Result<Answer, Failed> {
    let broke = |e: hyper::Error| ("broken", format!("the exchange broke off ({e}): does it speak HTTP at this port?"));
    let (mut sender, driver) = http1::handshake(TokioIo::new(connection)).await.map_err(broke)?;
    let answer = Box::pin(async {
        let response = sender.send_request(request).await.map_err(broke)?;
        Ok(Answer { status: response.status().as_u16(), latency: began.elapsed() })
    });
    // The connection must be driven while the answer is awaited; it may end first, with the answer already read.
    match futures_util::future::select(answer, driver).await {
        futures_util::future::Either::Left((answer, _)) => answer,
        futures_util::future::Either::Right((_, answer)) => answer.await,
    }
}

fn unreached(error: &DialError) -> Failed {
    match error {
        DialError::Resolve { host, source } => (
            "not_resolved",
            format!("the name {host} has no address ({source}): check the spelling, and DNS on the control plane"),
        ),
        DialError::Refused { target } => (
            "refused",
            format!(
                "{target} refused the connection: nothing listens there. Is its service running, and the port right?"
            ),
        ),
        DialError::TimedOut { target, seconds, stage } => (
            "timed_out",
            format!(
                "no answer from {target} within {seconds} s while {stage}: a firewall may drop it, or the machine is down"
            ),
        ),
        DialError::CertificateUnknown { host, reason, .. } => (
            "tls",
            format!(
                "the certificate of {host} is not trusted here ({reason}): install its authority on the control plane, or say that any certificate is taken"
            ),
        ),
        DialError::CertificateExpired { host, reason } => {
            ("tls", format!("the certificate of {host} is not valid at this time ({reason}): renew it there"))
        }
        DialError::Tls { host, reason } => {
            ("tls", format!("no TLS with {host}: {reason}. Does it speak https at this port?"))
        }
        other => ("unreachable", other.to_string()),
    }
}
