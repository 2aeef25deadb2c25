//! One connection: network, keys, host key, login. Until the host key is the pinned one nothing but the key exchange is sent; what the server asks for itself
//! (forwarding, agents) is refused.

use std::{
    borrow::Cow,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use russh::{
    AlgorithmKind, ChannelOpenFailure, Error as WireError, MethodKind,
    client::{self, AuthResult, Handle, Msg},
    keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKeyWithHashAlg},
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    error::{Doing, SshError, Stage},
    key::LoadedKey,
    target::{Endpoint, HostKey, Timeouts},
    watcher::{Ended, Trouble, Watcher},
    wire::Wire,
};

pub(super) type Channel = russh::Channel<Msg>;

/// A connection used this lately is taken to stand without asking.
const FRESH: Duration = Duration::from_secs(2);
/// How long a sign of life may take before a connection is used again.
const PING: Duration = Duration::from_secs(5);
/// Unanswered questions for a sign of life; the one after them is the end.
const SILENT_QUESTIONS: usize = 2;
/// Messages of one session that wait to be read.
const BUFFERED_MESSAGES: usize = 64;
/// What the server may send of one session ahead of the reader.
const WINDOW_BYTES: u32 = 1 << 20;

/// All that is needed to connect, again and again.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) at: Arc<Endpoint>,
    pub(super) key: LoadedKey,
    pub(super) pinned: Option<HostKey>,
    pub(super) timeouts: Timeouts,
}

/// A connection that is logged in. Its socket is closed when it is dropped.
pub(super) struct Connection {
    handle: Handle<Watcher>,
    at: Arc<Endpoint>,
    host_key: HostKey,
    ended: Ended,
    used: Mutex<Instant>,
    _cut: DropGuard,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn establish(plan: &Plan) -> Result<Self, SshError> {
        let mut shaken = match shake(plan, preferred(plan.pinned.as_ref())).await {
            // The pin does not say which of the server's keys it is: each is asked for before the alarm is given.
            Err(changed @ SshError::HostKeyChanged { .. })
                if plan.pinned.as_ref().is_some_and(|pinned| pinned.algorithm.is_none()) =>
            {
                let mut found = Err(changed);
                for family in FAMILIES {
                    if let Ok(shaken) = shake(plan, family.to_vec()).await {
                        found = Ok(shaken);
                        break;
                    }
                }
                found?
            }
            other => other?,
        };
        let limit = plan.timeouts.authenticate;
        match timeout(limit, log_in(&mut shaken, plan)).await {
            Ok(result) => result?,
            Err(_) => return Err(late(plan, Stage::Authentication, limit)),
        }
        let Shaken { handle, host_key, ended, cut } = shaken;
        Ok(Self { handle, at: Arc::clone(&plan.at), host_key, ended, used: Mutex::new(Instant::now()), _cut: cut })
    }

    /// What the server proved to have.
    pub(super) fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// Whether it can be used again: at once where it was used just now, else after the server answered.
    pub(super) async fn is_alive(&self) -> bool {
        if self.handle.is_closed() {
            return false;
        }
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.elapsed() < FRESH {
            return true;
        }
        let answered = matches!(timeout(PING, self.handle.send_ping()).await, Ok(Ok(())));
        answered && !self.handle.is_closed()
    }

    /// Another session on it.
    pub(super) async fn open(&self, within: Duration) -> Result<Channel, SshError> {
        let opened = timeout(within, self.handle.channel_open_session()).await;
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        match opened {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(WireError::ChannelOpenFailure(reason))) => Err(self.refused(&refusal(&reason))),
            Ok(Err(_)) => Err(self.dropped(Doing::Opening)),
            Err(_) => Err(self.late(Stage::Session, within)),
        }
    }

    /// The error of a connection that is no more.
    pub(super) fn dropped(&self, doing: Doing) -> SshError {
        let why = self.ended.get().cloned().unwrap_or_else(|| "the other side closed it".to_owned());
        SshError::Dropped { at: Arc::clone(&self.at), doing, why }
    }

    pub(super) fn late(&self, stage: Stage, after: Duration) -> SshError {
        SshError::TimedOut { at: Arc::clone(&self.at), stage, after }
    }

    pub(super) fn refused(&self, why: &str) -> SshError {
        SshError::ChannelRefused { at: Arc::clone(&self.at), why: why.to_owned() }
    }

    pub(super) fn no_bash(&self, why: String) -> SshError {
        SshError::NoBash { at: Arc::clone(&self.at), why }
    }

    /// The server closed a session and did not say how the command ended.
    pub(super) fn unsaid(&self) -> SshError {
        let why = "the server closed its session without a word".to_owned();
        SshError::Dropped { at: Arc::clone(&self.at), doing: Doing::Command, why }
    }

    /// Whether nothing can come of it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }
}

fn refusal(reason: &ChannelOpenFailure) -> String {
    match reason {
        ChannelOpenFailure::AdministrativelyProhibited => "its rules forbid it".to_owned(),
        ChannelOpenFailure::ResourceShortage => "it is short of resources".to_owned(),
        ChannelOpenFailure::ConnectFailed => "it could not open it (usually MaxSessions)".to_owned(),
        other => format!("{other:?}"),
    }
}

fn late(plan: &Plan, stage: Stage, after: Duration) -> SshError {
    SshError::TimedOut { at: Arc::clone(&plan.at), stage, after }
}

const ECDSA: [Algorithm; 3] = [
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];
/// Signatures with SHA-1 (`ssh-rsa`) are not among them.
const RSA: [Algorithm; 2] =
    [Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, Algorithm::Rsa { hash: Some(HashAlg::Sha256) }];
const FAMILIES: [&[Algorithm]; 3] = [&[Algorithm::Ed25519], &ECDSA, &RSA];

/// The host keys to ask for: the pinned one's kind first.
fn preferred(pinned: Option<&HostKey>) -> Vec<Algorithm> {
    let wanted = pinned.and_then(|pinned| pinned.algorithm.as_deref());
    let is_wanted = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rsa { .. } => wanted == Some("ssh-rsa"),
        other => wanted == Some(other.as_str()),
    };
    let mut all: Vec<Algorithm> = FAMILIES.concat();
    all.sort_by_key(|algorithm| !is_wanted(algorithm));
    all
}

struct Shaken {
    handle: Handle<Watcher>,
    host_key: HostKey,
    ended: Ended,
    cut: DropGuard,
}

/// Up to common keys and the host key checked.
async fn shake(plan: &Plan, algorithms: Vec<Algorithm>) -> Result<Shaken, SshError> {
    let tcp = dial(plan).await?;
    let cut = CancellationToken::new();
    let guard = cut.clone().drop_guard();
    let greeting = Arc::new(OnceLock::new());
    let ended = Ended::default();
    let offered = Arc::new(OnceLock::new());
    let watcher = Watcher {
        at: Arc::clone(&plan.at),
        pinned: plan.pinned.clone(),
        offered: Arc::clone(&offered),
        ended: Arc::clone(&ended),
    };
    let wire = Wire::new(tcp, cut, Arc::clone(&greeting));
    let limit = plan.timeouts.handshake;
    let connecting = client::connect_stream(Arc::new(config(plan, algorithms)), wire, watcher);
    let handle = match timeout(limit, connecting).await {
        Ok(Ok(handle)) => handle,
        Ok(Err(Trouble::HostKey(error))) => return Err(*error),
        Ok(Err(Trouble::Wire(error))) => return Err(misunderstood(plan, error, &greeting, &ended)),
        Err(_) => {
            let stage = if greeting.get().is_some() { Stage::KeyExchange } else { Stage::Banner };
            return Err(late(plan, stage, limit));
        }
    };
    let Some(host_key) = offered.get().cloned() else {
        return Err(SshError::Protocol { at: Arc::clone(&plan.at), why: "the server showed no host key".into() });
    };
    Ok(Shaken { handle, host_key, ended, cut: guard })
}

fn config(plan: &Plan, algorithms: Vec<Algorithm>) -> client::Config {
    client::Config {
        client_id: russh::SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-Flotilla_", env!("CARGO_PKG_VERSION")))),
        window_size: WINDOW_BYTES,
        channel_buffer_size: BUFFERED_MESSAGES,
        preferred: russh::Preferred { key: Cow::Owned(algorithms), ..russh::Preferred::default() },
        keepalive_interval: Some(plan.timeouts.alive),
        keepalive_max: SILENT_QUESTIONS,
        nodelay: true,
        ..client::Config::default()
    }
}

async fn dial(plan: &Plan) -> Result<TcpStream, SshError> {
    let at = || Arc::clone(&plan.at);
    let limit = plan.timeouts.connect;
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> =
        match timeout_at(deadline, lookup_host((plan.at.address.as_str(), plan.at.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(SshError::NotResolved { at: at(), why: error.to_string() }),
            Err(_) => return Err(SshError::NotResolved { at: at(), why: "the resolver does not answer".into() }),
        };
    let mut failed = SshError::NotResolved { at: at(), why: "the name has no address".into() };
    for address in addresses {
        failed = match timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Only slower without.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => SshError::Refused { at: at() },
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => late(plan, Stage::Connect, limit),
            Ok(Err(error)) => SshError::Unreachable { at: at(), why: error.to_string() },
            Err(_) => late(plan, Stage::Connect, limit),
        };
    }
    Err(failed)
}

/// Why there was no key exchange.
fn misunderstood(plan: &Plan, error: WireError, greeting: &OnceLock<Vec<u8>>, ended: &Ended) -> SshError {
    let at = Arc::clone(&plan.at);
    match greeting.get() {
        Some(said) if !said.starts_with(b"SSH-") => {
            let said = String::from_utf8_lossy(said);
            return SshError::NotSsh { at, said: said.lines().next().unwrap_or_default().to_owned() };
        }
        _ => {}
    }
    match error {
        WireError::NoCommonAlgo { kind, ours, theirs } => {
            let kind = match kind {
                AlgorithmKind::Kex => "key exchange",
                AlgorithmKind::Key => "host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Mac => "checksum",
                AlgorithmKind::Compression => "compression",
            };
            let why =
                format!("no {kind} in common: Flotilla knows {}, the server {}", ours.join(", "), theirs.join(", "));
            SshError::Protocol { at, why }
        }
        WireError::HUP | WireError::Disconnect | WireError::IO(_) | WireError::SendError => {
            let why = match error {
                WireError::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.to_string(),
                _ => ended.get().cloned().unwrap_or_else(|| "the other side closed it".to_owned()),
            };
            SshError::Dropped { at, doing: Doing::Handshake, why }
        }
        other => SshError::Protocol { at, why: other.to_string() },
    }
}

async fn log_in(shaken: &mut Shaken, plan: &Plan) -> Result<(), SshError> {
    let key = &plan.key.key;
    let refused = |why: &str, methods: Vec<String>| SshError::AuthenticationRefused {
        at: Arc::clone(&plan.at),
        why: why.to_owned(),
        methods,
    };
    let hashes: &[Option<HashAlg>] = if key.algorithm().is_rsa() {
        match shaken.handle.best_supported_rsa_hash().await {
            Ok(Some(Some(HashAlg::Sha256))) => &[Some(HashAlg::Sha256)],
            Ok(Some(Some(_))) => &[Some(HashAlg::Sha512)],
            Ok(Some(None)) => {
                return Err(refused("it takes RSA keys only with SHA-1, which is broken. Use an Ed25519 key", vec![]));
            }
            // It does not say.
            Ok(None) => &[Some(HashAlg::Sha512), Some(HashAlg::Sha256)],
            Err(_) => &[],
        }
    } else {
        &[None]
    };
    let mut methods = Vec::new();
    for hash in hashes {
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), *hash);
        match shaken.handle.authenticate_publickey(plan.at.user.clone(), key).await {
            Ok(AuthResult::Success) => return Ok(()),
            Ok(AuthResult::Failure { partial_success: true, remaining_methods }) => {
                let methods = names(&remaining_methods);
                return Err(refused(
                    &format!(
                        "the key is taken, and the server wants {} too, which Flotilla can't give",
                        methods.join(", ")
                    ),
                    methods,
                ));
            }
            Ok(AuthResult::Failure { remaining_methods, .. }) => methods = names(&remaining_methods),
            Err(_) => break,
        }
    }
    if shaken.handle.is_closed() && methods.is_empty() {
        let why = shaken.ended.get().cloned().unwrap_or_else(|| "the other side closed it".to_owned());
        return Err(SshError::Dropped { at: Arc::clone(&plan.at), doing: Doing::Authentication, why });
    }
    let why = if methods.iter().any(|method| method == "publickey") {
        format!("it does not take this {} key for the user {}", key.algorithm().as_str(), plan.at.user)
    } else {
        format!(
            "it takes no keys at all, it offers {}",
            if methods.is_empty() { "nothing".to_owned() } else { methods.join(", ") }
        )
    };
    Err(refused(&why, methods))
}

fn names(methods: &[MethodKind]) -> Vec<String> {
    methods.iter().map(|method| <&str>::from(method).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_kind_of_key_is_asked_for_first_and_sha1_never() {
        let names = |pinned: Option<&str>| -> Vec<String> {
            let pin = pinned.map(|algorithm| HostKey { fingerprint: String::new(), algorithm: Some(algorithm.into()) });
            preferred(pin.as_ref()).iter().map(|algorithm| algorithm.as_str().to_owned()).collect()
        };
        let usual = [
            "ssh-ed25519",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
            "rsa-sha2-512",
            "rsa-sha2-256",
        ];
        assert_eq!(names(None), usual);
        assert_eq!(names(Some("ssh-rsa"))[..3], ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]);
        assert_eq!(names(Some("ecdsa-sha2-nistp384"))[..2], ["ecdsa-sha2-nistp384", "ssh-ed25519"]);
    }
}
