//! From a server's address to an open, trusted byte stream: TCP, an HTTP CONNECT proxy where the environment names one, TLS.
//! One deadline covers all of it, and every error says what happened and what to do.

mod proxy;
mod tls;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

pub use proxy::{Proxy, ProxyError, ProxySettings};
pub use tls::{Fingerprint, FingerprintError};

use crate::server_url::ServerUrl;

/// How long a whole dial may take.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// How long one of several addresses may keep the others waiting.
const PER_ADDRESS: Duration = Duration::from_secs(5);

/// Connections within the process that wait to be taken.
const AT_DOOR: usize = 16;
/// Bytes under way within the process, in each direction; the writer waits for the reader beyond that.
const IN_FLIGHT: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("cannot find the address of {host} ({source}): check the name, and this machine's DNS")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens.
    #[error("{target} refused the connection: nothing listens there; is the server running, and the port right?")]
    Refused {
        /// `host:port`.
        target: String,
    },
    /// No answer in time.
    #[error("no answer from {target} within {seconds} s while {stage}: a firewall may drop it, or the way is down")]
    TimedOut {
        /// `host:port`.
        target: String,
        /// The deadline.
        seconds: u64,
        /// What was under way.
        stage: &'static str,
    },
    /// Another failure of TCP.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// `host:port`.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The certificate's authority is unknown here.
    #[error(
        "the certificate of {host} is not trusted here ({reason}); its fingerprint is {seen}: if that is what the server printed, \
         enrol with --ca-fingerprint {seen}, else someone may be in between"
    )]
    CertificateUnknown {
        /// The server.
        host: String,
        /// What the verifier said.
        reason: String,
        /// The certificate that it showed.
        seen: Fingerprint,
    },
    /// The certificate is outside of its time.
    #[error(
        "the certificate of {host} is not valid at this time ({reason}): renew it at the server, or set this machine's clock"
    )]
    CertificateExpired {
        /// The server.
        host: String,
        /// What the verifier said.
        reason: String,
    },
    /// The pinned certificate isn't there.
    #[error(
        "{host} showed the certificate {seen}, but this agent trusts only {pinned}: if the server's certificate was renewed on purpose, \
         enrol anew with the new fingerprint, else someone may be in between"
    )]
    FingerprintMismatch {
        /// The server.
        host: String,
        /// The certificate that it showed.
        seen: Fingerprint,
        /// The one that was pinned.
        pinned: Fingerprint,
    },
    /// Another failure of TLS.
    #[error("no TLS with {host}: {reason}; does the server speak https on this port?")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
    /// No trusted authorities on this machine.
    #[error(
        "this machine has no trusted certificate authorities ({0}): install ca-certificates, or pin the server with --ca-fingerprint"
    )]
    NoRoots(String),
}

/// Knows how to reach one server. Making it reads the system's authorities once; it opens nothing.
pub struct Dialer {
    server: ServerUrl,
    proxy: Option<Proxy>,
    tls: Option<tls::Connector>,
    door: Option<Door>,
    deadline: Duration,
}

/// The way into a server that runs in the same process: no network, no TLS, no proxy.
#[derive(Debug, Clone)]
pub struct Door(mpsc::Sender<DuplexStream>);

impl Door {
    /// A door, and where the server takes what comes in by it. Few come, and at most [`AT_DOOR`] wait; one more waits until its dial is given up.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let (door, inside) = mpsc::channel(AT_DOOR);
        (Self(door), inside)
    }

    async fn connect(&self) -> Result<Connection, DialError> {
        let (near, far) = tokio::io::duplex(IN_FLIGHT);
        let closed = |_| DialError::Refused { target: "this process's own server".to_owned() };
        self.0.send(far).await.map_err(closed)?;
        Ok(Connection(Inner::Within(near)))
    }
}

impl Dialer {
    /// For `server`, by the proxy that `proxies` names for it, trusting `pinned` alone or else the system's authorities.
    ///
    /// # Errors
    /// [`DialError::Proxy`] for a proxy address that can't be used, [`DialError::NoRoots`].
    pub fn new(server: &ServerUrl, pinned: Option<Fingerprint>, proxies: &ProxySettings) -> Result<Self, DialError> {
        let tls = if server.is_tls() { Some(tls::Connector::new(pinned)?) } else { None };
        let proxy = proxies.for_server(server)?;
        Ok(Self { proxy, server: server.clone(), tls, door: None, deadline: DIAL_DEADLINE })
    }

    /// For the server of this process, which is called `server`.
    #[must_use]
    pub fn within(server: &ServerUrl, door: Door) -> Self {
        Self { server: server.clone(), proxy: None, tls: None, door: Some(door), deadline: DIAL_DEADLINE }
    }

    /// For `server`, directly, whatever certificate it shows. Only for those whose operator said so.
    #[must_use]
    pub fn unverified(server: &ServerUrl) -> Self {
        let tls = server.is_tls().then(tls::Connector::trusting_anyone);
        Self { server: server.clone(), proxy: None, tls, door: None, deadline: DIAL_DEADLINE }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The server it reaches.
    #[must_use]
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`DialError`], within the deadline.
    pub async fn connect(&self) -> Result<Connection, DialError> {
        let ends = tokio::time::Instant::now() + self.deadline;
        if let Some(door) = &self.door {
            let target = "this process's own server".to_owned();
            let late = |_| DialError::TimedOut { target, seconds: self.deadline.as_secs(), stage: "connecting" };
            return tokio::time::timeout_at(ends, door.connect()).await.map_err(late)?;
        }
        let stage = |target: String, stage| DialError::TimedOut { target, seconds: self.deadline.as_secs(), stage };
        let (target_host, target_port) = match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (self.server.host(), self.server.port()),
        };
        let target = format!("{target_host}:{target_port}");
        let tcp = match tokio::time::timeout_at(ends, connect_tcp(target_host, target_port)).await {
            Ok(result) => result?,
            Err(_) => return Err(stage(target, "connecting")),
        };
        let tcp = match &self.proxy {
            None => tcp,
            Some(proxy) => match tokio::time::timeout_at(ends, proxy.tunnel(tcp, &self.server.authority())).await {
                Ok(result) => result?,
                Err(_) => return Err(stage(target, "asking the proxy for a tunnel")),
            },
        };
        let Some(connector) = &self.tls else { return Ok(Connection(Inner::Plain(tcp))) };
        match tokio::time::timeout_at(ends, connector.connect(self.server.host(), tcp)).await {
            Ok(result) => result.map(|stream| Connection(Inner::Tls(Box::new(stream)))),
            Err(_) => Err(stage(self.server.authority(), "agreeing on TLS")),
        }
    }
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let resolve = |source| DialError::Resolve { host: host.to_owned(), source };
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(resolve)?.collect();
    let mut last = resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in &addresses {
        let target = address.to_string();
        let tcp = if addresses.len() > 1 {
            timeout(PER_ADDRESS, TcpStream::connect(address))
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
        } else {
            TcpStream::connect(address).await
        };
        match tcp.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)) {
            Ok(tcp) => return Ok(tcp),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => last = DialError::Refused { target },
            Err(source) => last = DialError::Connect { target, source },
        }
    }
    Err(last)
}

/// An open way to the server.
#[derive(Debug)]
pub struct Connection(Inner);

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Within(DuplexStream),
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Within(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Within(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Within(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Within(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// `Arc` of the provider that every TLS part is given: never the process's default.
pub(crate) fn crypto_provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
