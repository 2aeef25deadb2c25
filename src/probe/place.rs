//! Where a question goes: addresses as people write them, taken apart once. What is refused here is refused when a probe is made, so that nothing strange is ever dialled.

use std::{fmt, net::Ipv6Addr};

use http::Uri;
use regex_lite::{Regex, RegexBuilder};
use rustls::pki_types::ServerName;

use crate::domain::{
    FieldError,
    probe::{Expect, Question},
};

/// Longest address and pattern.
const MOST_URL: usize = 2048;
const MOST_PATTERN: usize = 1024;
/// Statuses that may be named.
const MOST_CODES: usize = 100;
/// Bytes that a pattern may become: what is searched takes time in proportion to it.
const PATTERN_SIZE: usize = 1 << 16;
/// Days that may be asked for.
const MOST_DAYS: u16 = 3650;

/// A name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// `name:port`, `10.0.0.7:port` or `[::1]:port`.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("must be a name or an address and a port, such as db.example:5432 or [::1]:5432")?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or("must end with a port from 1 to 65535")?;
        Ok(Self { host: host_of(host)?, port })
    }

    pub(super) fn server_name(&self) -> Result<ServerName<'static>, String> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| format!("{:?} is no name that a certificate can be for", self.host))
    }
}

/// A host without brackets. Names have letters, digits, dots, dashes and underscores, and do not begin with a dash or a dot.
fn host_of(text: &str) -> Result<String, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(format!("{inner:?} in brackets must be an IPv6 address")),
        };
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || text.len() > 253 || text.starts_with(['-', '.']) || !text.chars().all(fits) {
        return Err(format!(
            "{text:?} is no host: a name has letters, digits, dots, dashes and underscores (others in their form with xn--), an IPv6 address brackets"
        ));
    }
    Ok(text.to_owned())
}

/// An HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    pub(super) address: Address,
    /// What goes into the head `Host`.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Url {
    pub(super) fn of(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "must be an address such as https://web.example/health";
        if text.len() > MOST_URL {
            return Err(format!("must have at most {MOST_URL} bytes"));
        }
        let uri: Uri = text.parse().map_err(|error| format!("{SHAPE}: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(format!("must begin with http:// or https://, not {other}://")),
            None => return Err("must begin with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or(SHAPE)?.as_str();
        if authority.contains('@') {
            return Err("must not hold a user or a password: everyone who may look would see it".to_owned());
        }
        let host = host_of(uri.host().unwrap_or_default())?;
        let said = authority.strip_prefix(uri.host().unwrap_or_default()).unwrap_or_default();
        let port = match said.strip_prefix(':') {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("has a port that is none: 1 to 65535")?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, address: Address { host, port }, authority: authority.to_owned(), path })
    }
}

/// A pattern that is searched in linear time.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    if text.is_empty() || text.len() > MOST_PATTERN {
        return Err(format!("must have 1 to {MOST_PATTERN} bytes"));
    }
    RegexBuilder::new(text).size_limit(PATTERN_SIZE).build().map_err(|error| format!("is no pattern: {error}"))
}

/// Whether a question can be asked. Fields are named as in its JSON.
///
/// # Errors
/// The field that does not do.
pub fn check(question: &Question) -> Result<(), FieldError> {
    match question {
        Question::Http { url, expect, .. } => {
            Url::of(url).map_err(|message| FieldError::new("url", message))?;
            match expect {
                Expect::Any => Ok(()),
                Expect::Status { codes } if codes.is_empty() || codes.len() > MOST_CODES => {
                    Err(FieldError::new("expect.codes", format!("must name 1 to {MOST_CODES} statuses")))
                }
                Expect::Status { codes } if codes.iter().any(|code| !(100..=599).contains(code)) => {
                    Err(FieldError::new("expect.codes", "must be from 100 to 599"))
                }
                Expect::Status { .. } => Ok(()),
                Expect::Body { pattern: text } => {
                    pattern(text).map(drop).map_err(|message| FieldError::new("expect.pattern", message))
                }
            }
        }
        Question::Tcp { address } => {
            Address::of(address).map(drop).map_err(|message| FieldError::new("address", message))
        }
        Question::Tls { address, days } => {
            if *days > MOST_DAYS {
                return Err(FieldError::new("days", format!("must be at most {MOST_DAYS}")));
            }
            let address = Address::of(address).map_err(|message| FieldError::new("address", message))?;
            address.server_name().map(drop).map_err(|message| FieldError::new("address", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_are_taken_apart_as_they_are_written() {
        let url = |text: &str| Url::of(text).map(|url| (url.tls, url.address.to_string(), url.path)).unwrap();
        assert_eq!(url("http://web"), (false, "web:80".to_owned(), "/".to_owned()));
        assert_eq!(
            url("https://web.example:8443/health?deep=1"),
            (true, "web.example:8443".to_owned(), "/health?deep=1".to_owned())
        );
        assert_eq!(url("http://[::1]/x"), (false, "[::1]:80".to_owned(), "/x".to_owned()));
        assert_eq!(url("https://[fd00::7]:444?q"), (true, "[fd00::7]:444".to_owned(), "/?q".to_owned()));
        assert_eq!(Address::of("[::1]:22").unwrap(), Address { host: "::1".to_owned(), port: 22 });
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, words) in [
            ("ftp://web/", "http://"),
            ("web.example", "http://"),
            ("//web/", "http://"),
            ("http://ada:secret@web/", "password"),
            ("http://web:99999/", "port"),
            ("http://web:0/", "port"),
            ("http://-web/", "no host"),
            ("http://web;rm/", "no host"),
            ("http://web/a b", "must be an address"),
            ("http://web/\r\nHost: x", "must be an address"),
            ("http://wéb/", "must be an address"),
            ("", "must be an address"),
            ("http:///x", "must be an address"),
        ] {
            let refused = Url::of(text).unwrap_err();
            assert!(refused.contains(words), "{text:?}: {refused}");
        }
        for text in ["web", "web:", "web:0", "web:70000", "a b:1", "$(id):1", "::1:22", "[web]:1", ":1", "-v:1"] {
            assert!(Address::of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_question_that_can_not_be_asked_is_refused_at_its_field() {
        let http = |expect| Question::Http { url: "http://web".to_owned(), expect, tls_insecure: false };
        let codes = |codes: &[u16]| Expect::Status { codes: codes.iter().copied().collect::<BTreeSet<u16>>() };
        let body = |text: &str| Expect::Body { pattern: text.to_owned() };
        let tls = |address: &str, days| Question::Tls { address: address.to_owned(), days };
        for (question, field) in [
            (http(codes(&[])), "expect.codes"),
            (http(codes(&[200, 600])), "expect.codes"),
            (http(codes(&[99])), "expect.codes"),
            (http(body("")), "expect.pattern"),
            (http(body("(")), "expect.pattern"),
            (http(body(&"a".repeat(1025))), "expect.pattern"),
            (http(body("(a{1000}){1000}")), "expect.pattern"),
            (Question::Tcp { address: "web".to_owned() }, "address"),
            (tls("web:443", 4000), "days"),
            (tls("web", 14), "address"),
        ] {
            assert_eq!(check(&question).unwrap_err().field, field, "{question:?}");
        }
        for question in [http(Expect::Any), http(codes(&[200, 204])), http(body("ok|fine")), tls("[::1]:443", 0)] {
            assert_eq!(check(&question), Ok(()), "{question:?}");
        }
    }
}
