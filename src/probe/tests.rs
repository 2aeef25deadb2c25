//! Each way in which an answer comes, or does not, against real sockets of this machine.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream as StdStream},
    sync::mpsc,
    thread,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{RootCertStore, ServerConfig, ServerConnection, pki_types::PrivatePkcs8KeyDer};

use super::*;
use crate::domain::probe::Expect;

/// 2026-11-21 08:00 UTC.
const NOW: i64 = 1_795_248_000_000;

/// A server that does this with each connection, on a thread that ends with the tests.
fn server_at(address: &str, each: impl Fn(StdStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(each));
    address
}

fn server(each: impl Fn(StdStream) + Send + 'static) -> SocketAddr {
    server_at("127.0.0.1:0", each)
}

/// Reads a request's head.
fn hear(stream: &mut impl std::io::Read) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
}

/// One that answers each request with this.
fn saying(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    server(move |mut stream| {
        hear(&mut stream);
        stream.write_all(&answer).ok();
        stream.shutdown(Shutdown::Write).ok();
    })
}

/// One that speaks HTTP, and says so to whatever comes.
fn blunt() -> SocketAddr {
    server(|mut stream| {
        assert!(stream.read(&mut [0; 4096]).is_ok_and(|heard| heard > 0));
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").ok();
    })
}

fn status(line: &str) -> SocketAddr {
    saying(format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nok"))
}

fn http(to: impl std::fmt::Display, expect: Expect) -> Question {
    Question::Http { url: format!("http://{to}/health"), expect, tls_insecure: false }
}

fn codes(codes: &[u16]) -> Expect {
    Expect::Status { codes: codes.iter().copied().collect::<BTreeSet<u16>>() }
}

fn body(pattern: &str) -> Expect {
    Expect::Body { pattern: pattern.to_owned() }
}

async fn ask_within(prober: &Prober, question: &Question, ms: u64) -> Answer {
    prober.ask(question, Duration::from_millis(ms), Timestamp::from_unix_ms(NOW)).await
}

async fn ask(question: &Question) -> Answer {
    ask_within(&Prober::new(), question, 10_000).await
}

/// Asks what is answered badly, and finds these words in the answer.
async fn bad(question: Question, ms: u64, words: &str) -> Answer {
    let answer = ask_within(&Prober::new(), &question, ms).await;
    assert!(!answer.healthy && answer.detail.contains(words), "{words:?} is not in {answer:?}");
    answer
}

#[tokio::test]
async fn any_status_at_all_is_a_healthy_answer_where_nothing_else_is_said() {
    for line in ["200 OK", "401 Unauthorized", "500 Internal Server Error", "302 Found", "204 No Content", "599 Odd"] {
        let answer = ask(&http(status(line), Expect::Any)).await;
        assert!(answer.healthy && answer.latency_ms.is_some(), "{line}: {answer:?}");
        assert!(answer.detail.starts_with(&line[..3]), "{answer:?}");
    }
}

#[tokio::test]
async fn a_status_that_is_not_among_the_wanted_ones_is_said_with_them() {
    assert!(ask(&http(status("204 No Content"), codes(&[200, 204]))).await.healthy);
    let answer =
        bad(http(status("503 Service Unavailable"), codes(&[200, 204])), 10_000, "503 Service Unavailable").await;
    assert!(answer.detail.ends_with("200 or 204 is wanted") && answer.latency_ms.is_some(), "{answer:?}");
    let moved =
        saying("HTTP/1.1 301 Moved Permanently\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n");
    bad(http(moved, codes(&[200])), 10_000, "a redirect to https://elsewhere.example/ that is not followed").await;
}

#[tokio::test]
async fn a_pattern_is_looked_for_in_the_start_of_a_good_answers_body() {
    let page = |at: usize| saying(format!("HTTP/1.1 200 OK\r\n\r\n{}status: fine", "x".repeat(at)));
    assert!(ask(&http(page(0), body("status: (fine|ok)"))).await.healthy);
    assert!(ask(&http(page((64 << 10) - 12), body("status: fine"))).await.healthy);
    bad(http(page(64 << 10), body("status: fine")), 10_000, "is not in the first 64 KiB of its body").await;
    bad(http(page(3), body("^status")), 10_000, "is not in its body of 15 bytes").await;
    let broken = saying("HTTP/1.1 500 Internal Server Error\r\n\r\nstatus: fine");
    bad(http(broken, body("fine")), 10_000, "it answered 500 Internal Server Error, where 200 to 299 is wanted").await;
}

#[tokio::test]
async fn a_service_that_breaks_off_or_closes_says_so() {
    // What is closed with something unread is reset.
    let resets = server(|stream| {
        stream.peek(&mut [0]).ok();
    });
    bad(http(resets, Expect::Any), 10_000, "(reset)").await;
    let closes = server(|mut stream| hear(&mut stream));
    bad(http(closes, Expect::Any), 10_000, "closed the connection before its answer was whole").await;
    let cut = saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine");
    assert!(ask(&http(cut, Expect::Any)).await.healthy, "the answer's head is an answer");
    bad(http(cut, body("fine")), 10_000, "before its answer was whole").await;
}

#[tokio::test]
async fn nothing_that_listens_is_told_from_a_connection_that_is_swallowed() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = bad(http(free, Expect::Any), 10_000, "connection refused").await;
    assert_eq!(answer.latency_ms, None);
    bad(Question::Tcp { address: free.to_string() }, 10_000, "nothing listens").await;
    // A listener whose queue is full drops what comes.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let queued: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || StdStream::connect_timeout(&address, Duration::from_millis(300))))
        .map(|thread| thread.join().unwrap())
        .collect();
    bad(Question::Tcp { address: address.to_string() }, 300, "a firewall may drop it").await;
    drop(queued);
}

#[tokio::test]
async fn a_service_that_hangs_or_dribbles_is_given_up_in_time() {
    let (hold, held) = mpsc::channel();
    let silent = server(move |stream| hold.send(stream).unwrap());
    let begun = Instant::now();
    bad(http(silent, Expect::Any), 200, "takes connections, and gave no answer within 0.2 s").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    drop(held);
    // A byte now and then, for as long as somebody listens; the connection's own timeout is the rest between two.
    let slow = server(|mut stream| {
        hear(&mut stream);
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let endless = b"HTTP/1.1 200 OK\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a'));
        for byte in endless {
            if stream.write_all(&[*byte]).is_err() || stream.read(&mut [0]).is_ok() {
                return;
            }
        }
    });
    bad(http(slow, Expect::Any), 400, "gave no answer within 0.4 s").await;
    let stuck = server(|mut stream| {
        hear(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi").ok();
        while stream.read(&mut [0]).is_ok_and(|heard| heard > 0) {}
    });
    bad(http(stuck, body("fine")), 200, "200 OK came, and its body did not within 0.2 s").await;
}

#[tokio::test]
async fn what_is_no_http_or_too_much_of_it_is_said() {
    bad(http(saying("SSH-2.0-OpenSSH_9.2\r\n"), Expect::Any), 10_000, "does not speak HTTP/1.1").await;
    bad(http(saying(vec![0, 159, 146, 150, 13, 10, 13, 10]), Expect::Any), 10_000, "does not speak HTTP/1.1").await;
    let head = format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\n\r\n", "a".repeat(300 << 10));
    bad(http(saying(head), Expect::Any), 10_000, "larger than 64 KiB").await;
}

#[tokio::test]
async fn addresses_of_both_kinds_and_names_are_reached_and_unknown_names_said() {
    let six = server_at("[::1]:0", |mut stream| {
        hear(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").ok();
    });
    assert!(ask(&http(six, Expect::Any)).await.healthy);
    assert!(ask(&Question::Tcp { address: six.to_string() }).await.healthy);
    // The name has both addresses as a rule, and only one of them answers.
    let four = status("200 OK");
    assert!(ask(&http(format!("localhost:{}", four.port()), Expect::Any)).await.healthy);
    let answer = ask(&http("nowhere.invalid", Expect::Any)).await;
    assert!(
        !answer.healthy && answer.detail.contains("nowhere.invalid") && answer.detail.contains("not found"),
        "{answer:?}"
    );
}

/// A server with a certificate for `name`, valid in November 2026 or as said; and the certificate.
fn secured(name: &str, until: (i32, u8, u8)) -> (SocketAddr, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let config = Arc::new(config);
    let address = server(move |mut tcp| {
        let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::Stream::new(&mut session, &mut tcp);
        hear(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok();
        stream.conn.send_close_notify();
        stream.flush().ok();
    });
    (address, certificate)
}

fn https(to: &str, tls_insecure: bool) -> Question {
    Question::Http { url: format!("https://{to}/"), expect: body("ok"), tls_insecure }
}

#[tokio::test]
async fn a_certificate_is_verified_unless_any_will_do() {
    let (address, certificate) = secured("localhost", (2999, 1, 1));
    let (named, bare) = (format!("localhost:{}", address.port()), address.to_string());
    bad(https(&named, false), 10_000, "signed by an authority that the control plane does not know").await;
    assert!(ask(&https(&named, true)).await.healthy);
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let prober = Prober::new();
    assert!(prober.0.verified.set(certificate::trusting(roots)).is_ok());
    let trusting = async |question| ask_within(&prober, &question, 10_000).await;
    assert!(trusting(https(&named, false)).await.healthy);
    assert!(trusting(https(&bare, false)).await.detail.contains("is not for 127.0.0.1"));
    bad(https(&blunt().to_string(), true), 10_000, "does not speak TLS").await;
    let closes = server(drop);
    bad(https(&closes.to_string(), true), 10_000, "while agreeing on TLS").await;
}

#[tokio::test]
async fn the_days_that_a_certificate_has_left_are_counted_whoever_signed_it() {
    let days = |address: SocketAddr, days| Question::Tls { address: address.to_string(), days };
    let (soon, _) = secured("web.example", (2026, 12, 1));
    let answer = ask(&days(soon, 9)).await;
    assert!(answer.healthy && answer.detail == "9 days left", "{answer:?}");
    bad(days(soon, 10), 10_000, "ends on 2026-12-01, in 9 days, and 10 are wanted").await;
    let (over, _) = secured("web.example", (2026, 11, 20));
    bad(days(over, 0), 10_000, "ended on 2026-11-20").await;
    // From 2050 on, dates are written in another form.
    let (far, _) = secured("web.example", (2051, 1, 1));
    assert!(ask(&days(far, 365)).await.healthy);
    bad(days(blunt(), 1), 10_000, "does not speak TLS").await;
}
