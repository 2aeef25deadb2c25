//! Ways to the server: refused ports, proxies, certificates. Every refusal is read as its user would read it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla_agent::dial::{DialError, Dialer, Fingerprint, ProxySettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::support::{Agent, Server, identity, soon};

fn acceptor(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn self_signed() -> (TlsAcceptor, Fingerprint) {
    let made = rcgen::generate_simple_self_signed(vec!["some.other.name".to_owned()]).unwrap();
    let fingerprint = Fingerprint::of(made.cert.der());
    (acceptor(vec![made.cert.der().clone()], &made.signing_key), fingerprint)
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server whose chain shows `shown` and whose certificate for 127.0.0.1 was signed by `signer`.
fn signed(signer: &CertifiedIssuer<'static, KeyPair>, shown: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = params.signed_by(&key, signer).unwrap();
    acceptor(vec![cert.der().clone(), shown.der().clone()], &key)
}

/// Dials once; the server's side of the handshake runs beside it.
async fn dial(server: &Server, pinned: Option<Fingerprint>) -> Result<(), DialError> {
    let dialer = Dialer::new(&server.url().parse().unwrap(), pinned, &ProxySettings::none()).unwrap();
    let (result, _) = tokio::join!(dialer.connect(), server.accept_io());
    result.map(drop)
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_by_its_pinned_fingerprint_through_a_whole_conversation() {
    let (acceptor, fingerprint) = self_signed();
    let server = Server::tls(acceptor).await;
    let mut identity = identity(&server.url());
    identity.ca_fingerprint = Some(fingerprint);
    let agent = Agent::start(identity);
    let (_peer, hello) = server.welcome(&[]).await;
    assert_eq!(hello.hostname, "web-1");
    agent.stop().await;
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused_and_both_are_named() {
    let ((acceptor, seen), (_, pinned)) = (self_signed(), self_signed());
    let server = Server::tls(acceptor).await;
    let error = dial(&server, Some(pinned)).await.unwrap_err();
    assert!(matches!(error, DialError::FingerprintMismatch { seen: s, pinned: p, .. } if s == seen && p == pinned));
    let text = error.to_string();
    assert!(text.contains(&seen.to_string()) && text.contains(&pinned.to_string()), "{text}");
}

#[tokio::test]
async fn without_a_pin_an_unknown_certificate_is_refused_with_its_fingerprint_and_the_way_to_pin_it() {
    let (acceptor, seen) = self_signed();
    let server = Server::tls(acceptor).await;
    match dial(&server, None).await.unwrap_err() {
        // A machine without any authorities can't get that far.
        DialError::NoRoots(_) => {}
        error => assert!(error.to_string().contains(&format!("--ca-fingerprint {seen}")), "{error}"),
    }
}

#[tokio::test]
async fn a_pinned_authority_vouches_for_what_it_signed_and_for_nothing_that_merely_shows_it() {
    let (real, forger) = (authority(), authority());
    let pinned = Some(Fingerprint::of(real.der()));
    dial(&Server::tls(signed(&real, &real)).await, pinned).await.unwrap();
    let error = dial(&Server::tls(signed(&forger, &real)).await, pinned).await.unwrap_err();
    assert!(matches!(error, DialError::CertificateUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_port_a_silent_server_and_a_server_without_tls_are_told_apart() {
    let proxies = ProxySettings::none();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{free}").parse().unwrap();
    let error = soon("refusal", Dialer::new(&url, None, &proxies).unwrap().connect()).await.unwrap_err();
    assert!(matches!(error, DialError::Refused { .. }), "{error}");

    let (_, any) = self_signed();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap()).parse().unwrap();
    let dialer = Dialer::new(&url, Some(any), &proxies).unwrap().with_deadline(Duration::from_millis(200));
    let error = soon("timeout", dialer.connect()).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { stage: "agreeing on TLS", .. }), "{error}");

    let dialer = Dialer::new(&url, Some(any), &proxies).unwrap();
    let plain = async {
        // The one that timed out is still in the queue.
        let _ = silent.accept().await.unwrap();
        let (mut tcp, _) = silent.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = tcp.read(&mut [0; 1024]).await;
    };
    let (result, ()) = soon("a TLS failure", async { tokio::join!(dialer.connect(), plain) }).await;
    let error = result.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
}

/// A CONNECT proxy: what it was asked, and how it answers.
struct TestProxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn proxy(answer: &'static str) -> TestProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    TaskTracker::new().spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split_whitespace().nth(1).unwrap().to_owned();
            log.lock().unwrap().push(head);
            client.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains(" 200 ") {
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        }
    });
    TestProxy { address, asked }
}

fn through(address: &str) -> ProxySettings {
    let address = address.to_owned();
    ProxySettings::from_lookup(move |name| {
        (name == "HTTPS_PROXY").then(|| format!("http://fleet:pass%20word@{address}"))
    })
}

#[tokio::test]
async fn the_agent_reaches_its_server_through_a_connect_proxy() {
    let (acceptor, fingerprint) = self_signed();
    let server = Server::tls(acceptor).await;
    let proxy = proxy("HTTP/1.1 200 Connection established\r\nX-Proxy: test\r\n\r\n").await;
    let mut identity = identity(&server.url());
    identity.ca_fingerprint = Some(fingerprint);
    let proxies = through(&proxy.address);
    let agent = Agent::start_with(identity, Vec::new(), |options| options.proxies = proxies);
    let (peer, _) = server.welcome(&[]).await;
    {
        let asked = proxy.asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].starts_with(&format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", server.port())), "{asked:?}");
        assert!(asked[0].contains("Proxy-Authorization: Basic ZmxlZXQ6cGFzcyB3b3Jk\r\n"), "{asked:?}");
        assert!(!asked[0].contains(super::support::TOKEN), "the proxy sees no token");
    }
    drop(peer);
    agent.stop().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_none_is_quoted() {
    let (_, any) = self_signed();
    let refused = async |answer| {
        let proxy = proxy(answer).await;
        let dialer = Dialer::new(&"https://fleet.example".parse().unwrap(), Some(any), &through(&proxy.address));
        soon("an answer", dialer.unwrap().connect()).await.unwrap_err().to_string()
    };
    let text = refused("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    assert!(text.contains("407 Proxy Authentication Required") && text.contains("USER:PASSWORD"), "{text}");
    assert!(!text.contains("pass word") && !text.contains("pass%20word"), "{text}");
    let text = refused("220 mail.example ESMTP\r\n\r\n").await;
    assert!(text.contains("does not answer like an HTTP proxy"), "{text}");
}
