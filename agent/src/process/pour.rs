//! Runs a program for its standard output, which goes on as it comes: no faster than it is taken, and nowhere else. Such a run hangs on the agent.

use std::io;

use bytes::{Bytes, BytesMut};
use flotilla_proto::Stream;
use tokio::{
    io::AsyncReadExt as _,
    process::ChildStdout,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Cause, Event, Exit, GroupGuard, Launch, Limits, LineReader, Run, Stop, StopSignal, Watcher, drain, wished,
};
use crate::platform::{self, Group};

/// Most bytes that are handed on at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What the output passes on its way.
pub(crate) trait Through: Send {
    /// What of a piece goes on now; nothing may be left of it, and something of earlier ones may be in it.
    fn take(&mut self, piece: Bytes) -> Bytes;
}

/// How such a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Poured {
    pub(crate) exit: Exit,
    /// Bytes that were handed on.
    pub(crate) bytes: u64,
    /// Nobody took any more: the program was ended for that.
    pub(crate) unwanted: bool,
}

struct Source {
    pipe: Option<ChildStdout>,
    buffer: BytesMut,
    bytes: u64,
    unwanted: bool,
}

impl Source {
    /// Hands on what there is. Waits for room before it reads: the program is slowed down, and nothing piles up here. A dropped call loses nothing.
    async fn next(&mut self, through: &mut dyn Through, taker: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
        let Ok(room) = taker.reserve().await else {
            self.unwanted = true;
            return Ok(());
        };
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        self.buffer.reserve(PIECE_BYTES);
        let got = pipe.read_buf(&mut self.buffer).await?;
        if got == 0 {
            self.pipe = None;
            return Ok(());
        }
        let piece = through.take(self.buffer.split().freeze());
        if !piece.is_empty() {
            self.bytes += piece.len() as u64;
            room.send(Ok(piece));
        }
        Ok(())
    }
}

/// Starts the program and stays until it, and all that it started, is gone and its output is handed on to `taker`, as `through` lets it. Where `taker` is closed, the program is
/// stopped.
///
/// # Errors
/// Where it could not be started, waited for or read; nothing runs then either.
pub(crate) async fn pour(
    launch: &Launch,
    limits: &Limits,
    stop: &mut StopSignal,
    watcher: &mut dyn Watcher,
    through: &mut dyn Through,
    taker: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<Poured> {
    let mut child = launch.command()?.spawn()?;
    let mut group = GroupGuard { group: Group::of(&child)?, armed: true };
    watcher.started(child.id());
    let (Some(pipe), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("the process has no output pipes"));
    };
    let mut source = Source { pipe: Some(pipe), buffer: BytesMut::new(), bytes: 0, unwanted: false };
    let mut errors = LineReader::new(errors, limits.max_line);
    let mut run = Run::new(limits, child.id());
    let status = loop {
        let event = tokio::select! {
            read = source.next(through, taker), if source.pipe.is_some() => Event::Output(read),
            read = errors.fill(), if !errors.is_done() => Event::Errors(read),
            status = child.wait(), if source.pipe.is_none() => Event::Exited(status),
            wish = wished(stop, run.heard) => Event::Stop(wish),
            () = sleep_until(run.next_timer()) => Event::Timer,
        };
        match event {
            Event::Output(read) => {
                read?;
                run.moved_at = Instant::now();
                if source.unwanted {
                    run.stop(Cause::Asked(Stop::Cancelled), &group.group, watcher);
                }
            }
            Event::Errors(read) => run.take(Stream::Stderr, read, &mut errors, watcher),
            Event::Exited(status) => break status?,
            Event::Stop(wish) => run.obey(wish, &group.group, watcher),
            Event::Timer => run.on_timer(&group.group, watcher),
        }
        if run.cause.is_some() {
            // A program that waits for room in a pipe does not hear that it is to stop; one whose pipe is closed ends.
            source.pipe = None;
        }
    };
    group.fire();
    let mut rest = LineReader::new(tokio::io::empty(), limits.max_line);
    drain(&mut run, &mut rest, &mut errors, watcher).await;
    drop(child);
    let exit = Exit { code: platform::exit_code(status), stopped: run.cause, killed: run.killed };
    Ok(Poured { exit, bytes: source.bytes, unwanted: source.unwanted })
}
