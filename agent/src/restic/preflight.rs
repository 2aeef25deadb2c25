//! Asks whether the repository is there, within a deadline of our own: restic 0.17 and later retries a dead server for
//! a quarter of an hour, and 0.14 waits for a hung one for ever.

use std::time::Duration;

use flotilla_proto::Stream;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    command::Session,
    exit::{self, Trouble},
    redact::Redacted,
    report::{Reporter, Transcript},
};
use crate::process::{self, Cause, Exit, Launch, Limits, RawLine, Stop, StopSignal, Watcher};

/// How long each part may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For a TCP connection.
    pub(crate) connect: Duration,
    /// For the whole preflight.
    pub(crate) total: Duration,
}

/// Why the job does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Someone wants it to stop.
    Stopped(Stop),
    /// There is no repository. Carries the sentence for people.
    Missing(String),
    /// Anything else, in words.
    Failed { code: Option<i32>, error: String },
}

fn failed(error: String) -> Refusal {
    Refusal::Failed { code: None, error }
}

/// Whether the repository answers and opens with its password.
pub(crate) async fn check(
    session: &Session,
    patience: Patience,
    stop: &mut StopSignal,
    sink: &Redacted,
) -> Result<(), Refusal> {
    let deadline = Instant::now() + patience.total;
    if let (Some((host, port)), false) = (&session.address.server, session.proxied) {
        tokio::select! {
            reached = reach(host, *port, patience.connect.min(patience.total)) => reached.map_err(failed)?,
            wish = stop.wait_for(Option::is_some) => return Err(Refusal::Stopped(wish.ok().and_then(|w| *w).unwrap_or(Stop::Shutdown))),
        }
    }
    // SIGINT while there is still time for SIGKILL: both lie within the deadline.
    let grace = (patience.total / 6).min(Duration::from_secs(5));
    let (exit, said) = look(&session.look(), deadline - grace, grace, stop, sink).await.map_err(failed)?;
    match exit.stopped {
        Some(Cause::Asked(wish)) => Err(Refusal::Stopped(wish)),
        Some(_) => Err(Refusal::Failed { code: None, error: no_answer(patience.total, &said) }),
        None if exit.code == 0 => Ok(()),
        None => {
            let error = exit::failure(exit.code, &said);
            Err(match Trouble::of(exit.code, &said.error_text()) {
                Some(trouble) if trouble.is_missing() => Refusal::Missing(error),
                _ => Refusal::Failed { code: Some(exit.code), error },
            })
        }
    }
}

/// Runs restic for its verdict alone; its lines go nowhere.
pub(crate) async fn quietly(
    launch: &Launch,
    deadline: Instant,
    grace: Duration,
    stop: &mut StopSignal,
    sink: &Redacted,
) -> Result<(Exit, Transcript), String> {
    let mut reporter = Reporter::quiet(sink);
    let limits = Limits { deadline: Some(deadline), idle: None, grace, max_line: 1 << 20 };
    let exit = process::supervise(launch, &limits, stop, &mut reporter).await.map_err(|e| cannot_start(launch, &e))?;
    Ok((exit, reporter.transcript))
}

/// Like [`quietly`], and ends as soon as restic has said what no other try will change. Where ssh failed and restic was gone before it had passed on why, it is
/// asked again, a few times.
pub(crate) async fn look(
    launch: &Launch,
    deadline: Instant,
    grace: Duration,
    stop: &mut StopSignal,
    sink: &Redacted,
) -> Result<(Exit, Transcript), String> {
    const TRIES: usize = 5;
    let mut looked = look_once(launch, deadline, grace, stop, sink).await?;
    for _ in 1..TRIES {
        let (exit, said) = &looked;
        if exit.stopped.is_some() || Trouble::of(exit.code, &said.error_text()) != Some(Trouble::SshFails) {
            break;
        }
        looked = look_once(launch, deadline, grace, stop, sink).await?;
    }
    Ok(looked)
}

async fn look_once(
    launch: &Launch,
    deadline: Instant,
    grace: Duration,
    stop: &mut StopSignal,
    sink: &Redacted,
) -> Result<(Exit, Transcript), String> {
    let (enough, mut own) = watch::channel(*stop.borrow());
    let mut looker = Looker { reporter: Reporter::quiet(sink), enough: &enough, decided: false };
    let limits = Limits { deadline: Some(deadline), idle: None, grace, max_line: 1 << 20 };
    let run = process::supervise(launch, &limits, &mut own, &mut looker);
    let pass_on = async {
        while stop.changed().await.is_ok() {
            enough.send_replace(*stop.borrow());
        }
        std::future::pending::<()>().await;
    };
    let exit = tokio::select! {
        exit = run => exit.map_err(|e| cannot_start(launch, &e))?,
        () = pass_on => return Err("the wait for restic ended without a word; report it".to_owned()),
    };
    let ended_here = looker.decided && stop.borrow().is_none();
    let exit = if ended_here && exit.stopped.is_some() { Exit { code: 1, stopped: None, ..exit } } else { exit };
    Ok((exit, looker.reporter.transcript))
}

struct Looker<'a> {
    reporter: Reporter<'a>,
    enough: &'a watch::Sender<Option<Stop>>,
    decided: bool,
}

impl Watcher for Looker<'_> {
    fn started(&mut self, pid: Option<u32>) {
        self.reporter.started(pid);
    }

    fn line(&mut self, stream: Stream, line: RawLine) -> bool {
        let is_final = stream == Stream::Stderr
            && Trouble::of(0, &String::from_utf8_lossy(&line.bytes)).is_some_and(|trouble| trouble.is_final());
        let moves = self.reporter.line(stream, line);
        if is_final && !self.decided {
            self.decided = true;
            self.enough.send_replace(Some(Stop::Cancelled));
        }
        moves
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        if !self.decided {
            self.reporter.stopping(cause, grace);
        }
    }
}

/// What a short run printed, and how it ended.
pub(crate) struct Heard {
    pub(crate) exit: Exit,
    /// Standard output, at most [`OUTPUT_BYTES`] of it.
    pub(crate) output: String,
    pub(crate) said: Transcript,
}

const OUTPUT_BYTES: usize = 1 << 20;

/// Like [`quietly`], and keeps what restic prints.
pub(crate) async fn heard(
    launch: &Launch,
    deadline: Instant,
    grace: Duration,
    stop: &mut StopSignal,
    sink: &Redacted,
) -> Result<Heard, String> {
    let mut listener = Listener { reporter: Reporter::quiet(sink), output: String::new() };
    let limits = Limits { deadline: Some(deadline), idle: None, grace, max_line: 1 << 20 };
    let exit = process::supervise(launch, &limits, stop, &mut listener).await.map_err(|e| cannot_start(launch, &e))?;
    Ok(Heard { exit, output: listener.output, said: listener.reporter.transcript })
}

/// Runs restic for what it prints, after the job's own run; the error is for people.
pub(crate) async fn answer(launch: &Launch, deadline: Instant, sink: &Redacted) -> Result<String, String> {
    // The job's own stop signal has been given already, or will be heard by the next process of the agent.
    let (_keep, mut never) = tokio::sync::watch::channel(None);
    let left = deadline.saturating_duration_since(Instant::now());
    let grace = (left / 6).min(Duration::from_secs(5));
    let heard = heard(launch, deadline - grace, grace, &mut never, sink).await?;
    match (heard.exit.stopped, heard.exit.code) {
        (None, 0) => Ok(heard.output),
        (None, code) => Err(exit::failure(code, &heard.said)),
        (Some(_), _) => Err("the repository did not answer in time".to_owned()),
    }
}

struct Listener<'a> {
    reporter: Reporter<'a>,
    output: String,
}

impl Watcher for Listener<'_> {
    fn started(&mut self, pid: Option<u32>) {
        self.reporter.started(pid);
    }

    fn line(&mut self, stream: Stream, line: RawLine) -> bool {
        if stream == Stream::Stdout && self.output.len() + line.bytes.len() < OUTPUT_BYTES {
            self.output.push_str(&String::from_utf8_lossy(&line.bytes));
            self.output.push('\n');
        }
        self.reporter.line(stream, line)
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        self.reporter.stopping(cause, grace);
    }
}

/// restic is there but does not start.
pub(crate) fn cannot_start(launch: &Launch, error: &std::io::Error) -> String {
    format!(
        "{} could not be started: {error}. Check that the file is a program that the agent may run",
        launch.program.display()
    )
}

pub(crate) fn no_answer(total: Duration, said: &Transcript) -> String {
    let text = said.error_text();
    let trouble = Trouble::of(0, &text).map_or_else(
        || "the server accepts connections but does not answer. Check that it is healthy, and that the address names the repository's server".to_owned(),
        |trouble| trouble.advice(),
    );
    format!("the repository did not answer within {} s: {trouble}", total.as_secs())
}

/// Opens and closes a TCP connection.
async fn reach(host: &str, port: u16, patience: Duration) -> Result<(), String> {
    let next = "Check that the repository's server runs, its name and port, and the network and firewalls between";
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let found = match timeout(patience, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(e)) => {
            return Err(format!("the name {host} of the repository's server can't be resolved ({e}). {next}"));
        }
        Err(_) => {
            return Err(format!(
                "the name {host} of the repository's server was not resolved within {} s. {next}",
                patience.as_secs()
            ));
        }
    };
    match timeout(patience, TcpStream::connect(&found[..])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(format!("{address} refuses connections: the repository's server is not running there. {next}"))
        }
        Ok(Err(e)) => Err(format!("{address} could not be reached: {e}. {next}")),
        Err(_) => Err(format!("{address} did not answer within {} s. {next}", patience.as_secs())),
    }
}
