//! The TCP connection below the protocol. It can be cut from outside, gives up where nothing goes out any more, and remembers what came first.
//!
//! The library drives a connection in a task of its own; that this stream fails when cut is what ends that task for certain.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long the network may take nothing of what is to be sent.
const STALLED: Duration = Duration::from_secs(40);
/// How much of the peer's first bytes is kept for a text.
const GREETING_BYTES: usize = 80;

/// See the module.
pub(super) struct Wire {
    tcp: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    stalled: Option<Pin<Box<Sleep>>>,
    greeting: Arc<OnceLock<Vec<u8>>>,
}

impl Wire {
    /// `greeting` gets the first bytes that come.
    pub(super) fn new(tcp: TcpStream, cut: CancellationToken, greeting: Arc<OnceLock<Vec<u8>>>) -> Self {
        Self { tcp, cut: Box::pin(cut.cancelled_owned()), stalled: None, greeting }
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn outgoing<T>(&mut self, context: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.stalled = None;
            return sent;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.is_cut(context)?;
        let before = into.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(context, into);
        let came = &into.filled()[before..];
        if !came.is_empty() {
            self.greeting.get_or_init(|| came[..came.len().min(GREETING_BYTES)].to_vec());
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_cut(context)?;
        let sent = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.outgoing(context, sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_read_that_waits_ends_when_the_wire_is_cut() {
        let (near, mut far) = pair().await;
        let (cut, greeting) = (CancellationToken::new(), Arc::new(OnceLock::new()));
        let mut wire = Wire::new(near, cut.clone(), Arc::clone(&greeting));
        far.write_all(b"SSH-2.0-x").await.unwrap();
        let mut bytes = [0; 9];
        wire.read_exact(&mut bytes).await.unwrap();
        let read = async { wire.read(&mut [0; 9]).await };
        let (read, ()) = tokio::join!(read, async { cut.cancel() });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(greeting.get().unwrap(), b"SSH-2.0-x");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_takes_nothing_is_given_up() {
        let (near, _far) = pair().await;
        let mut wire = Wire::new(near, CancellationToken::new(), Arc::default());
        let full = loop {
            if let Err(error) = wire.write_all(&[0; 1 << 20]).await {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
    }
}
