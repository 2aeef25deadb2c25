//! Errands: HTTP requests of a running job to its server, with the agent's token, over the same dial as everything else. One request is one connection; the
//! answer is bounded, all of it lies within a deadline, and the token shows up in no message.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use flotilla_proto::{GuardAnswer, GuardRequest, JobId, MAX_GUARD_BYTES, Secret, guard_path};
use futures_util::{
    future::{Either, select},
    stream::poll_fn as stream_of,
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    dial::{Connection, DialError, Dialer},
    runner::BoxFuture,
};

/// Longest answer that is read, in bytes: ids of half a million snapshots.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Between two tries of an errand that can be tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why an errand came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// This agent has nobody to ask.
    #[error("this agent is not connected to a server that could be asked; run the job again once it is")]
    Nobody,
    /// The server said no, and why.
    #[error("the server said no ({status}): {reason}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        reason: String,
    },
    /// The server does not have the job as a running one of this host, or has no such errand.
    #[error(
        "the server does not know this job as one that runs here; it may be older than this agent: update it, and run the job again"
    )]
    Unknown,
    /// More than the server takes.
    #[error(
        "{bytes} bytes are more than the server takes in one request ({most}); limit the job to fewer snapshots, by host or tag"
    )]
    TooBig {
        /// Bytes of the request.
        bytes: usize,
        /// Bytes that it takes.
        most: usize,
    },
    /// An answer that makes no sense.
    #[error("the server's answer makes no sense ({0}): agent and server may be of versions that do not go together")]
    Nonsense(String),
    /// The exchange broke off.
    #[error("the connection to the server broke ({0}); run the job again")]
    Broken(String),
    /// No answer in time.
    #[error("the server did not answer within {0} s; look at its log, and run the job again")]
    TimedOut(u64),
}

impl ErrandError {
    /// Whether the same may go well a moment later: the server is away, or has not yet heard that the job runs.
    fn passes(&self) -> bool {
        match self {
            Self::Dial(DialError::Refused { .. } | DialError::TimedOut { .. } | DialError::Connect { .. }) => true,
            Self::Broken(_) | Self::Unknown => true,
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}

/// What is sent along.
#[derive(Debug)]
pub enum ErrandBody {
    /// A text that is there already.
    Json(Bytes),
    /// Bytes as they come; the end of the channel is the end of the body. An error in it breaks the request off, so that the server never takes a part for
    /// the whole.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

/// One request.
#[derive(Debug)]
pub struct Errand {
    /// Where to: a path of the server.
    pub path: String,
    /// With what.
    pub body: ErrandBody,
    /// How long the whole exchange may take.
    pub patience: Duration,
}

/// Runs errands. The executor is handed one where the link is made.
pub trait Errands: Send + Sync + 'static {
    /// Posts, and gives the body of a good answer (2xx).
    fn post(&self, errand: Errand) -> BoxFuture<'_, Result<Bytes, ErrandError>>;
}

/// Asks the retention guard what may go, again and again for `patience` where the server is away.
///
/// # Errors
/// [`ErrandError`]; nothing may be removed then.
pub async fn ask_guard(
    errands: &dyn Errands,
    job: JobId,
    request: &GuardRequest,
    patience: Duration,
) -> Result<GuardAnswer, ErrandError> {
    let text = serde_json::to_vec(request).map_err(|e| ErrandError::Nonsense(e.to_string()))?;
    if text.len() > MAX_GUARD_BYTES {
        return Err(ErrandError::TooBig { bytes: text.len(), most: MAX_GUARD_BYTES });
    }
    let (text, until) = (Bytes::from(text), Instant::now() + patience);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let errand = Errand { path: guard_path(job), body: ErrandBody::Json(text.clone()), patience: left };
        match errands.post(errand).await {
            Ok(answer) => return serde_json::from_slice(&answer).map_err(|e| ErrandError::Nonsense(e.to_string())),
            Err(error) if error.passes() && Instant::now() + PAUSE < until => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// The way to the agent's own server.
pub(crate) struct Messenger {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) agent_token: Secret,
}

impl Errands for Messenger {
    fn post(&self, errand: Errand) -> BoxFuture<'_, Result<Bytes, ErrandError>> {
        Box::pin(async move {
            let seconds = errand.patience.as_secs();
            let until = Instant::now() + errand.patience;
            timeout_at(until, self.exchange(errand)).await.unwrap_or(Err(ErrandError::TimedOut(seconds)))
        })
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl Messenger {
    async fn exchange(&self, errand: Errand) -> Result<Bytes, ErrandError> {
        let broken = |e: hyper::Error| ErrandError::Broken(e.to_string());
        let request = self.request(errand)?;
        let io = self.dialer.connect().await?;
        let (mut sender, connection) =
            http1::handshake::<TokioIo<Connection>, Body>(TokioIo::new(io)).await.map_err(broken)?;
        let answer = Box::pin(async {
            let response = sender.send_request(request).await.map_err(broken)?;
            read(response).await
        });
        // The connection must be driven while the answer is awaited; it may end first, with the answer already read.
        match select(answer, connection).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
    }

    fn request(&self, Errand { path, body, .. }: Errand) -> Result<Request<Body>, ErrandError> {
        let server = self.dialer.server();
        let (kind, body) = match body {
            ErrandBody::Json(text) => {
                ("application/json", Full::new(text).map_err(|never| match never {}).boxed_unsync())
            }
            ErrandBody::Stream(mut pieces) => {
                let frames = stream_of(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(|p| p.map(Frame::data))));
                ("application/octet-stream", StreamBody::new(frames).boxed_unsync())
            }
        };
        Request::post(server.path(&path))
            .header(header::HOST, server.host_header())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.agent_token.expose()))
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, "application/json, application/problem+json")
            .header(header::USER_AGENT, concat!("flotilla-agent/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(body)
            // Its message could name the token.
            .map_err(|_| ErrandError::Nonsense("the request could not be written down".to_owned()))
    }
}

#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

async fn read(response: Response<Incoming>) -> Result<Bytes, ErrandError> {
    let status = response.status();
    let body = match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => {
            return Err(ErrandError::Nonsense(format!("it is over {MAX_ANSWER_BYTES} bytes")));
        }
        Err(e) => return Err(ErrandError::Broken(e.to_string())),
    };
    match status {
        _ if status.is_success() => Ok(body),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(ErrandError::Unknown),
        _ => {
            let said = serde_json::from_slice::<Problem>(&body).ok().and_then(|said| said.detail.or(said.title));
            let reason = said.unwrap_or_else(|| "it gave no reason".to_owned());
            Err(ErrandError::Refused { status, reason: reason.chars().filter(|c| !c.is_control()).collect() })
        }
    }
}

#[cfg(test)]
mod tests;
