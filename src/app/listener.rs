//! The way in: one listening socket, TLS or not, HTTP/1.1 with upgrades. Handshakes run beside each other, each with a deadline, so that a client that
//! says nothing holds up nobody; every connection is a task of the house and ends with it.
//!
//! There are never more connections than files may be open: past that nothing is accepted, new clients wait in the system's queue of [`BACKLOG`], and
//! beyond that they are told nothing and try again, as TCP does. Agents get at most [`for_agents`] of them, so that people always find one.

mod held;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use held::HeldStream;

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::lifecycle::Tasks;

/// Connections that may wait to be accepted: a fleet that comes back at once.
const BACKLOG: u32 = 4096;
/// Files that are open for other things: the database, its copies, assets, agents of the same process.
const OTHER_FILES: usize = 200;
/// Connections where the system does not say how many files may be open.
const USUAL: usize = 16_384;
/// TLS handshakes at the same time; the rest wait their turn, and their clients with them.
const HANDSHAKES: usize = 256;
/// Connections at most, however many files may be open: a semaphore counts no further than that, and no machine holds as many.
const MOST: usize = 1 << 20;
/// How long a client may take for its handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connections that this process can hold: as many files as it may have open, less what else needs one. Raises the soft limit to the hard one
/// first: service managers keep the soft one at 1,024 for the sake of programs that can't count further.
pub(super) fn bound() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = maximum.is_none_or(|maximum| current.is_some_and(|current| current < maximum))
            && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
        let files = if raised { maximum } else { current };
        let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(USUAL);
        // Half of a tiny limit is left for the rest.
        files.saturating_sub(OTHER_FILES).max(files / 2).clamp(16, MOST)
    }
    #[cfg(not(unix))]
    {
        USUAL
    }
}

/// Those of `bound` connections that agents may have; the others are people's and scripts'.
pub(super) fn for_agents(bound: usize) -> usize {
    bound - (bound / 10).clamp(4, 512)
}

/// Binds the address.
///
/// # Errors
/// The system's: in use, not allowed, not there.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for old connections to time out. On Windows this option means something else.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the stop.
pub(super) async fn serve(
    listener: TcpListener,
    bound: usize,
    tls: Option<Arc<ServerConfig>>,
    service: Router,
    tasks: Tasks,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let places = Arc::new(Semaphore::new(bound));
    loop {
        if places.available_permits() == 0 {
            tracing::warn!(
                bound,
                "as many connections as files may be open: new ones wait until some end; raise the limit (LimitNOFILE)"
            );
        }
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = tasks.stopping() => return,
            next = next => next,
        };
        let Ok(place) = place else { return };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection { peer, service: service.clone(), tasks: tasks.clone() };
                tasks.spawn(connection.open(stream, place, acceptor.clone(), handshakes.clone()));
            }
            Err(e) => {
                // Out of file descriptors, mostly: accepting again at once would only spin.
                tracing::error!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Serves what comes in by the door within the process, until the stop.
pub(super) async fn serve_within(mut inside: mpsc::Receiver<DuplexStream>, service: Router, tasks: Tasks) {
    let peer = SocketAddr::from(([127, 0, 0, 1], 0));
    loop {
        let stream = tokio::select! {
            () = tasks.stopping() => return,
            stream = inside.recv() => stream,
        };
        let Some(stream) = stream else { return };
        let connection = Connection { peer, service: service.clone(), tasks: tasks.clone() };
        tasks.spawn(connection.serve(stream));
    }
}

struct Connection {
    peer: SocketAddr,
    service: Router,
    tasks: Tasks,
}

impl Connection {
    async fn open(
        self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        acceptor: Option<TlsAcceptor>,
        handshakes: Arc<Semaphore>,
    ) {
        // Without it a small frame waits for the acknowledgement of the one before.
        stream.set_nodelay(true).ok();
        let stream = HeldStream::new(stream, place);
        let Some(acceptor) = acceptor else { return self.serve(stream).await };
        let Ok(permit) = handshakes.acquire_owned().await else { return };
        let secured = Box::pin(timeout(PATIENCE, acceptor.accept(stream))).await;
        drop(permit);
        match secured {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(e)) => tracing::debug!(peer = %self.peer, error = %e, "a TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer, "a TLS handshake took too long"),
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let peer = self.peer;
        let router = TowerToHyperService::new(self.service);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // Boxed, so that the task of an upgraded connection is small again once this is over.
        let mut connection = Box::pin(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.tasks.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = ended {
            tracing::debug!(%peer, error = %e, "a connection ended badly");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    async fn ask(client: &mut TcpStream) {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        answered(client).await;
    }

    /// Waits for the end of an answer.
    async fn answered(client: &mut TcpStream) {
        let (mut text, mut part) = (Vec::new(), [0; 1024]);
        while !text.ends_with(b"here") {
            let n = timeout(SOON, client.read(&mut part)).await.unwrap().unwrap();
            assert!(n > 0, "closed after {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&part[..n]);
        }
    }

    #[tokio::test]
    async fn a_connection_past_the_bound_waits_until_another_ends_and_those_that_are_open_go_on() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        let router = Router::new().route("/", get(async || "here"));
        tasks.spawn(serve(listener, 2, None, router, tasks.clone()));
        let (mut one, mut two) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        ask(&mut one).await;
        ask(&mut two).await;
        // The system takes it; nobody here does.
        let mut three = TcpStream::connect(address).await.unwrap();
        three.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        for _ in 0..50 {
            ask(&mut one).await;
            ask(&mut two).await;
        }
        let early = three.try_read(&mut [0; 1]);
        assert_eq!(early.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(one);
        answered(&mut three).await;
        ask(&mut two).await;
        tasks.stop();
    }

    #[test]
    fn some_connections_are_never_for_agents() {
        assert_eq!([16, 1000, 100_000].map(for_agents), [12, 900, 99_488]);
    }
}
