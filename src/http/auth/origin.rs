//! Whether a browser's request was made by a page of ours. Browsers say so themselves, in headers that a page can't forge; other programs say nothing.

use axum::http::{HeaderMap, StatusCode, Uri, header};

use crate::http::{HttpError, Settings};

/// Refuses what a page of another origin asks for.
///
/// # Errors
/// 403.
pub(super) fn check(settings: &Settings, headers: &HeaderMap) -> Result<(), HttpError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused = || {
        HttpError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "The request came from another site",
            "The browser says that a page of another site made this request. Open Flotilla by its public address; behind a proxy, `public_url` must be that address.",
        )
    };
    if let Some(origin) = text(header::ORIGIN) {
        let host = text(header::HOST).unwrap_or_default();
        return if is_ours(settings, origin, host) { Ok(()) } else { Err(refused()) };
    }
    match text(header::HeaderName::from_static("sec-fetch-site")) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(refused()),
    }
}

/// The public address, or the very host that was asked: no name of another site resolves to both.
fn is_ours(settings: &Settings, origin: &str, host: &str) -> bool {
    if origin.eq_ignore_ascii_case(settings.public_url.trim_end_matches('/')) {
        return true;
    }
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let secure = origin.scheme_str() == Some("https");
    let right_scheme = secure || !settings.secure_cookies;
    right_scheme && !host.is_empty() && origin.authority().is_some_and(|name| name.as_str().eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_server_may_ask_by_browser() {
        for (origin, site, allowed) in [
            (None, None, true),
            (Some("https://fleet.example"), None, true),
            (Some("http://10.0.0.1:8080"), Some("same-origin"), true),
            (Some("http://evil.example"), None, false),
            (Some("http://evil.example"), Some("same-origin"), false),
            (Some("null"), None, false),
            (Some("http://10.0.0.1:9090"), None, false),
            (Some(""), None, false),
            (None, Some("cross-site"), false),
            (None, Some("same-site"), false),
            (None, Some("same-origin"), true),
            (None, Some("none"), true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "10.0.0.1:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            let settings = Settings { public_url: "https://fleet.example".to_owned(), ..Settings::default() };
            assert_eq!(check(&settings, &headers).is_ok(), allowed, "{origin:?} {site:?}");
        }
    }

    #[test]
    fn under_tls_a_page_of_the_same_host_without_tls_is_foreign() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "fleet.example".parse().unwrap());
        headers.insert(header::ORIGIN, "http://fleet.example".parse().unwrap());
        let settings = Settings { secure_cookies: true, ..Settings::default() };
        assert!(check(&settings, &headers).is_err());
        headers.insert(header::ORIGIN, "https://fleet.example".parse().unwrap());
        assert!(check(&settings, &headers).is_ok());
    }
}
