//! The floor of fan-out: WebSockets without HTTP around them. What comes in at `/in` goes through one `broadcast` ring to everyone at `/out`, drained
//! and flushed once per wake-up. Nothing is parsed, stored or acknowledged.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast::{Sender, channel, error::RecvError},
    task::JoinSet,
};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::server::{Request, Response},
    },
};

use crate::{child, floors::Listening, socket};

/// As deep as the product's.
const DEPTH: usize = 64;

pub(super) async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    child::ready(&Listening { url: format!("http://{}", listener.local_addr()?) })?;
    let ring = channel::<Utf8Bytes>(DEPTH).0;
    let mut connections = JoinSet::new();
    let mut released = Box::pin(child::until_released());
    loop {
        tokio::select! {
            () = &mut released => return Ok(()),
            accepted = listener.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                let ring = ring.clone();
                // A connection that breaks is the client's to notice.
                connections.spawn(async move { serve(stream, ring).await.ok() });
            }
        }
    }
}

async fn serve(stream: TcpStream, ring: Sender<Utf8Bytes>) -> anyhow::Result<()> {
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's callback is of this type")]
    let look = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let mut socket = accept_hdr_async_with_config(stream, look, Some(socket::config(4096))).await?;
    if path == "/in" {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                // Nobody watches yet: then nobody misses it.
                ring.send(text).ok();
            }
        }
        return Ok(());
    }
    let mut frames = ring.subscribe();
    // Like the product's first frame: from here on nothing is missed.
    socket.send(Message::Text(r#"{"type":"job.started"}"#.into())).await?;
    loop {
        match frames.recv().await {
            Ok(frame) => socket.feed(Message::Text(frame)).await?,
            Err(RecvError::Lagged(_)) => anyhow::bail!("a frame was lost"),
            Err(RecvError::Closed) => return Ok(()),
        }
        while let Ok(frame) = frames.try_recv() {
            socket.feed(Message::Text(frame)).await?;
        }
        socket.flush().await?;
    }
}
