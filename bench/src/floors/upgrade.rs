//! The floor of a fleet that comes back: TCP, the HTTP upgrade, a hello that is read and a welcome that is sent, and nothing looked up.

use flotilla_proto::{ProtocolVersion, ServerMessage, Welcome};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpSocket, task::JoinSet};
use tokio_tungstenite::{accept_async_with_config, tungstenite::Message};

use crate::{child, floors::Listening, server, socket};

pub(super) async fn run() -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    // As many may wait as at the product.
    let listener = socket.listen(4096)?;
    child::ready(&Listening { url: format!("http://{}", listener.local_addr()?) })?;
    let mut connections = JoinSet::new();
    let mut released = Box::pin(child::until_released());
    loop {
        tokio::select! {
            () = &mut released => return Ok(()),
            accepted = listener.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                connections.spawn(welcome(stream));
            }
        }
    }
}

async fn welcome(stream: tokio::net::TcpStream) -> anyhow::Result<()> {
    let mut socket = accept_async_with_config(stream, Some(socket::config(4096))).await?;
    socket.next().await;
    let welcome = Welcome {
        protocol: ProtocolVersion(1),
        host_id: server::host_id(0),
        heartbeat_s: 15,
        acked: std::collections::BTreeMap::new(),
        finished: Vec::new(),
    };
    socket.send(Message::Text(ServerMessage::Welcome(welcome).encode("")?.into())).await?;
    // The end and an error are the same here.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
