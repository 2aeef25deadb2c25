//! Around every request: a request id, a bounded body, security headers, panics as 500, one line in the log (without query, for queries may
//! hold tokens), and problems as pages where a person asked.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering, time::Instant};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use crate::http::{AppState, BODY_LIMIT, HttpError, Problem, auth, pages};

const CSP: &str = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; object-src 'none'; img-src 'self' data:";

/// Headers of every answer, unless the handler said otherwise.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The number under which a request stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

/// The outermost layer of our own.
pub async fn edge(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = RequestId(state.requests.fetch_add(1, Ordering::Relaxed) + 1);
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let for_people = wants_page(request.uri().path(), request.headers()).then(|| request.headers().clone());
    request.extensions_mut().insert(id);
    let span = tracing::info_span!("request", id = id.0, %method, route);
    let mut response = if too_large(&request) {
        HttpError::too_large().into_response()
    } else {
        AssertUnwindSafe(next.run(request).instrument(span.clone())).catch_unwind().await.unwrap_or_else(|_| {
            let _entered = span.enter();
            HttpError::internal("a handler panicked; the panic's message is above").into_response()
        })
    };
    if let Some(headers) = for_people
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
    {
        let user = auth::viewer(&state, &headers).await;
        let page = pages::problem::page(&state, user, &problem, &id.0.to_string()).await;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(page);
    }
    add_headers(&state, id, response.headers_mut());
    let status = response.status();
    span.in_scope(|| log(status, &method, &route, started));
    response
}

/// Whether the sender says beforehand that the body is over the limit. One that does not say is cut where it is read. Errands of running jobs have limits
/// of their own, which hold once the agent is known.
fn too_large(request: &Request) -> bool {
    if request.uri().path().starts_with("/agent/jobs/") {
        return false;
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.is_some_and(|length: u64| length > BODY_LIMIT as u64)
}

/// Whether this is asked by a person: a path of the pages, and no wish for JSON.
fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    if is_for_programs(path) {
        return false;
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !accept.contains("json") || accept.contains("text/html")
}

/// Whether a path is of the API, not of the pages.
pub(super) fn is_for_programs(path: &str) -> bool {
    ["/api", "/agent"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        || ["/healthz", "/readyz", "/metrics"].contains(&path)
}

fn add_headers(state: &AppState, id: RequestId, headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if state.settings.secure_cookies {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static("max-age=31536000"));
    }
    headers.insert(HeaderName::from_static("x-request-id"), HeaderValue::from(id.0));
}

fn log(status: StatusCode, method: &Method, route: &str, started: Instant) {
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let quiet = route == "/healthz" || route == "/readyz" || route.starts_with("/assets");
    if quiet {
        tracing::debug!(status = status.as_u16(), duration_ms, "{method} {route}");
    } else {
        tracing::info!(status = status.as_u16(), duration_ms, "{method} {route}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_pages_and_programs_get_problems() {
        for (path, accept, page) in [
            ("/hosts", "text/html,*/*", true),
            ("/hosts", "", true),
            ("/hosts", "application/json", false),
            ("/api/hosts", "text/html", false),
            ("/api", "text/html", false),
            ("/apis", "text/html", true),
            ("/metrics", "text/html", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_page(path, &headers), page, "{path} {accept}");
        }
    }
}
