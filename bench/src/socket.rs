//! WebSockets of clients: small buffers, no delay, plain or pinned TLS as the agent dials it.

use anyhow::Context as _;
use flotilla_agent::dial::{Connection, Dialer, ProxySettings};
use futures_util::StreamExt as _;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

/// A client's connection.
pub(crate) type Socket = WebSocketStream<Connection>;

/// Buffers that do not cost more than the traffic: the default of 128 KiB is zeroed before each read.
pub(crate) fn config(read_buffer: usize) -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(read_buffer).write_buffer_size(16 * 1024)
}

/// Opens `path` of the server at `url` with a bearer token.
pub(crate) async fn open(dialer: &Dialer, path: &str, token: &str, read_buffer: usize) -> anyhow::Result<Socket> {
    let stream = dialer.connect().await?;
    let mut request = format!("ws://bench{path}").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let opened = client_async_with_config(request, stream, Some(config(read_buffer))).await;
    Ok(opened.with_context(|| format!("no WebSocket at {path}"))?.0)
}

/// Dials the server at `url`.
pub(crate) fn dialer(url: &str, ca_fingerprint: Option<&str>) -> anyhow::Result<Dialer> {
    let pinned = ca_fingerprint.map(str::parse).transpose()?;
    Ok(Dialer::new(&url.parse()?, pinned, &ProxySettings::none())?)
}

/// The next text, past pings.
pub(crate) async fn next_text(socket: &mut Socket) -> anyhow::Result<Utf8Bytes> {
    loop {
        match socket.next().await.context("the server closed the connection")?? {
            Message::Text(text) => return Ok(text),
            Message::Close(frame) => anyhow::bail!("the server closed the connection: {frame:?}"),
            _ => {}
        }
    }
}
