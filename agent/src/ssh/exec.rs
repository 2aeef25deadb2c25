//! Scripts on the host. What the server runs for a step is the same few words each time; the step itself, its environment and its input come over stdin, so
//! that none of them is ever on a command line there.
//!
//! The words start bash in the session that sshd made for it, with the step's mark (`FLOTILLA_RUN`) in its environment, by which [`super::stop`] finds all that came of it.
//! Output is bounded: a reader that stops reading stops the connection's traffic, not this process's memory.

use std::{io::Cursor, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use flotilla_proto::{Secret, Stream};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use super::{
    Ssh,
    connection::Connection,
    error::{Doing, SshError, Stage},
    script::{BOOTSTRAP, preamble},
};
use crate::{
    leftovers::Stopped,
    process::{RawLine, Splitter},
    text,
};

/// Longest line that is kept whole: some tools print one line of JSON.
const LINE_BYTES: usize = 256 << 10;
/// Lines that wait to be taken.
const QUEUED_LINES: usize = 64;
/// How much a login shell may print before bash starts; it is thrown away, and shown where bash does not start.
const NOISE_BYTES: usize = 16 * 1024;
/// How long what a finished script left running may hold its output without a word, and how long in all.
const QUIET: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(5);

/// What to run.
pub struct Exec {
    /// For bash, with `set -o pipefail`.
    pub script: String,
    /// Exported to it, over what the login gives.
    pub env: Vec<(String, Secret)>,
    /// What it reads from its standard input; an empty one where `None`.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// By which its processes are found again: 1 to 64 letters, digits, `-` and `_`, never used for another run.
    pub mark: String,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exec({})", self.mark)
    }
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// `Stdout` or `Stderr`.
    pub stream: Stream,
    /// Without control characters but tabs, made of at most 256 KiB.
    pub text: String,
    /// Bytes that were left out at its end.
    pub lost: usize,
}

/// How a script ended.
#[derive(Debug, Clone)]
pub enum End {
    /// By itself.
    Exited {
        /// Its exit code.
        code: u32,
        /// Something that it started goes on and holds its output, which is no longer read.
        left_running: bool,
    },
    /// Killed by a signal.
    Signalled {
        /// `KILL`, `TERM` …
        name: String,
    },
    /// Nobody knows: the connection is gone, or the server did not say.
    Unknown(SshError),
}

/// A script that runs.
///
/// A reader that takes no lines stops all traffic on the connection, that of other scripts too, until it goes on, calls [`Running::stop`] or drops this.
///
/// Dropped, it leaves the script running on the host, without a reader: [`Running::stop`] before, or [`Ssh::kill_marked`] after, ends it.
#[derive(Debug)]
pub struct Running {
    ssh: Ssh,
    mark: String,
    lines: mpsc::Receiver<OutputLine>,
    task: JoinHandle<End>,
    end: Option<End>,
    drain: CancellationToken,
    _abandon: DropGuard,
}

impl Running {
    /// The next line; `None` when there are no more. Dropped while it waits, it loses nothing.
    pub async fn line(&mut self) -> Option<OutputLine> {
        self.lines.recv().await
    }

    /// How it ended; lines that were not taken are thrown away. Dropped while it waits, it can be called again.
    pub async fn wait(&mut self) -> End {
        while self.lines.recv().await.is_some() {}
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = match (&mut self.task).await {
            Ok(end) => end,
            Err(_) => End::Unknown(self.ssh.dropped(Doing::Command, "its reader was stopped")),
        };
        self.end.insert(end).clone()
    }

    /// Ends all processes of the script on the host: politely, after `grace` for certain, and looks that none is left. From now on lines that nobody takes
    /// are thrown away, so that the connection moves.
    ///
    /// # Errors
    /// The host can't be reached: whether anything still runs there is unknown.
    pub async fn stop(&mut self, grace: Duration) -> Result<Stopped, SshError> {
        self.drain.cancel();
        self.ssh.kill_marked(&self.mark, grace).await
    }
}

impl Ssh {
    /// Starts a script. Returns when bash is there.
    ///
    /// # Errors
    /// The host can't be reached or does not start bash, or what is to run has a NUL in it, or is over 1 MiB.
    pub async fn exec(&self, exec: Exec) -> Result<Running, SshError> {
        let preamble = preamble(&exec)?;
        let (connection, channel) = self.session().await?;
        let (read, write) = channel.split();
        let (lines_in, lines) = mpsc::channel(QUEUED_LINES);
        let (started_in, started) = oneshot::channel();
        let (abandon, drain) = (self.inner.stop.child_token(), CancellationToken::new());
        let reader = Reader {
            connection,
            write,
            output: Output { lines: lines_in, drain: drain.clone(), stdout: splitter(), stderr: splitter() },
            mark: exec.mark.clone(),
            abandon: abandon.clone(),
            start_within: self.inner.plan.timeouts.start,
        };
        let abandon = abandon.drop_guard();
        let task = self.inner.tasks.spawn(reader.run(read, preamble, exec.stdin, started_in));
        match started.await {
            Ok(result) => result?,
            Err(_) => return Err(self.dropped(Doing::Opening, "its reader was stopped")),
        }
        Ok(Running { ssh: self.clone(), mark: exec.mark, lines, task, end: None, drain, _abandon: abandon })
    }

    pub(super) fn late(&self, stage: Stage, after: Duration) -> SshError {
        SshError::TimedOut { at: Arc::clone(&self.inner.plan.at), stage, after }
    }

    pub(super) fn dropped(&self, doing: Doing, why: &str) -> SshError {
        SshError::Dropped { at: Arc::clone(&self.inner.plan.at), doing, why: why.to_owned() }
    }
}

fn splitter() -> Splitter {
    Splitter::new(LINE_BYTES, 0)
}

/// Where lines go.
struct Output {
    lines: mpsc::Sender<OutputLine>,
    drain: CancellationToken,
    stdout: Splitter,
    stderr: Splitter,
}

impl Output {
    async fn take(&mut self, stream: Stream, data: &[u8]) {
        self.of(stream).room().extend_from_slice(data);
        self.say(stream).await;
    }

    fn of(&mut self, stream: Stream) -> &mut Splitter {
        if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout }
    }

    /// Hands on whole lines, waiting for room.
    async fn say(&mut self, stream: Stream) {
        while let Some(line) = self.of(stream).next_line() {
            if self.lines.is_closed() {
                continue;
            }
            let RawLine { bytes, lost } = line;
            let line = OutputLine { stream, text: text::tabbed(&bytes), lost };
            tokio::select! {
                biased;
                // Nobody to take it: it is thrown away as well.
                _ = self.lines.send(line) => {}
                () = self.drain.cancelled() => {}
            }
        }
    }

    async fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.of(stream).end();
            self.say(stream).await;
        }
    }
}

/// The task that reads one session.
struct Reader {
    connection: Arc<Connection>,
    write: ChannelWriteHalf<Msg>,
    output: Output,
    mark: String,
    abandon: CancellationToken,
    start_within: Duration,
}

type Stdin = Option<Box<dyn AsyncRead + Send + Unpin>>;

impl Reader {
    async fn run(
        mut self,
        mut read: ChannelReadHalf,
        preamble: Zeroizing<Vec<u8>>,
        stdin: Stdin,
        started: oneshot::Sender<Result<(), SshError>>,
    ) -> End {
        let abandon = self.abandon.clone();
        let end = tokio::select! {
            end = self.converse(&mut read, preamble, stdin, started) => end,
            () = abandon.cancelled() => End::Unknown(self.connection.dropped(Doing::Command)),
        };
        // The server forgets the session; where the connection is gone it has already.
        let _ = timeout(QUIET, self.write.close()).await;
        end
    }

    async fn converse(
        &mut self,
        read: &mut ChannelReadHalf,
        preamble: Zeroizing<Vec<u8>>,
        stdin: Stdin,
        started: oneshot::Sender<Result<(), SshError>>,
    ) -> End {
        let begun = match timeout(self.start_within, self.begin(read)).await {
            Ok(begun) => begun,
            Err(_) => Err(self.connection.late(Stage::Start, self.start_within)),
        };
        if let Err(error) = begun {
            // Nobody to tell: the caller is gone.
            let _ = started.send(Err(error.clone()));
            return End::Unknown(error);
        }
        let _ = started.send(Ok(()));
        self.output.say(Stream::Stdout).await;
        let end =
            follow(&self.connection, &self.write, &mut self.output, read, feed(&self.write, preamble, stdin)).await;
        self.output.finish().await;
        end
    }

    /// Until bash says that it is there.
    async fn begin(&mut self, read: &mut ChannelReadHalf) -> Result<(), SshError> {
        let mut mark = BytesMut::from(self.mark.as_bytes());
        mark.extend_from_slice(&[0]);
        let sent = self.write.exec(true, BOOTSTRAP).await;
        if sent.is_err() || self.write.data_bytes(mark.freeze()).await.is_err() {
            return Err(self.connection.dropped(Doing::Opening));
        }
        let sign = format!("flotilla-run {}\n", self.mark);
        let mut noise = Vec::new();
        let mut code = None;
        loop {
            match read.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    noise.extend_from_slice(&data);
                    if let Some(at) = find(&noise, sign.as_bytes()) {
                        // The script has not begun: all that came till now is the login shell's.
                        self.output.stderr = splitter();
                        self.output.stdout.room().extend_from_slice(&noise[at + sign.len()..]);
                        return Ok(());
                    }
                    if noise.len() > NOISE_BYTES {
                        noise.drain(..noise.len() - NOISE_BYTES / 2);
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => self.output.stderr.room().extend_from_slice(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status),
                Some(ChannelMsg::Failure) => {
                    return Err(self.connection.refused("it runs no commands for this user"));
                }
                Some(ChannelMsg::Close) => return Err(self.no_bash(&noise, code)),
                None if self.connection.is_closed() => return Err(self.connection.dropped(Doing::Opening)),
                None => return Err(self.no_bash(&noise, code)),
                Some(_) => {}
            }
        }
    }

    fn no_bash(&mut self, noise: &[u8], code: Option<u32>) -> SshError {
        self.output.stderr.end();
        let mut said: Vec<String> =
            std::iter::from_fn(|| self.output.stderr.next_line()).map(|line| text::clean(&line.bytes)).collect();
        said.extend(String::from_utf8_lossy(noise).lines().map(|line| text::clean(line.as_bytes())));
        said.retain(|line| !line.is_empty());
        let said = said.iter().rev().take(3).rev().cloned().collect::<Vec<_>>().join(" / ");
        let ended = code.map_or_else(
            || "the session was closed".to_owned(),
            |code| format!("the login shell ended with code {code}"),
        );
        let why = if said.is_empty() {
            format!("{ended} and said nothing")
        } else {
            format!("{ended} and said: {}", text::cut(said, 0))
        };
        self.connection.no_bash(why)
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// Environment, script and input, then the end of input.
async fn feed(write: &ChannelWriteHalf<Msg>, preamble: Zeroizing<Vec<u8>>, stdin: Stdin) {
    const PIECE: usize = 32 * 1024;
    // The mark went ahead.
    let rest = preamble.iter().position(|byte| *byte == 0).map_or(0, |nul| nul + 1);
    if write.data(Cursor::new(&preamble[rest..])).await.is_err() {
        return;
    }
    if let Some(mut stdin) = stdin {
        let mut piece = BytesMut::with_capacity(PIECE);
        while matches!(stdin.read_buf(&mut piece).await, Ok(1..)) {
            let bytes: Bytes = piece.split().freeze();
            if write.data_bytes(bytes).await.is_err() {
                return;
            }
            piece.reserve(PIECE);
        }
    }
    let _ = write.eof().await;
}

/// Reads to the end of the session, feeding it meanwhile.
async fn follow(
    connection: &Connection,
    write: &ChannelWriteHalf<Msg>,
    output: &mut Output,
    read: &mut ChannelReadHalf,
    feed: impl Future<Output = ()>,
) -> End {
    tokio::pin!(feed);
    let mut fed = false;
    // The end, and until when its last output is waited for: at most, and without a word.
    let mut ended: Option<(End, Instant, Instant)> = None;
    loop {
        let silence = async {
            match &ended {
                Some((_, last, quiet)) => sleep_until(*last.min(quiet)).await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            message = read.wait() => message,
            () = &mut feed, if !fed => {
                fed = true;
                continue;
            }
            () = silence => break,
        };
        let now = Instant::now();
        let (stream, data) = match message {
            Some(ChannelMsg::Data { data }) => (Stream::Stdout, data),
            Some(ChannelMsg::ExtendedData { data, .. }) => (Stream::Stderr, data),
            Some(ChannelMsg::ExitStatus { exit_status: code }) => {
                ended = Some((End::Exited { code, left_running: false }, now + LINGER, now + QUIET));
                continue;
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                ended = Some((End::Signalled { name: signal(&signal_name) }, now + LINGER, now + QUIET));
                continue;
            }
            Some(ChannelMsg::Close) | None => {
                return match ended {
                    Some((end, ..)) => end,
                    None if connection.is_closed() => End::Unknown(connection.dropped(Doing::Command)),
                    None => End::Unknown(connection.unsaid()),
                };
            }
            Some(_) => continue,
        };
        output.take(stream, &data).await;
        if let Some((_, _, quiet)) = &mut ended {
            *quiet = Instant::now() + QUIET;
        }
    }
    let _ = timeout(QUIET, write.close()).await;
    match ended {
        Some((End::Exited { code, .. }, ..)) => End::Exited { code, left_running: true },
        Some((end, ..)) => end,
        None => End::Unknown(connection.unsaid()),
    }
}

fn signal(name: &russh::Sig) -> String {
    match name {
        russh::Sig::Custom(name) => name.clone(),
        other => format!("{other:?}"),
    }
}
