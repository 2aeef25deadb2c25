//! A browser's WebSocket on a job's live log, and WebSockets in general.

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

use super::{api::Api, wait::PATIENCE};

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Opens a WebSocket with a bearer token; the status where it is refused.
pub(crate) async fn open(url: &str, path: &str, token: &str) -> Result<Socket, u16> {
    open_with_window(url, path, token, None).await
}

/// The same with a bound on what the system takes in for a reader that does not read, in bytes.
pub(crate) async fn open_with_window(url: &str, path: &str, token: &str, window: Option<u32>) -> Result<Socket, u16> {
    let address = url.strip_prefix("http://").unwrap();
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(window) = window {
        socket.set_recv_buffer_size(window).unwrap();
    }
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

/// What came over a socket.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame { kind: String, id: String, payload: Value },
    Closed(u16),
}

/// The next frame, or the close. A connection that breaks without one counts as closed with 1006.
pub(crate) async fn next(socket: &mut Socket) -> Heard {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("a frame in time");
        match message {
            Some(Ok(Message::Text(text))) => {
                let mut frame: Value = serde_json::from_str(&text).unwrap();
                let text = |field: &str| frame[field].as_str().unwrap_or_default().to_owned();
                return Heard::Frame { kind: text("type"), id: text("id"), payload: frame["payload"].take() };
            }
            Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Heard::Closed(1006),
        }
    }
}

/// One who watches a job.
pub(crate) struct Viewer(pub(crate) Socket);

/// All that a viewer was sent.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// Types in order, repeats in a row left out.
    pub(crate) kinds: Vec<String>,
    /// Lines as they came.
    pub(crate) lines: Vec<Value>,
    /// Lines that were named as left out.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// The end.
    pub(crate) finished: Value,
    /// How the stream was closed.
    pub(crate) code: u16,
}

impl Viewer {
    pub(crate) async fn open(api: &Api, url: &str, job: &str, after: u64) -> Self {
        Self(open(url, &format!("/api/jobs/{job}/stream?after={after}"), &api.token).await.unwrap())
    }

    /// Reads to the close.
    pub(crate) async fn read_all(mut self) -> Transcript {
        let mut all = Transcript::default();
        loop {
            match next(&mut self.0).await {
                Heard::Frame { kind, payload, .. } => all.take(kind, payload),
                Heard::Closed(code) => {
                    all.code = code;
                    return all;
                }
            }
        }
    }
}

impl Transcript {
    fn take(&mut self, kind: String, payload: Value) {
        match kind.as_str() {
            "log.stream" => self.lines.extend(payload["lines"].as_array().unwrap().iter().cloned()),
            "log.gap" => self.gaps.push((payload["from_seq"].as_u64().unwrap(), payload["to_seq"].as_u64().unwrap())),
            "job.finished" => self.finished = payload,
            _ => {}
        }
        if self.kinds.last() != Some(&kind) {
            self.kinds.push(kind);
        }
    }
}
