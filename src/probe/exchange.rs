//! One HTTP request and as much of its answer as the question needs: the head, and for a pattern the first 64 KiB of the body.

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Bad, Deadline, place, place::Url};
use crate::domain::probe::Expect;

/// So much of a body is looked through.
const MOST_BODY: usize = 64 << 10;
/// Largest head of an answer.
const MOST_HEAD: usize = 64 << 10;

/// Asks by `stream` and holds the answer against what is wanted.
pub(super) async fn ask<S>(stream: S, url: &Url, expect: &Expect, deadline: Deadline) -> Result<String, Bad>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake =
        http1::Builder::new().max_buf_size(MOST_HEAD).handshake::<TokioIo<S>, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| Bad::None(broken(&error)))?;
    let request = Request::get(&url.path)
        .header(header::HOST, &url.authority)
        .header(header::USER_AGENT, concat!("flotilla/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| Bad::None(format!("no request can be made of the address: {error}")))?;
    let address = &url.address;
    let answer = Box::pin(async {
        let silent = format!("{address} takes connections, and gave no answer");
        let head = async { sender.send_request(request).await.map_err(|error| Bad::None(broken(&error))) };
        let response = deadline.bound(&silent, head).await?;
        match expect {
            Expect::Any => Ok(said(response.status())),
            Expect::Status { codes } => status(&response, codes.contains(&response.status().as_u16()), expect),
            Expect::Body { pattern } => {
                let status = status(&response, response.status().is_success(), expect)?;
                let unfinished = format!("{status} came, and its body did not");
                let body = deadline.bound(&unfinished, body(response)).await?;
                holds(body, pattern, &status).await
            }
        }
    });
    // The connection must be driven while the answer is awaited; it may end first, with the answer already read.
    match select(answer, connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

fn said(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_u16().to_string(), |reason| format!("{} {reason}", status.as_u16()))
}

fn status(response: &Response<Incoming>, fits: bool, expect: &Expect) -> Result<String, Bad> {
    let status = response.status();
    if fits {
        return Ok(said(status));
    }
    let wanted = match expect {
        Expect::Status { codes } => codes.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "),
        Expect::Any | Expect::Body { .. } => "200 to 299".to_owned(),
    };
    let to = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
    let aside = to.map_or_else(String::new, |to| {
        let to: String = String::from_utf8_lossy(to.as_bytes()).chars().filter(|c| !c.is_control()).take(200).collect();
        format!(", a redirect to {to} that is not followed")
    });
    Err(Bad::Other(format!("it answered {}{aside}, where {wanted} is wanted", said(status))))
}

/// The first bytes of a body.
async fn body(response: Response<Incoming>) -> Result<Vec<u8>, Bad> {
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Bad::None(broken(&error)))?;
        let Some(piece) = frame.data_ref() else { continue };
        read.extend_from_slice(&piece[..piece.len().min(MOST_BODY - read.len())]);
        if read.len() == MOST_BODY {
            break;
        }
    }
    Ok(read)
}

/// Looks through a body, on a thread that may take its time.
async fn holds(body: Vec<u8>, text: &str, status: &str) -> Result<String, Bad> {
    let pattern = place::pattern(text).map_err(Bad::None)?;
    let size = body.len();
    let found = tokio::task::spawn_blocking(move || pattern.is_match(&String::from_utf8_lossy(&body))).await;
    match found {
        Ok(true) => Ok(status.to_owned()),
        Ok(false) if size == MOST_BODY => {
            Err(Bad::Other(format!("it answered {status}, and {text:?} is not in the first 64 KiB of its body")))
        }
        Ok(false) => Err(Bad::Other(format!("it answered {status}, and {text:?} is not in its body of {size} bytes"))),
        Err(error) => Err(Bad::None(format!("the body could not be looked through: {error}"))),
    }
}

fn broken(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return format!("the head of its answer is larger than {} KiB", MOST_HEAD >> 10);
    }
    if error.is_parse() {
        return format!("what answers there does not speak HTTP/1.1 ({error})");
    }
    if error.is_incomplete_message() {
        return "it closed the connection before its answer was whole".to_owned();
    }
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::ConnectionReset => {
                    "it broke the connection off before its answer was whole (reset)".to_owned()
                }
                _ => format!("the connection broke before its answer was whole ({io})"),
            };
        }
        cause = inner.source();
    }
    format!("no whole answer came ({error})")
}
