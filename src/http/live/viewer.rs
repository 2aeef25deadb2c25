//! One browser that watches one job. Its state is the last line that it was sent or told of; everything else is read again.

use std::{pin::pin, time::Duration};

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket},
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::{
    domain::{
        JobId, close,
        event::{self, LiveFrame},
        job::{End, Job},
    },
    http::AppState,
    hub::{Delivery, Subscription},
    store::{StoreError, StoredLine, jobs, logs, retention},
};

/// How long a browser may take no byte before it is dropped.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two pings: proxies cut silent connections, mostly after a minute.
const PING: Duration = Duration::from_secs(25);
/// Lines in one frame of stored lines, and read at once.
const FRAME_LINES: u32 = 500;
/// Bytes of text in one frame of stored lines, unless one line alone is longer.
const FRAME_BYTES: usize = 64 * 1024;
/// Frames that are sent before a flush.
const BURST: usize = 64;

/// Why a viewer is done. Both are ordinary.
#[derive(Debug)]
enum Done {
    /// To be closed with this code.
    Close(u16, &'static str),
    /// The browser is gone, or took nothing for too long.
    Gone,
}

impl From<StoreError> for Done {
    fn from(e: StoreError) -> Self {
        tracing::error!(error = %e, "a live log ends: the store cannot be read");
        Self::Close(1011, "the log cannot be read right now")
    }
}

/// Sends everything after line `after` until the job ends, the browser goes or the server stops.
pub(super) async fn run(state: AppState, id: JobId, after: u32, socket: WebSocket) {
    // Before anything is read, so that nothing falls between.
    let frames = state.hub.subscribe(id);
    let (sink, incoming) = socket.split();
    let mut viewer = Viewer { state, id, sink, last: after, lagged: false };
    let done = viewer.watch(frames, incoming).await;
    if let Done::Close(code, reason) = done {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // The browser may be gone already.
        timeout(PATIENCE, viewer.sink.send(Message::Close(Some(frame)))).await.ok();
    }
}

struct Viewer {
    state: AppState,
    id: JobId,
    sink: SplitSink<WebSocket, Message>,
    /// Last line that was sent, or told as left out.
    last: u32,
    /// Frames were lost since the last line.
    lagged: bool,
}

/// What a viewer waits for.
enum Wake {
    Frame(Delivery),
    Browser(bool),
    Ping,
    Stopping,
}

impl Viewer {
    async fn watch(&mut self, mut frames: Subscription, mut incoming: SplitStream<WebSocket>) -> Done {
        match self.catch_up(&mut frames).await {
            Ok(()) => {}
            Err(done) => return done,
        }
        let tasks = self.state.tasks.clone();
        // Made once: a new one per turn would enter and leave the list of those who wait, under a lock that all viewers share.
        let mut stopping = pin!(tasks.stopping());
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = tokio::select! {
                delivery = frames.next() => Wake::Frame(delivery),
                message = incoming.next() => {
                    Wake::Browser(matches!(message, Some(Ok(ref message)) if !matches!(message, Message::Close(_))))
                }
                _ = pings.tick() => Wake::Ping,
                () = &mut stopping => Wake::Stopping,
            };
            let step = match wake {
                Wake::Frame(delivery) => self.deliver_all(delivery, &mut frames).await,
                // What browsers say is of no interest, but whether they are there is. Pings are answered below this.
                Wake::Browser(true) => Ok(()),
                Wake::Browser(false) => Err(Done::Gone),
                Wake::Ping => self.send(Message::Ping(Bytes::new())).await,
                Wake::Stopping => Err(Done::Close(close::GOING_AWAY, "the server stops")),
            };
            if let Err(done) = step {
                return done;
            }
        }
    }

    /// Sends how the job stands and all stored lines, until there is neither more in the store nor a frame that was missed meanwhile.
    async fn catch_up(&mut self, frames: &mut Subscription) -> Result<(), Done> {
        let job = self.job().await?;
        if let Some(at) = job.started_at {
            self.feed(event::started_frame(self.id, at)).await?;
        }
        self.replay().await?;
        if job.status.is_final() {
            // It was over before anything was read, so all its lines have just been sent.
            return Err(self.finish(&job).await);
        }
        if let Some(progress) = self.state.hub.latest_progress(self.id) {
            self.feed(event::progress_frame(self.id, progress)).await?;
        }
        while let Some(delivery) = frames.try_next() {
            match delivery {
                // What was lost is in the store.
                Delivery::Lagged => self.replay().await?,
                other => self.deliver(other).await?,
            }
        }
        self.flush().await
    }

    async fn job(&self) -> Result<Job, Done> {
        let id = self.id;
        let job = self.state.store.read(move |db| jobs::lookup(db, id)).await?;
        job.ok_or(Done::Close(close::GOING_AWAY, "the job is gone"))
    }

    /// Sends stored lines until there are no more.
    async fn replay(&mut self) -> Result<(), Done> {
        self.lagged = false;
        while self.send_stored(u32::MAX).await? {
            if self.state.tasks.is_stopping() {
                return Err(Done::Close(close::GOING_AWAY, "the server stops"));
            }
        }
        Ok(())
    }

    /// Sends the next stored lines up to line `until`. Returns whether there were any.
    async fn send_stored(&mut self, until: u32) -> Result<bool, Done> {
        let (id, after, limit) = (self.id, self.last, FRAME_LINES.min(until.saturating_sub(self.last)));
        let lines = self
            .state
            .store
            .read(move |db| match jobs::route(db, id)? {
                // Removed by retention: half way through, some are still there.
                Some(route) if retention::removed_at(db, route.no)?.is_none() => logs::page(db, route.no, after, limit),
                _ => Ok(Vec::new()),
            })
            .await?;
        for part in parts(&lines) {
            self.feed(event::lines_frame(self.id, logs::as_wire(part))).await?;
        }
        self.flush().await?;
        self.last = lines.last().map_or(self.last, |line| line.seq);
        Ok(!lines.is_empty())
    }

    /// Sends `first` and what else is there already, then flushes once.
    async fn deliver_all(&mut self, first: Delivery, frames: &mut Subscription) -> Result<(), Done> {
        let mut next = Some(first);
        for _ in 0..BURST {
            let Some(delivery) = next else { break };
            self.deliver(delivery).await?;
            next = frames.try_next();
        }
        if let Some(delivery) = next {
            self.deliver(delivery).await?;
        }
        self.flush().await
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Done> {
        match delivery {
            Delivery::Frame(LiveFrame::Lines { first, last, text }) => self.lines(first, last, text).await,
            Delivery::Frame(LiveFrame::Progress(text) | LiveFrame::State(text)) => self.feed(text).await,
            Delivery::Frame(LiveFrame::Finished(text)) => {
                if self.lagged {
                    let stored = self.job().await?.log_lines;
                    self.tell_gap(stored.saturating_add(1)).await?;
                }
                self.feed(text).await?;
                self.flush().await?;
                Err(Done::Close(close::NORMAL, "the job is over"))
            }
            Delivery::Lagged => {
                self.lagged = true;
                Ok(())
            }
            Delivery::Closed => Err(Done::Close(close::GOING_AWAY, "the stream ended")),
        }
    }

    async fn lines(&mut self, first: u32, last: u32, text: Bytes) -> Result<(), Done> {
        if first <= self.last {
            // Sent already, in whole or in part: the rest is on disk, as all that is published.
            while self.last < last && self.send_stored(last).await? {}
            return Ok(());
        }
        self.tell_gap(first).await?;
        self.last = last;
        self.feed(text).await
    }

    /// Says that the lines before `next` were left out, if any were.
    async fn tell_gap(&mut self, next: u32) -> Result<(), Done> {
        self.lagged = false;
        let (from, to) = (self.last.saturating_add(1), next.saturating_sub(1));
        if from > to {
            return Ok(());
        }
        self.last = to;
        self.feed(event::gap_frame(self.id, from, to)).await
    }

    async fn finish(&mut self, job: &Job) -> Done {
        let end = End {
            status: job.status,
            at: job.finished_at.unwrap_or(job.created_at),
            exit_code: job.exit_code,
            error: job.error.clone(),
            summary: job.summary.clone(),
            log_truncated: job.log_truncated,
        };
        match self.feed(event::finished_frame(self.id, job.log_lines, &end)).await {
            Ok(()) => Done::Close(close::NORMAL, "the job is over"),
            Err(done) => done,
        }
    }

    /// Queues a frame. One that could not be made is empty and is left out: the truth is in the store.
    async fn feed(&mut self, text: Bytes) -> Result<(), Done> {
        if text.is_empty() {
            return Ok(());
        }
        let text = Utf8Bytes::try_from(text).map_err(|_| Done::Close(1011, "a frame was not text"))?;
        in_time(self.sink.feed(Message::Text(text))).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Done> {
        in_time(self.sink.send(message)).await
    }

    async fn flush(&mut self) -> Result<(), Done> {
        in_time(self.sink.flush()).await
    }
}

async fn in_time(work: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Done> {
    match timeout(PATIENCE, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Done::Gone),
    }
}

/// Runs of lines that make frames of a fair size.
fn parts(lines: &[StoredLine]) -> impl Iterator<Item = &[StoredLine]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|line| {
            bytes += line.text.len() + 80;
            bytes <= FRAME_BYTES
        });
        let n = fitting.count().max(1).min(rest.len());
        let (part, others) = rest.split_at(n);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Stream, Timestamp};

    #[test]
    fn stored_lines_are_cut_into_frames_of_a_fair_size_and_none_is_lost() {
        let line = |seq: u32, bytes: usize| StoredLine {
            seq,
            at: Timestamp::from_unix_ms(0),
            stream: Stream::Stdout,
            text: "x".repeat(bytes),
        };
        let lines: Vec<_> =
            [10, 30_000, 30_000, 30_000, 90_000, 1].into_iter().zip(1..).map(|(b, n)| line(n, b)).collect();
        let sizes: Vec<usize> = parts(&lines).map(<[_]>::len).collect();
        assert_eq!(sizes, [3, 1, 1, 1]);
        assert_eq!(parts(&[]).count(), 0);
    }
}
