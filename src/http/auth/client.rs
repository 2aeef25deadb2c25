//! Where a request comes from. `X-Forwarded-For` is believed only as far as trusted proxies wrote it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Extensions, HeaderMap, request::Parts},
};

use crate::{
    domain::network::Network,
    http::{AppState, HttpError},
};

/// The address of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl FromRequestParts<AppState> for ClientAddr {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, HttpError> {
        Ok(Self(client_addr(&parts.extensions, &parts.headers, &state.settings.trusted_proxies)))
    }
}

/// The nearest address that is not a trusted proxy's.
#[must_use]
pub fn client_addr(extensions: &Extensions, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip().to_canonical());
    let is_proxy = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    if !is_proxy(peer) {
        return peer;
    }
    let mut client = peer;
    // Each proxy appends whom it saw: from the right, the first that is no proxy of ours is the truth; what stands left of it anyone may have written.
    let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !is_proxy(client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|range| range.parse().unwrap()).collect();
        client_addr(&extensions, &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(from("203.0.113.9", &["1.2.3.4"], &[]), "203.0.113.9");
        assert_eq!(from("203.0.113.9", &["1.2.3.4"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &["1.2.3.4, 203.0.113.9"], &["10.0.0.0/8"]), "203.0.113.9");
    }

    #[test]
    fn a_chain_of_trusted_proxies_leads_to_the_client() {
        assert_eq!(from("10.0.0.1", &["203.0.113.9, 10.0.0.2"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &["203.0.113.9", "10.0.0.2"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["junk"], &["10.0.0.0/8"]), "10.0.0.1");
    }
}
