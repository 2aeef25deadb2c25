//! A client of the JSON API: one kept connection, one request at a time.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// An open connection. Dropping it closes it.
pub(crate) struct Api {
    requests: SendRequest<Full<Bytes>>,
    authorization: String,
    authority: Arc<str>,
    _connection: JoinSet<()>,
}

impl Api {
    /// Connects to the server at `url`, which speaks plain HTTP.
    pub(crate) async fn connect(url: &str, token: &str) -> anyhow::Result<Self> {
        let authority = url.strip_prefix("http://").context("plain HTTP only")?;
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its failure is told to the request in flight.
            connection.await.ok();
        });
        let authorization = format!("Bearer {token}");
        Ok(Self { requests, authorization, authority: authority.into(), _connection: tasks })
    }

    /// Sends a request and returns the answer's body; anything but success is an error with the body in it.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: String) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &*self.authority)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status: StatusCode = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
