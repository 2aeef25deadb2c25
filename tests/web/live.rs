//! The live stream: stored lines and live ones join without a gap or a repeat; who is slow loses lines, is told so, and harms nobody.

use std::time::Duration;

use flotilla::domain::{
    JobProgress, JobStatus,
    event::{LiveFrame, progress_frame},
    user::Role,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{net::TcpStream, sync::watch};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use crate::server::{TestJob, TestServer};

type Socket = WebSocketStream<TcpStream>;

const DEADLINE: Duration = Duration::from_secs(20);

async fn open(server: &TestServer, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let mut request = format!("ws://{}{path}", server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

async fn watch(server: &TestServer, job: &TestJob, after: u32, token: &str) -> Socket {
    let path = format!("/api/jobs/{}/stream?after={after}", job.id);
    open(server, &path, &[("authorization", &format!("Bearer {token}"))]).await.unwrap()
}

/// What a viewer was sent.
#[derive(Debug, PartialEq)]
enum Seen {
    Frame { kind: String, payload: Value },
    Closed(u16),
}

async fn next(socket: &mut Socket) -> Seen {
    loop {
        let message = tokio::time::timeout(DEADLINE, socket.next()).await.expect("a frame in time");
        match message.expect("a close before the end").unwrap() {
            Message::Text(text) => {
                let mut frame: Value = serde_json::from_str(&text).unwrap();
                let kind = frame["type"].as_str().unwrap().to_owned();
                return Seen::Frame { kind, payload: frame["payload"].take() };
            }
            Message::Close(frame) => return Seen::Closed(frame.map_or(0, |frame| frame.code.into())),
            _ => {}
        }
    }
}

/// All that follows, to the close: kinds in order, each once in a row, and the numbers of the lines and of the gaps.
#[derive(Debug, Default)]
struct Transcript {
    kinds: Vec<String>,
    lines: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    code: u16,
}

impl Transcript {
    fn take(&mut self, kind: String, payload: &Value) {
        if kind == "log.stream" {
            self.lines.extend(payload["lines"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()));
        } else if kind == "log.gap" {
            self.gaps.push((payload["from_seq"].as_u64().unwrap(), payload["to_seq"].as_u64().unwrap()));
        }
        if self.kinds.last() != Some(&kind) {
            self.kinds.push(kind);
        }
    }

    async fn read(socket: &mut Socket, seen: Option<&watch::Sender<u64>>) -> Self {
        let mut all = Self::default();
        loop {
            match next(socket).await {
                Seen::Frame { kind, payload } => all.take(kind, &payload),
                Seen::Closed(code) => {
                    all.code = code;
                    return all;
                }
            }
            if let Some(seen) = seen {
                seen.send_replace(all.lines.last().copied().unwrap_or_default());
            }
        }
    }
}

#[tokio::test]
async fn strangers_are_told_before_the_upgrade() {
    let server = TestServer::start().await;
    let user = server.user("ada", Role::Viewer).await;
    let session = server.session(&user).await;
    let job = server.job().await;
    let path = format!("/api/jobs/{}/stream", job.id);
    let cookie = ("cookie", session.cookie.as_str());
    let own = format!("http://{}", server.address);
    assert_eq!(open(&server, &path, &[]).await.err(), Some(401));
    assert_eq!(open(&server, &path, &[cookie, ("origin", "https://evil.example")]).await.err(), Some(403));
    assert_eq!(open(&server, "/api/jobs/01JD3K8ZQV5C0F8R4X7M2N9ABC/stream", &[cookie]).await.err(), Some(404));
    assert!(open(&server, &path, &[cookie, ("origin", &own)]).await.is_ok());
    let no_socket = server.get(&path).header("cookie", &session.cookie).send().await.unwrap();
    assert_eq!(no_socket.status(), 426);
    server.stop().await;
}

#[tokio::test]
async fn a_finished_job_is_replayed_and_closed_as_planned() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    job.lines(1, 1700, 100).await;
    job.finish().await;
    let all = Transcript::read(&mut watch(&server, &job, 0, &token).await, None).await;
    assert_eq!(all.kinds, ["job.started", "log.stream", "job.finished"]);
    assert!(all.lines.iter().copied().eq(1..=1700));
    assert_eq!((all.gaps.len(), all.code), (0, u16::from(CloseCode::Normal)));
    let rest = Transcript::read(&mut watch(&server, &job, 1690, &token).await, None).await;
    assert!(rest.lines.iter().copied().eq(1691..=1700));
    assert_eq!(server.state.hub.watched_jobs(), 0);
}

#[tokio::test]
async fn stored_and_live_lines_join_without_gap_or_repeat_while_lines_arrive() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    job.lines(1, 900, 50).await;
    // Frames of changing size, so that they rarely begin where a replay ends; never so far ahead that the viewer may lag.
    let (seen, mut progress) = watch::channel(0_u64);
    let writer = async {
        let mut first = 901_u32;
        for n in 0..600_u32 {
            let last = first + n % 7;
            job.lines(first, last, 20).await;
            progress.wait_for(|seen| *seen + 60 >= u64::from(last) || *seen < 900).await.unwrap();
            first = last + 1;
        }
        job.finish().await;
        u64::from(first - 1)
    };
    let mut sockets = [watch(&server, &job, 0, &token).await, watch(&server, &job, 850, &token).await];
    let [one, two] = &mut sockets;
    let (last, one, two) = tokio::join!(writer, Transcript::read(one, Some(&seen)), Transcript::read(two, None));
    assert!(one.lines.iter().copied().eq(1..=last), "gaps {:?}", one.gaps);
    assert_eq!(one.kinds.last().map(String::as_str), Some("job.finished"));
    assert_eq!(two.lines.first(), Some(&851));
    assert_whole(&two, 850, last);
    assert_eq!(job.status().await, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_viewer_that_starts_in_the_middle_of_a_frame_gets_the_rest_of_it() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    job.lines(1, 10, 0).await;
    let mut socket = watch(&server, &job, 15, &token).await;
    assert!(matches!(next(&mut socket).await, Seen::Frame { kind, .. } if kind == "job.started"));
    job.lines(11, 13, 0).await;
    job.lines(14, 20, 0).await;
    job.lines(21, 25, 0).await;
    job.finish().await;
    let all = Transcript::read(&mut socket, None).await;
    assert!(all.lines.iter().copied().eq(16..=25), "{all:?}");
    assert!(all.gaps.is_empty());
}

/// Lines and told gaps together are each number after `after` once, in order.
fn assert_whole(all: &Transcript, after: u64, last: u64) {
    let mut covered: Vec<u64> = all.lines.clone();
    covered.extend(all.gaps.iter().flat_map(|(from, to)| *from..=*to));
    covered.sort_unstable();
    assert!(covered.iter().copied().eq(after + 1..=last), "{} lines, gaps {:?}", all.lines.len(), all.gaps);
    assert!(all.lines.is_sorted());
}

/// Far more frames than the sockets' buffers and the ring hold; returns what the one who reads saw, and the job's last line.
async fn flood(job: &TestJob, quick: &mut Socket) -> (Vec<u64>, u64) {
    let frames = 300_u32;
    let mut lines = Vec::new();
    for n in 0..frames {
        job.lines(n * 10 + 1, n * 10 + 10, 16_000).await;
        let Seen::Frame { kind, payload } = next(quick).await else { panic!("closed") };
        assert_eq!(kind, "log.stream");
        lines.extend(payload["lines"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()));
    }
    (lines, u64::from(frames) * 10)
}

#[tokio::test]
async fn a_stuck_browser_is_told_of_its_gap_and_the_others_miss_nothing() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    let mut stuck = watch(&server, &job, 0, &token).await;
    let mut quick = watch(&server, &job, 0, &token).await;
    for socket in [&mut stuck, &mut quick] {
        assert!(matches!(next(socket).await, Seen::Frame { kind, .. } if kind == "job.started"));
    }
    let (lines, last) = flood(&job, &mut quick).await;
    assert!(lines.iter().copied().eq(1..=last));
    job.finish().await;
    let all = Transcript::read(&mut stuck, None).await;
    assert!(!all.gaps.is_empty(), "it was slow enough to lose lines");
    assert_eq!(all.lines.last(), Some(&last), "after the gap it is live again");
    assert_whole(&all, 0, last);
    assert_eq!((all.kinds.last().map(String::as_str), all.code), (Some("job.finished"), 1000));
    // What it missed is fetched from the log.
    let (from, to) = all.gaps[0];
    let path = format!("/api/jobs/{}/log?after={}&limit={}", job.id, from - 1, (to - from + 1).min(50));
    let page: Value = server.get(&path).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    assert_eq!(page["lines"][0]["seq"].as_u64(), Some(from));
}

#[tokio::test]
async fn a_gap_at_the_very_end_is_told_before_the_end() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    let mut stuck = watch(&server, &job, 0, &token).await;
    let mut quick = watch(&server, &job, 0, &token).await;
    for socket in [&mut stuck, &mut quick] {
        assert!(matches!(next(socket).await, Seen::Frame { kind, .. } if kind == "job.started"));
    }
    let (_, last) = flood(&job, &mut quick).await;
    // The ring holds nothing but these when the end comes.
    for percent in 0..100_u8 {
        let progress = JobProgress { percent: percent.into(), ..JobProgress::default() };
        let frame = LiveFrame::Progress(progress_frame(job.id, progress.clone()));
        server.state.hub.progress(job.id, progress, frame);
    }
    job.finish().await;
    let all = Transcript::read(&mut stuck, None).await;
    assert_eq!(all.gaps.last().map(|(_, to)| *to), Some(last));
    assert_whole(&all, 0, last);
    assert_eq!(all.kinds.last().map(String::as_str), Some("job.finished"));
}

#[tokio::test]
async fn what_is_lost_while_stored_lines_are_still_sent_is_sent_from_the_store() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    for n in 0..60_u32 {
        job.lines(n * 50 + 1, n * 50 + 50, 16_000).await;
    }
    // It does not read yet, so the server cannot be through with what is stored.
    let mut slow = watch(&server, &job, 0, &token).await;
    for n in 3001..=3200 {
        job.lines(n, n, 0).await;
    }
    assert!(matches!(next(&mut slow).await, Seen::Frame { kind, .. } if kind == "job.started"));
    let (seen, mut progress) = watch::channel(0_u64);
    let end = async {
        progress.wait_for(|seen| *seen == 3200).await.unwrap();
        job.finish().await;
    };
    let (all, ()) = tokio::join!(Transcript::read(&mut slow, Some(&seen)), end);
    assert!(all.gaps.is_empty(), "{:?}", all.gaps);
    assert!(all.lines.iter().copied().eq(1..=3200));
}

#[tokio::test]
async fn a_stopping_server_closes_its_viewers_and_leaves_no_task() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    let mut socket = watch(&server, &job, 0, &token).await;
    assert!(matches!(next(&mut socket).await, Seen::Frame { .. }));
    server.state.tasks.stop();
    assert_eq!(next(&mut socket).await, Seen::Closed(1001));
    server.stop().await;
}

#[tokio::test]
async fn a_browser_that_leaves_or_talks_too_much_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let token = server.admin().await;
    let job = server.running_job().await;
    let mut chatty = watch(&server, &job, 0, &token).await;
    chatty.send(Message::Text("x".repeat(64 * 1024).into())).await.unwrap();
    let polite = watch(&server, &job, 0, &token).await;
    assert_eq!(server.state.hub.watched_jobs(), 1);
    drop(polite);
    crate::server::until(|| server.state.hub.watched_jobs() == 0).await;
}
