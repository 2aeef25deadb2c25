//! One request to a host's management interface, and its answer. Redirects are not followed: the keys in the request's head are for this address only. An answer is
//! bounded: so much of it is kept for results, so much goes to the log; a file takes what comes.

use std::path::Path;

use bytes::Bytes;
use flotilla_proto::{ApiWay, FailureClass, Secret};
use futures_util::future::{Either, select};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{
    failure::Failure,
    here::copy::{Fresh, explain},
};
use crate::{
    dial::{Connection, DialError, Dialer, ProxySettings},
    runbook::{Body, CallStep, Json, Method, TemplateError, Values},
    server_url::ServerUrl,
    text,
};

/// Longest answer that is read for results.
const MOST_ANSWER: usize = 1 << 20;
/// Of an answer so much goes to the log.
pub(super) const LOG_BYTES: usize = 4096;

/// A request that is ready to be sent.
pub(super) struct Call {
    server: ServerUrl,
    /// For people: without query.
    shown: String,
    host: String,
    insecure: bool,
    request: Request<Full<Bytes>>,
    expect: Vec<u16>,
    /// Where the answer goes.
    pub(super) target: Option<String>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Its status, where there was one.
    pub(super) status: Option<u16>,
    /// Its content, as far as it was kept.
    pub(super) body: Vec<u8>,
    /// Bytes that went to a file.
    pub(super) saved: Option<u64>,
    /// Why the step has failed.
    pub(super) failure: Option<Failure>,
}

fn words(field: &str) -> impl Fn(TemplateError) -> String {
    move |error| format!("{field}: {error}")
}

impl Call {
    /// Puts values in. The error is for people.
    pub(super) fn new(name: &str, way: &ApiWay, call: &CallStep, values: &Values) -> Result<Self, Failure> {
        let server: ServerUrl = way.base_url.parse().map_err(|_| {
            let why = format!(
                "the base URL of {name}, {:?}, is none: write it as https://HOST/PATH in the host's settings, without a user or query",
                way.base_url
            );
            Failure::new(FailureClass::NotConfigured, why)
        })?;
        let endpoint = call.endpoint.url(values).map_err(words("endpoint"))?;
        let endpoint = endpoint.trim_start_matches('/');
        if endpoint.split(['/', '?']).any(|part| matches!(part, "." | "..")) {
            return Err(format!("endpoint: {endpoint:?} leads out of the base URL: take the dots out").into());
        }
        let mut path = server.path(&format!("/{endpoint}"));
        let shown = format!("{} {}", method(call.method), path.split('?').next().unwrap_or_default());
        for (key, value) in &call.query {
            let value = value.sealed(values).map_err(words("query"))?;
            let mark = if path.contains('?') { '&' } else { '?' };
            path.push_str(&format!("{mark}{}={}", encode(key), encode(value.expose())));
        }
        let (body, kind) = content(call.body.as_ref(), values)?;
        let mut request = Request::builder()
            .method(method(call.method))
            .uri(&path)
            .header(header::HOST, server.host_header())
            .header(header::USER_AGENT, concat!("flotilla/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json, */*")
            .header(header::CONNECTION, "close");
        if let Some(key) = &way.public_key {
            request = request.header("public_key", secret(name, "public key", key)?);
        }
        if let Some(key) = &way.secret_key {
            request = request.header("secret_key", secret(name, "secret key", key.expose())?);
        }
        let named = call.headers.keys().any(|key| key.eq_ignore_ascii_case("content-type"));
        if let Some(kind) = kind.filter(|_| !named) {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        for (key, value) in &call.headers {
            let key: HeaderName = key.parse().map_err(|_| format!("headers: {key:?} is no name of a header"))?;
            let value = value.sealed(values).map_err(words("headers"))?;
            request = request.header(&key, secret(name, key.as_str(), value.expose())?);
        }
        let request = request.body(Full::new(body));
        Ok(Self {
            request: request.map_err(|error| format!("endpoint: no request can be made of {shown}: {error}"))?,
            shown,
            host: name.to_owned(),
            insecure: way.tls_insecure,
            expect: call.expect_status.clone(),
            target: call.local_path.as_ref().map(|path| path.text(values)).transpose().map_err(words("local_path"))?,
            server,
        })
    }

    /// What is asked, for the log.
    pub(super) fn shown(&self) -> String {
        format!("{} at {}", self.shown, self.server.host_header())
    }

    /// Sends it and reads the answer. `id` names the temporary file. Dropped, it leaves no file.
    pub(super) async fn send(self, id: &str) -> Answer {
        let host = self.host.clone();
        let connection = match self.dial().await {
            Ok(connection) => connection,
            Err(error) => return Answer { failure: Some(unreachable(&host, &error)), ..Answer::default() },
        };
        let broke = |error: hyper::Error| Answer { failure: Some(broken(&host, &error)), ..Answer::default() };
        let handshake = http1::handshake::<TokioIo<Connection>, Full<Bytes>>(TokioIo::new(connection)).await;
        let (mut sender, connection) = match handshake {
            Ok(ready) => ready,
            Err(error) => return broke(error),
        };
        let Self { request, shown, expect, target, .. } = self;
        let reading = Reading { host: &host, shown: &shown, expect: &expect, target: target.as_deref(), id };
        let answer = Box::pin(async {
            match sender.send_request(request).await {
                Ok(response) => reading.read(response).await,
                Err(error) => broke(error),
            }
        });
        // The connection must be driven while the answer is awaited; it may end first, with the answer already read.
        match select(answer, connection).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
    }

    async fn dial(&self) -> Result<Connection, DialError> {
        let dialer = if self.insecure {
            Dialer::unverified(&self.server)
        } else {
            Dialer::new(&self.server, None, &ProxySettings::none())?
        };
        dialer.connect().await
    }
}

struct Reading<'a> {
    host: &'a str,
    shown: &'a str,
    expect: &'a [u16],
    target: Option<&'a str>,
    id: &'a str,
}

impl Reading<'_> {
    async fn read(&self, response: Response<Incoming>) -> Answer {
        let status = response.status();
        let elsewhere =
            response.headers().get(header::LOCATION).map(|to| text::visible(&String::from_utf8_lossy(to.as_bytes())));
        let mut answer = Answer { status: Some(status.as_u16()), ..Answer::default() };
        if !self.expect.contains(&status.as_u16()) {
            // As much as the log takes; an error here changes nothing.
            let _ = self.keep(response.into_body(), &mut answer.body, LOG_BYTES).await;
            let class =
                if matches!(status.as_u16(), 401 | 403) { FailureClass::Authentication } else { FailureClass::Answer };
            answer.failure = Some(Failure::new(class, self.unexpected(status, elsewhere.as_deref())));
            return answer;
        }
        let read = match self.target {
            Some(target) => self.save(response.into_body(), target, &mut answer.saved).await,
            None => match self.keep(response.into_body(), &mut answer.body, MOST_ANSWER).await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    let most = text::size(MOST_ANSWER as u64);
                    let why = format!(
                        "the answer of {} is bigger than {most}: ask for less, or give the step a `local_path`, to which it goes",
                        self.host
                    );
                    Err(Failure::new(FailureClass::Answer, why))
                }
                Err(failure) => Err(failure),
            },
        };
        answer.failure = read.err();
        answer
    }

    /// Keeps up to so many bytes; whether that was all.
    async fn keep(&self, mut body: Incoming, into: &mut Vec<u8>, most: usize) -> Result<bool, Failure> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(self.host, &error))?;
            let Some(piece) = frame.data_ref() else { continue };
            let room = most - into.len();
            into.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn save(&self, mut body: Incoming, target: &str, saved: &mut Option<u64>) -> Result<(), Failure> {
        let target = Path::new(target);
        if !target.is_absolute() {
            return Err(format!("local_path: {} is not absolute: write it from the root on", target.display()).into());
        }
        if let Some(folder) = target.parent() {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|error| {
                explain(folder, "write", &error)
                    .told(|_| format!("the folder {} can't be made: {error}", folder.display()))
            })?;
        }
        let mut fresh = Fresh::beside(target, self.id).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(self.host, &error))?;
            if let Some(piece) = frame.data_ref() {
                fresh.write(piece).await?;
            }
        }
        *saved = Some(fresh.finish(None).await?);
        Ok(())
    }

    fn unexpected(&self, status: StatusCode, elsewhere: Option<&str>) -> String {
        let Self { host, shown, .. } = self;
        let code = status.as_u16();
        match code {
            300..=399 => format!(
                "{host} answered {shown} with a redirect ({code}) to {}, which is not followed: set the host's base URL to where it leads",
                elsewhere.unwrap_or("nowhere")
            ),
            401 => format!("{host} did not accept the keys (401) for {shown}: check both keys in the host's settings"),
            403 => format!(
                "{host} does not allow these keys to {shown} (403): give them the right there, or use others in the host's settings"
            ),
            404 => format!("{host} knows no {shown} (404): check its base URL, its version and the step's endpoint"),
            429 => format!("{host} wants to be asked less often (429) at {shown}: wait and run it again"),
            500..=599 => format!(
                "{host} failed over {shown} ({status}): look at its own log. The job's log has the start of its answer"
            ),
            _ => {
                let expect: Vec<String> = self.expect.iter().map(u16::to_string).collect();
                format!("{host} answered {shown} with {status}, where {} was expected", expect.join(" or "))
            }
        }
    }
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

fn secret(name: &str, what: &str, value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        format!(
            "the {what} for {name} can't stand in a request's head: it has a line break or another control character"
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is sent, and of which type it is.
fn content(body: Option<&Body>, values: &Values) -> Result<(Bytes, Option<&'static str>), String> {
    Ok(match body {
        None => (Bytes::new(), None),
        Some(Body::Text(text)) => {
            let text: Secret = text.sealed(values).map_err(words("body"))?;
            (Bytes::copy_from_slice(text.expose().as_bytes()), Some("text/plain; charset=utf-8"))
        }
        Some(Body::Json(json)) => (Bytes::from(filled(json, values)?.to_string()), Some("application/json")),
    })
}

fn filled(json: &Json, values: &Values) -> Result<serde_json::Value, String> {
    Ok(match json {
        Json::Plain(value) => value.clone(),
        Json::Text(text) => text.sealed(values).map_err(words("body"))?.expose().into(),
        Json::List(items) => {
            serde_json::Value::Array(items.iter().map(|item| filled(item, values)).collect::<Result<_, _>>()?)
        }
        Json::Map(fields) => {
            let fields = fields.iter().map(|(name, item)| Ok((name.clone(), filled(item, values)?)));
            serde_json::Value::Object(fields.collect::<Result<_, String>>()?)
        }
    })
}

/// All but what RFC 3986 calls unreserved.
fn encode(text: &str) -> String {
    crate::restic::address::percent_encode(text)
}

fn unreachable(host: &str, error: &DialError) -> Failure {
    let class = match error {
        DialError::CertificateUnknown { .. } | DialError::CertificateExpired { .. } => FailureClass::HostKey,
        _ => FailureClass::Unreachable,
    };
    let why = match error {
        DialError::Resolve { host: name, source } => {
            format!("the address {name} of {host} is not found ({source}): check the host's base URL, and DNS here")
        }
        DialError::Refused { target } => {
            format!(
                "{host} refused the connection: nothing listens at {target}. Is its service running, and the base URL right?"
            )
        }
        DialError::TimedOut { target, seconds, stage } => format!(
            "{host} did not answer at {target} within {seconds} s while {stage}: a firewall may drop it, or the machine is down"
        ),
        DialError::CertificateUnknown { reason, .. } => format!(
            "the certificate of {host} is not trusted here ({reason}): install its authority on this machine, or say in the host's settings that any certificate is taken"
        ),
        DialError::CertificateExpired { reason, .. } => {
            format!("the certificate of {host} is not valid at this time ({reason}): renew it there")
        }
        DialError::Tls { reason, .. } => {
            format!("no TLS with {host}: {reason}. Does it speak https at this port?")
        }
        other => format!("{host} is not reached: {other}"),
    };
    Failure::new(class, why)
}

fn broken(host: &str, error: &dyn std::error::Error) -> Failure {
    let cause = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    let why = format!("the exchange with {host} broke off ({cause}): whether the request was carried out is not known");
    Failure::new(FailureClass::Unreachable, why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::runbook::{InputValue, Mode, Template};

    fn call(base_url: &str, endpoint: &str, who: &str) -> Result<Call, Failure> {
        let way = ApiWay {
            base_url: base_url.to_owned(),
            public_key: Some("pk".to_owned()),
            secret_key: Some(Secret::from("sk")),
            tls_insecure: false,
        };
        let template = |text: &str| Template::new(text).unwrap();
        let step = CallStep {
            method: Method::Post,
            endpoint: template(endpoint),
            query: BTreeMap::from([("q".to_owned(), template("{{ who }}"))]),
            headers: BTreeMap::from([("X-Who".to_owned(), template("{{ who }}"))]),
            body: Some(Body::Json(Json::Map(BTreeMap::from([("a".to_owned(), Json::Text(template("{{ who }}")))])))),
            expect_status: vec![200],
            local_path: None,
        };
        let inputs = BTreeMap::from([("who".to_owned(), InputValue::Text(who.to_owned()))]);
        Call::new("web", &way, &step, &Values::new(Mode::Run, inputs))
    }

    #[test]
    fn values_stay_where_they_were_put() {
        let made = call("https://h:8443/base/", "sites/{{ who }}/stats", "a/../b?c&d=e\"#").unwrap();
        assert_eq!(
            made.request.uri().to_string(),
            "/base/sites/a%2F..%2Fb%3Fc%26d%3De%22%23/stats?q=a%2F..%2Fb%3Fc%26d%3De%22%23"
        );
        assert_eq!(made.request.headers()["host"], "h:8443");
        assert_eq!(
            (&made.request.headers()["public_key"], &made.request.headers()["secret_key"]),
            (&"pk".parse().unwrap(), &"sk".parse().unwrap())
        );
        assert!(!format!("{:?}", made.request.headers()).contains("sk"));
        assert_eq!(made.shown(), "POST /base/sites/a%2F..%2Fb%3Fc%26d%3De%22%23/stats at h:8443");
    }

    #[test]
    fn what_leads_out_of_the_base_or_into_another_header_is_refused() {
        assert!(call("https://h", "sites/{{ who }}/stats", "..").err().unwrap().why.contains("leads out"));
        assert!(call("https://h", "x", "a\nb: c").err().unwrap().why.contains("control character"));
        for base in ["h", "ftp://h", "https://user:pw@h/"] {
            assert!(call(base, "x", "y").err().unwrap().why.contains("base URL"), "{base}");
        }
    }
}
