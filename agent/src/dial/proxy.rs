//! HTTP CONNECT proxies, named by the environment as other tools read it (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, either case).
//! Plain http to this machine never takes a proxy. The proxy's password appears in no message.

use std::{io, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use flotilla_proto::Secret;
use http::Uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server_url::ServerUrl;

/// Longest answer of a proxy to CONNECT, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Why a proxy is of no use. The address is shown without its password.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not a proxy's address.
    #[error(
        "{variable} is not the address of an HTTP proxy: write it as http://HOST:PORT, or add the server to NO_PROXY"
    )]
    Malformed {
        /// The variable that named it.
        variable: &'static str,
    },
    /// A scheme that is not spoken.
    #[error("{variable} names a `{scheme}` proxy; agents speak only to http:// proxies (by CONNECT)")]
    Scheme {
        /// The variable that named it.
        variable: &'static str,
        /// Its scheme.
        scheme: String,
    },
    /// The proxy said no.
    #[error("the proxy {proxy} refused a tunnel to {target}: it said \"{answer}\"{hint}")]
    Refused {
        /// `host:port` of the proxy.
        proxy: String,
        /// `host:port` of the server.
        target: String,
        /// Its status line.
        answer: String,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// The proxy said something else.
    #[error("{proxy} does not answer like an HTTP proxy: {reason}")]
    Garbage {
        /// `host:port` of the proxy.
        proxy: String,
        /// What was wrong.
        reason: String,
    },
    /// The connection to the proxy broke.
    #[error("the connection to the proxy {proxy} broke: {source}")]
    Broken {
        /// `host:port` of the proxy.
        proxy: String,
        /// Why.
        source: io::Error,
    },
}

/// What the environment says about proxies.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    https: Option<(&'static str, Secret)>,
    http: Option<(&'static str, Secret)>,
    no_proxy: String,
}

impl ProxySettings {
    /// No proxy at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// From this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// From any source of variables.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = lookup(name)?;
                (!value.trim().is_empty()).then(|| (name, Secret::new(value.trim().to_owned())))
            })
        };
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            no_proxy: first(["NO_PROXY", "no_proxy"]).map(|(_, list)| list.expose().to_owned()).unwrap_or_default(),
        }
    }

    /// The proxy to take for `server`.
    ///
    /// # Errors
    /// [`ProxyError`] for an address that can't be used.
    pub fn for_server(&self, server: &ServerUrl) -> Result<Option<Proxy>, ProxyError> {
        let named = if server.is_tls() { &self.https } else { &self.http };
        let Some((variable, address)) = named else { return Ok(None) };
        if (!server.is_tls() && server.is_loopback()) || self.excepts(server) {
            return Ok(None);
        }
        Proxy::parse(variable, address.expose()).map(Some)
    }

    fn excepts(&self, server: &ServerUrl) -> bool {
        self.no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| matches(entry, server))
    }
}

/// One entry of `NO_PROXY`: `*`, a name (and everything below it), an address, a block of addresses; each with an optional port.
fn matches(entry: &str, server: &ServerUrl) -> bool {
    if entry == "*" {
        return true;
    }
    let host = server.host().trim_end_matches('.').to_ascii_lowercase();
    if let (Some((block, bits)), Ok(ip)) = (entry.split_once('/'), host.parse::<IpAddr>()) {
        return in_block(block, bits, ip);
    }
    let (name, port) = split_port(entry);
    if port.is_some_and(|port| port != server.port()) {
        return false;
    }
    let name = name.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
    let below = host.parse::<IpAddr>().is_err() && host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'));
    !name.is_empty() && (host == name || below)
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some((host, port)) if !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

fn in_block(block: &str, bits: &str, ip: IpAddr) -> bool {
    let (Ok(block), Ok(bits)) = (block.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (block, ip) {
        (IpAddr::V4(block), IpAddr::V4(ip)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            block.to_bits() & mask == ip.to_bits() & mask
        }
        (IpAddr::V6(block), IpAddr::V6(ip)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            block.to_bits() & mask == ip.to_bits() & mask
        }
        _ => false,
    }
}

/// An HTTP proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    credentials: Option<Secret>,
}

impl Proxy {
    /// Its host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn parse(variable: &'static str, text: &str) -> Result<Self, ProxyError> {
        let malformed = || ProxyError::Malformed { variable };
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| malformed())?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        if scheme != "http" {
            return Err(ProxyError::Scheme { variable, scheme });
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(malformed());
        }
        let credentials = match authority.as_str().rsplit_once('@') {
            Some((user_info, _)) => Some(Secret::new(percent_decode(user_info).ok_or_else(malformed)?)),
            None => None,
        };
        Ok(Self { host: host.to_owned(), port: authority.port_u16().unwrap_or(80), credentials })
    }

    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Asks for a tunnel to `target` (`host:port`) and gives the stream back once it stands.
    ///
    /// # Errors
    /// [`ProxyError`] where the proxy refuses, or isn't one.
    pub(super) async fn tunnel(&self, mut tcp: TcpStream, target: &str) -> Result<TcpStream, ProxyError> {
        let broken = |source| ProxyError::Broken { proxy: self.name(), source };
        tcp.write_all(self.request(target).expose().as_bytes()).await.map_err(broken)?;
        let head = self.read_head(&mut tcp).await?;
        let status_line = head.lines().next().unwrap_or_default().trim();
        let mut words = status_line.split_whitespace();
        let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !version.starts_with("HTTP/1.") || status.len() != 3 {
            return Err(ProxyError::Garbage { proxy: self.name(), reason: "no HTTP status line".to_owned() });
        }
        if status.starts_with('2') {
            return Ok(tcp);
        }
        let hint = match status {
            "407" => ": put a user and password into its address (http://USER:PASSWORD@HOST:PORT)",
            "403" => ": its rules do not allow this server or port",
            "502" | "503" | "504" => ": it cannot reach the server",
            _ => "",
        };
        let answer = status_line.chars().filter(|c| !c.is_control()).take(200).collect();
        Err(ProxyError::Refused { proxy: self.name(), target: target.to_owned(), answer, hint })
    }

    fn request(&self, target: &str) -> Secret {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = &self.credentials {
            request.push_str("Proxy-Authorization: Basic ");
            STANDARD.encode_string(credentials.expose(), &mut request);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        Secret::new(request)
    }

    /// Reads up to the empty line and not a byte more: what follows belongs to the tunnel.
    async fn read_head(&self, tcp: &mut TcpStream) -> Result<String, ProxyError> {
        let garbage = |reason: &str| ProxyError::Garbage { proxy: self.name(), reason: reason.to_owned() };
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_ANSWER {
                return Err(garbage("its answer has no end"));
            }
            match tcp.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(garbage("it closed the connection before it had answered"));
                }
                Err(source) => return Err(ProxyError::Broken { proxy: self.name(), source }),
            }
        }
        String::from_utf8(head).map_err(|_| garbage("its answer is no text"))
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> ProxySettings {
        ProxySettings::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(pairs: &[(&str, &str)], server: &str) -> Option<String> {
        settings(pairs).for_server(&server.parse().unwrap()).unwrap().map(|proxy| proxy.name())
    }

    #[test]
    fn the_scheme_of_the_server_chooses_the_variable() {
        let both = [("HTTPS_PROXY", "http://secure:1"), ("http_proxy", "plain:2")];
        assert_eq!(chosen(&both, "https://fleet.example"), Some("secure:1".to_owned()));
        assert_eq!(chosen(&both, "http://fleet.example"), Some("plain:2".to_owned()));
        assert_eq!(chosen(&both, "http://127.0.0.1:80"), None, "plain http to this machine takes no proxy");
        assert_eq!(chosen(&[("HTTPS_PROXY", " ")], "https://fleet.example"), None);
    }

    #[test]
    fn no_proxy_knows_names_suffixes_addresses_blocks_and_ports() {
        let with = |list: &str, server: &str| chosen(&[("https_proxy", "p:1"), ("no_proxy", list)], server).is_none();
        assert!(with("*", "https://any.where"));
        assert!(with("other, Fleet.Example", "https://fleet.example"));
        assert!(with("example", "https://fleet.example"));
        assert!(with(".example", "https://fleet.example"));
        assert!(with("*.example", "https://fleet.example"));
        assert!(!with("leet.example", "https://fleet.example"));
        assert!(with("10.0.0.0/8", "https://10.9.8.7"));
        assert!(!with("10.0.0.0/8", "https://11.9.8.7"));
        assert!(with("0.0.0.0/0", "https://11.9.8.7"));
        assert!(with("fd00::/8", "https://[fd12::1]"));
        assert!(with("fleet.example:8443", "https://fleet.example:8443"));
        assert!(!with("fleet.example:8443", "https://fleet.example"));
        assert!(with("::1", "https://[::1]:9"));
        assert!(!with("1", "https://10.0.0.1"), "an address has no names below it");
    }

    #[test]
    fn user_and_password_are_decoded_for_the_proxy_and_never_shown() {
        let settings = settings(&[("HTTPS_PROXY", "http://u%40corp:p%3Ass@proxy:3128")]);
        let proxy = settings.for_server(&"https://h".parse().unwrap()).unwrap().unwrap();
        let request = proxy.request("h:443");
        let expected = STANDARD.encode("u@corp:p:ss");
        assert!(request.expose().contains(&format!("Proxy-Authorization: Basic {expected}\r\n")));
        assert!(!format!("{settings:?} {proxy:?}").contains("p%3Ass"));
        assert!(!format!("{proxy:?}").contains("p:ss"));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_by_its_variable_alone() {
        let error = |value| {
            settings(&[("HTTPS_PROXY", value)]).for_server(&"https://h".parse().unwrap()).unwrap_err().to_string()
        };
        assert!(error("socks5://u:hidden@h:1").contains("`socks5`"));
        assert!(error("http://u:hidden@").starts_with("HTTPS_PROXY is not"));
        assert!(!error("http://u:hidden@").contains("hidden"));
    }
}
