//! One job's log, sent as fast as those who take part allow: at most [`WINDOW`] frames ahead of the slowest of the acknowledgements and the
//! browsers. So no browser is ever told of a gap, and the rate is that of the whole way: stored, acknowledged and shown.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use flotilla_proto::{JobId, RawEnvelope, ServerMessage};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{browsers::Audience, socket::Socket, text::Frames};

/// Frames ahead of the slowest. The hub keeps 64 for a browser, and a link takes 32 that are not on disk.
const WINDOW: u32 = 32;
/// Frames between two flushes.
const BURST: u32 = 8;

/// Whether the server acknowledges, and the pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// A floor may not.
    pub(crate) acknowledged: bool,
    /// Time from one frame to the next; none: as fast as it goes.
    pub(crate) every: Option<Duration>,
}

/// Sends `frames` of `job`, and returns when each was sent, once the last is acknowledged and seen by all.
pub(crate) async fn send(
    socket: &mut Socket,
    job: JobId,
    frames: &Frames,
    audience: Arc<Audience>,
    manner: Manner,
) -> anyhow::Result<Vec<Instant>> {
    let per_frame = frames.lines_per_frame;
    let (count, first) = (u32::try_from(frames.frames.len())?, first_seq(frames)?);
    let mut acked = if manner.acknowledged { first - 1 } else { u32::MAX };
    let mut sent_at = Vec::with_capacity(frames.frames.len());
    let (mut sent, start) = (0u32, Instant::now());
    loop {
        let done = (acked.min(audience.seen_by_all()).saturating_sub(first - 1) / per_frame).min(count);
        if done == count {
            return Ok(sent_at);
        }
        let due = manner.every.map(|every| start + every * sent);
        let room = (done + WINDOW).min(count).saturating_sub(sent).min(BURST);
        let now = Instant::now();
        if room > 0 && due.is_none_or(|due| due <= now) {
            let burst = if due.is_some() { 1 } else { room };
            for frame in &frames.frames[sent as usize..(sent + burst) as usize] {
                sent_at.push(Instant::now());
                socket.feed(Message::Text(frame.clone())).await?;
            }
            socket.flush().await?;
            sent += burst;
            // While there is room, acknowledgements are only taken if they are there.
            if sent < count && sent < done + WINDOW {
                continue;
            }
        }
        let pause = due.filter(|due| *due > now && room > 0).unwrap_or(now + Duration::from_millis(1));
        tokio::select! {
            message = socket.next(), if manner.acknowledged => {
                acked = acknowledged(message.context("the server closed the connection")??, job)?.unwrap_or(acked);
            }
            () = audience.moved() => {}
            // The audience wakes this once a frame for all; the slowest may come a little later.
            () = sleep_until(pause) => {}
        }
    }
}

fn first_seq(frames: &Frames) -> anyhow::Result<u32> {
    let text = frames.frames.first().context("no frames")?;
    let envelope = RawEnvelope::decode(text)?;
    match flotilla_proto::AgentMessage::decode(&envelope)? {
        flotilla_proto::AgentMessage::LogStream(lines) => Ok(lines.lines[0].seq),
        other => bail!("not a frame of lines: {other:?}"),
    }
}

fn acknowledged(message: Message, job: JobId) -> anyhow::Result<Option<u32>> {
    let Message::Text(text) = message else { return Ok(None) };
    match ServerMessage::decode(&RawEnvelope::decode(&text)?)? {
        ServerMessage::Ack(ack) => {
            ensure!(ack.job_id == job && !ack.finished, "an acknowledgement that does not fit: {ack:?}");
            Ok(Some(ack.seq))
        }
        ServerMessage::Error(notice) => bail!("the server refused a frame: {notice:?}"),
        _ => Ok(None),
    }
}

/// Bounds a flood: one that hangs must not hang the benchmark.
pub(crate) async fn in_time<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(Duration::from_secs(240), work).await.context("it did not end in four minutes")?
}
