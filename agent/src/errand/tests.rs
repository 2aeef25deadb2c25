use flotilla_proto::{FateRecord, SnapshotRecord};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::dial::ProxySettings;

async fn server() -> (TcpListener, Messenger) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let dialer = Dialer::new(&url, None, &ProxySettings::none()).unwrap();
    (listener, Messenger { dialer: Arc::new(dialer), agent_token: "planted-token".into() })
}

/// Reads a request up to `last`, answers, and gives the request back.
async fn answer(listener: &TcpListener, last: &str, status: &str, body: &str) -> String {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let request = heard(&mut tcp, last).await;
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    tcp.write_all(text.as_bytes()).await.unwrap();
    request
}

async fn heard(tcp: &mut TcpStream, last: &str) -> String {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&request).ends_with(last) {
        let count = tcp.read(&mut piece).await.unwrap();
        if count == 0 {
            break;
        }
        request.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(request).unwrap()
}

fn request() -> GuardRequest {
    let snapshot = SnapshotRecord { id: "a1".to_owned(), ..SnapshotRecord::default() };
    let fate = FateRecord { snapshot, kept_by: vec!["last snapshot".to_owned()], group: "web-1".to_owned() };
    GuardRequest { dry_run: true, fates: vec![fate] }
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(messenger: &Messenger) -> Result<GuardAnswer, ErrandError> {
    ask_guard(messenger, JobId::from_parts(1, 1), &request(), PATIENCE).await
}

#[tokio::test]
async fn the_guard_is_asked_with_the_token_and_its_answer_comes_back() {
    let (listener, messenger) = server().await;
    let said = r#"{"remove":["a1"],"held":[{"snapshot":"b2","reason":"pinned"}],"stopped":null,"later":1}"#;
    let (answer, heard) = tokio::join!(ask(&messenger), answer(&listener, "}", "200 OK", said));
    let path = format!("POST {} HTTP/1.1\r\n", guard_path(JobId::from_parts(1, 1)));
    assert!(heard.starts_with(&path) && heard.contains("authorization: Bearer planted-token\r\n"), "{heard}");
    let body = heard.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(serde_json::from_str::<GuardRequest>(body).unwrap(), request());
    let answer = answer.unwrap();
    assert_eq!((answer.remove.len(), answer.held[0].reason.as_str(), answer.stopped), (1, "pinned", None));
}

#[tokio::test]
async fn a_refusal_and_nonsense_are_told_in_words_and_not_tried_again() {
    let (listener, messenger) = server().await;
    let problem = r#"{"title":"Forbidden","detail":"this host may not"}"#;
    let (refused, _) = tokio::join!(ask(&messenger), answer(&listener, "}", "403 Forbidden", problem));
    assert!(refused.unwrap_err().to_string().contains("this host may not"));
    let (nonsense, _) = tokio::join!(ask(&messenger), answer(&listener, "}", "200 OK", "<html>"));
    assert!(matches!(nonsense.unwrap_err(), ErrandError::Nonsense(_)));
}

#[tokio::test]
async fn a_server_that_is_not_ready_yet_is_asked_again() {
    let (listener, messenger) = server().await;
    let both = async {
        answer(&listener, "}", "404 Not Found", "{}").await;
        answer(&listener, "}", "503 Service Unavailable", "{}").await;
        answer(&listener, "}", "200 OK", r#"{"remove":[]}"#).await
    };
    let (last, _) = tokio::join!(ask(&messenger), both);
    assert_eq!(last.unwrap(), GuardAnswer::default());
}

#[tokio::test]
async fn a_silent_server_ends_the_errand_within_its_patience() {
    let (_listener, messenger) = server().await;
    let (path, body) = ("/x".to_owned(), ErrandBody::Json(Bytes::from_static(b"{}")));
    let error = messenger.post(Errand { path, body, patience: Duration::from_millis(200) }).await.unwrap_err();
    assert!(matches!(error, ErrandError::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn a_body_goes_out_as_it_comes_and_one_that_fails_is_never_ended_properly() {
    let (listener, messenger) = server().await;
    for fails in [false, true] {
        let (pieces, body) = mpsc::channel(1);
        let feed = async {
            pieces.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
            if fails {
                pieces.send(Err(io::Error::other("restic failed"))).await.unwrap();
            }
            drop(pieces);
        };
        let errand = Errand { path: "/x".to_owned(), body: ErrandBody::Stream(body), patience: PATIENCE };
        let (answered, heard, ()) =
            tokio::join!(messenger.post(errand), answer(&listener, "\r\n0\r\n\r\n", "204 No Content", ""), feed);
        assert!(heard.contains("5\r\nfirst\r\n"), "{heard}");
        assert_eq!((answered.is_err(), heard.ends_with("\r\n0\r\n\r\n")), (fails, !fails));
    }
}
