//! Where the server is. Parsed once; afterwards only addresses that may be dialled exist.
//! Plain HTTP is for loopback, or for those who asked for it by name.

use std::{fmt, net::IpAddr, str::FromStr};

use http::Uri;
use serde::{Deserialize, Serialize};

/// Why a text is not a usable server address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Not a URL.
    #[error("`{0}` is not a server address: write it as https://HOST or https://HOST:PORT")]
    Malformed(String),
    /// Another scheme.
    #[error(
        "the server address starts with `{0}:`, which agents don't speak: use https (or http on this machine only)"
    )]
    Scheme(String),
    /// User and password in the address.
    #[error("the server address holds a user name or password: leave it out, the enrolment token is all it takes")]
    UserInfo,
    /// Plain HTTP across a network.
    #[error(
        "plain http to {0} would send the agent's token in clear over the network: use https, \
         or --allow-plain-http if something else protects the way"
    )]
    Plain(String),
}

/// Scheme, host, port and an optional path prefix (for a server behind a reverse proxy).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl {
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl ServerUrl {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Host name or address, IPv6 without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` as a `Host` header and a CONNECT request want it; the scheme's own port is left out only by [`Self::host_header`].
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.bracketed_host(), self.port)
    }

    /// The `Host` header.
    #[must_use]
    pub fn host_header(&self) -> String {
        if self.port == default_port(self.tls) { self.bracketed_host() } else { self.authority() }
    }

    /// `path` (with its slash) below the prefix.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The WebSocket's address for `path`.
    #[must_use]
    pub fn websocket(&self, path: &str) -> String {
        format!("{}://{}{}", if self.tls { "wss" } else { "ws" }, self.host_header(), self.path(path))
    }

    /// Whether the host is this machine by name or address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Refuses plain HTTP across a network unless it was asked for.
    ///
    /// # Errors
    /// [`ServerUrlError::Plain`].
    pub fn permit(&self, plain_http: PlainHttp) -> Result<(), ServerUrlError> {
        if self.tls || self.is_loopback() || plain_http == PlainHttp::Allowed {
            return Ok(());
        }
        Err(ServerUrlError::Plain(self.host.clone()))
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// Whether plain HTTP may leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainHttp {
    /// Only to loopback.
    #[default]
    LoopbackOnly,
    /// Anywhere: the operator said so.
    Allowed,
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let malformed = || ServerUrlError::Malformed(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| malformed())?;
        let scheme = uri.scheme_str().ok_or_else(malformed)?.to_ascii_lowercase();
        let tls = match scheme.as_str() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return Err(ServerUrlError::Scheme(scheme)),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(ServerUrlError::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            // `host:` and a port over 65535 are no ports, and must not silently become the default.
            None if authority.as_str().len() > authority.host().len() => return Err(malformed()),
            None => default_port(tls),
        };
        if host.is_empty() || port == 0 || uri.query().is_some() {
            return Err(malformed());
        }
        Ok(Self { tls, host, port, prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.host_header(), self.prefix)
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ServerUrlError;
    fn try_from(text: String) -> Result<Self, ServerUrlError> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_prints_as_it_was_meant() {
        for (given, printed, socket) in [
            ("https://fleet.example", "https://fleet.example", "wss://fleet.example/agent/ws"),
            ("wss://fleet.example:8443/", "https://fleet.example:8443", "wss://fleet.example:8443/agent/ws"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "ws://127.0.0.1:8080/agent/ws"),
            ("https://[::1]:9/ops/", "https://[::1]:9/ops", "wss://[::1]:9/ops/agent/ws"),
        ] {
            assert_eq!(url(given).to_string(), printed);
            assert_eq!(url(given).websocket("/agent/ws"), socket);
        }
    }

    #[test]
    fn plain_http_is_for_loopback_unless_it_was_asked_for() {
        for loopback in ["http://localhost:1", "http://127.0.0.9:1", "http://[::1]:1"] {
            assert_eq!(url(loopback).permit(PlainHttp::LoopbackOnly), Ok(()));
        }
        let across = url("http://fleet.example");
        assert!(across.permit(PlainHttp::LoopbackOnly).unwrap_err().to_string().contains("--allow-plain-http"));
        assert_eq!(across.permit(PlainHttp::Allowed), Ok(()));
        assert_eq!(url("https://fleet.example").permit(PlainHttp::LoopbackOnly), Ok(()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        assert!(matches!("fleet.example".parse::<ServerUrl>(), Err(ServerUrlError::Malformed(_))));
        assert!(matches!("".parse::<ServerUrl>(), Err(ServerUrlError::Malformed(_))));
        assert!(matches!("https://h:99999".parse::<ServerUrl>(), Err(ServerUrlError::Malformed(_))));
        assert!(matches!("ftp://h".parse::<ServerUrl>(), Err(ServerUrlError::Scheme(_))));
        assert_eq!("https://u:p@h".parse::<ServerUrl>(), Err(ServerUrlError::UserInfo));
    }
}
