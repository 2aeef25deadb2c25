//! Requests to a management interface: a small HTTP server of the test's own, which answers as it is asked to, and badly.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    thread,
};

use flotilla_proto::{ApiWay, FailureClass, JobStatus, Secret};
use serde_json::json;

use super::*;

/// Answers by the path; remembers what it was asked.
struct Service {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start() -> Self {
        Self::with(answer)
    }

    /// With a certificate that nobody knows.
    fn over_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let config = Arc::new(config);
        Self::with(move |stream, seen| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(rustls::StreamOwned::new(session, stream), seen);
        })
    }

    fn with(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let (seen, serve) = (Arc::clone(&asked), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, serve) = (Arc::clone(&seen), Arc::clone(&serve));
                thread::spawn(move || serve(stream.unwrap(), &seen));
            }
        });
        Self { port, asked }
    }

    fn way(&self) -> ApiWay {
        ApiWay {
            base_url: format!("http://127.0.0.1:{}/api/v1", self.port),
            public_key: Some("public-1".to_owned()),
            secret_key: Some(Secret::from("planted-api-key")),
            tls_insecure: false,
        }
    }

    fn last(&self) -> String {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

fn answer(stream: impl Read + Write, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    if head.is_empty() || reader.read_exact(&mut body).is_err() {
        return;
    }
    seen.lock().unwrap().push(format!("{head}\r\n{}", String::from_utf8(body).unwrap()));
    let path = head.split_whitespace().nth(1).unwrap_or_default().trim_start_matches("/api/v1/").to_owned();
    let path = path.split('?').next().unwrap();
    // Whoever hangs up early is what some of the tests are about.
    let stream = reader.get_mut();
    let mut say = |text: &[u8]| stream.write_all(text).and_then(|()| stream.flush()).is_ok();
    let full = |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    match path {
        "stats" => _ = say(full("200 OK", r#"{"disk":{"used":"3G"},"load":[0.5,0.7]}"#).as_bytes()),
        "text" => _ = say(full("200 OK", "no json\nat all").as_bytes()),
        "moved" => _ = say(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"),
        "broken" => _ = say(full("500 Internal Server Error", &"trace\n".repeat(2000)).as_bytes()),
        "cut" => _ = say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        "hang" => thread::park(),
        "endless" => {
            let _ = say(b"HTTP/1.1 200 OK\r\n\r\n");
            while say(&[b'x'; 65536]) {}
        }
        "file" => {
            let _ = say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n");
            let _ = say(&vec![b'f'; 5_000_000]);
        }
        status => _ = say(full(&format!("{status} Some"), "said").as_bytes()),
    }
}

fn ask(endpoint: &str, more: &str) -> String {
    format!("[[steps]]\ntype = \"api\"\nlabel = \"Ask\"\nendpoint = \"{endpoint}\"\n{more}")
}

async fn run(place: &Place, way: &ApiWay, number: u128, steps: &str) -> Ran {
    let mut order = place.order(number, steps);
    let runbook = book(&mut order);
    (runbook.way, runbook.host.api) = (flotilla_proto::Way::Api, Some(way.clone()));
    place.run_order(&order).await
}

const USED: &str =
    "[[results]]\nname = \"used\"\ntype = \"bytes\"\nstep = \"Ask\"\npointer = \"/disk/used\"\nrequired = true\n";

#[tokio::test]
async fn an_answer_is_logged_and_its_results_are_read() {
    let (place, service) = (Place::new(), Service::start());
    let more = "method = \"POST\"\nquery = { q = \"a&b\", p = \"{{ v }}\" }\nheaders = { X-Note = \"{{ v }}\" }\nbody = { who = \"{{ v }}\", many = [1, \"{{ host.name }}\"] }\n";
    let inputs = "[[inputs]]\nname = \"v\"\ntype = \"string\"\ndefault = 'o\"k & c'\n";
    let ran = run(&place, &service.way(), 1, &(ask("/stats", more) + USED + inputs)).await;
    assert_eq!((ran.end.status, ran.error()), (JobStatus::Succeeded, ""), "{}", ran.text);
    assert_eq!(json!(ran.result.results), json!({ "used": 3_221_225_472_u64 }));
    assert!(
        ran.text.contains(r#"Stdout {"disk":{"used":"3G"}"#)
            && ran.text.contains("System POST /api/v1/stats at 127.0.0.1"),
        "{}",
        ran.text
    );
    let asked = service.last();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/v1/stats?p=o%22k%20%26%20c&q=a%26b HTTP/1.1"), "{head}");
    for line in
        ["public_key: public-1", "secret_key: planted-api-key", "x-note: o\"k & c", "content-type: application/json"]
    {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap(),
        json!({ "who": "o\"k & c", "many": [1, "web-1"] })
    );
}

#[tokio::test]
async fn each_way_of_failing_has_its_own_words() {
    let (place, service) = (Place::new(), Service::start());
    let cases = [
        ("401", "", "did not accept the keys (401)"),
        ("403", "", "does not allow these keys"),
        ("404", "", "web-1 knows no GET /api/v1/404 (404)"),
        ("429", "", "asked less often (429)"),
        ("broken", "", "web-1 failed over GET /api/v1/broken (500"),
        ("418", "", "with 418 I'm a teapot, where 200 was expected"),
        ("moved", "", "redirect (302) to http://elsewhere/, which is not followed"),
        ("text", USED, "is no JSON"),
        ("endless", "", "bigger than 1.0 MiB"),
        ("cut", "", "broke off"),
        ("hang", "timeout = 1\n", "did not end within 1 s"),
        ("endless", "timeout = 1\nlocal_path = \"DIR/endless\"\n", "did not end within 1 s"),
        ("cut", "local_path = \"DIR/cut\"\n", "broke off"),
    ];
    for (number, (endpoint, more, words)) in (1..).zip(cases) {
        let ran =
            run(&place, &service.way(), number, &(ask(endpoint, more) + &last("Clean", "echo clean >>DIR/log"))).await;
        assert!(ran.end.status == JobStatus::Failed && ran.error().contains(words), "{endpoint}: {}", ran.error());
        assert!(!ran.text.contains("planted-api"), "{}", ran.text);
        if endpoint == "broken" {
            assert!((4000..12_000).contains(&ran.text.len()), "{}", ran.text.len());
        }
    }
    assert_eq!(place.read("log").lines().count(), cases.len());
    assert_eq!(fs::read_dir(place.work.path()).unwrap().count(), 1, "no part of a file is left");
    let ran = run(&place, &service.way(), 20, &ask("404", "expect_status = [200, 404]\n")).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_service_that_is_not_reached_is_told_apart() {
    let (place, service) = (Place::new(), Service::start());
    let way = |base_url: String| ApiWay { base_url, ..service.way() };
    for (number, (base, words)) in (1..).zip([
        (format!("http://127.0.0.1:{}", harness::free_port()), "refused the connection: nothing listens"),
        ("http://no-such-name.invalid".to_owned(), "is not found"),
        (format!("https://127.0.0.1:{}", service.port), "no TLS with web-1"),
        ("ftp://127.0.0.1".to_owned(), "the base URL of web-1"),
    ]) {
        let ran = run(&place, &way(base), number, &ask("stats", "")).await;
        assert!(ran.error().contains(words), "{}", ran.error());
    }
}

#[tokio::test]
async fn an_answer_goes_to_a_file_whole() {
    let (place, service) = (Place::new(), Service::start());
    let more = "local_path = \"DIR/new/folder/file\"\nartefact = { name = \"f\", path = \"DIR/new/folder/file\" }\n";
    let ran = run(&place, &service.way(), 1, &ask("file", more)).await;
    assert_eq!((ran.end.status, ran.result.artefacts["f"].size), (JobStatus::Succeeded, 5_000_000), "{}", ran.text);
    assert!(ran.text.contains("its answer was saved as"), "{}", ran.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hangs_ends_with_the_job() {
    let (place, service) = (Place::new(), Service::start());
    let mut order = place.order(1, &ask("hang", ""));
    book(&mut order).host.api = Some(service.way());
    let memory = place.agent.submit(&order);
    poll("it asks", || !service.asked.lock().unwrap().is_empty());
    assert!(place.agent.executor.cancel(place.job(1)));
    let end = memory.end().await;
    assert!(
        end.status == JobStatus::Cancelled
            && end.error.clone().unwrap().contains("whether the request was carried out is not known"),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_is_taken_only_where_the_host_says_so() {
    let (place, service) = (Place::new(), Service::over_tls());
    let way = |tls_insecure| ApiWay {
        base_url: format!("https://127.0.0.1:{}/api/v1", service.port),
        tls_insecure,
        ..service.way()
    };
    let ran = run(&place, &way(false), 1, &ask("stats", "")).await;
    assert!(ran.error().contains("the certificate of web-1 is not trusted here"), "{}", ran.error());
    assert!(service.asked.lock().unwrap().is_empty(), "no key was sent");
    let ran = run(&place, &way(true), 2, &(ask("stats", "") + USED)).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{}", ran.error());
}

#[tokio::test]
async fn a_full_disk_takes_no_half_of_a_file_and_is_told() {
    let name = "api::a_full_disk_takes_no_half_of_a_file_and_is_told";
    let Some(folder) = namespace::again(name, "mkdir disk && mount -t tmpfs -o size=1m tmpfs disk && exec") else {
        return;
    };
    let (place, service, disk) = (Place::new(), Service::start(), folder.join("disk"));
    fs::write(place.at("big"), vec![7; 4 << 20]).unwrap();
    let target = disk.join("file");
    fs::write(&target, "as it was").unwrap();
    let copy = format!(
        "[[steps]]\ntype = \"scp\"\nlabel = \"Copy\"\ndirection = \"upload\"\nlocal_path = \"DIR/big\"\nremote_path = \"{}\"\n",
        target.display()
    );
    let fetch = ask("file", &format!("local_path = \"{}\"\n", target.display()));
    for (number, steps) in [(1, copy), (2, fetch)] {
        let ran = run(&place, &service.way(), number, &(steps + &last("Clean", "echo clean >>DIR/log"))).await;
        assert!(ran.end.status == JobStatus::Failed && ran.error().contains("the disk is full"), "{}", ran.error());
        assert_eq!(ran.result.class, Some(FailureClass::DiskFull));
        assert_eq!(fs::read_to_string(&target).unwrap(), "as it was");
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 1, "no part of it is left");
    }
    assert_eq!(place.read("log"), "clean\nclean\n");
}
