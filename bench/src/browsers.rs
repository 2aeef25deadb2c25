//! Browsers that watch one job: each counts what it gets and finds that no line is missing or comes twice.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, ensure};
use tokio::{sync::Notify, task::JoinSet, time::Instant};

use crate::socket::{self, Socket};

/// How far the browsers of one job are.
pub(crate) struct Audience {
    /// Last line that each browser has.
    seen: Vec<AtomicU32>,
    /// Frames that came, over all browsers.
    frames: AtomicU32,
    /// Wakes the sender.
    moved: Notify,
}

impl Audience {
    /// Of `browsers`, none of which has anything yet.
    pub(crate) fn new(browsers: usize) -> Arc<Self> {
        let seen = (0..browsers).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { seen, frames: AtomicU32::new(0), moved: Notify::new() })
    }

    /// Last line that all browsers have; everything where there are none.
    pub(crate) fn seen_by_all(&self) -> u32 {
        self.seen.iter().map(|seen| seen.load(Ordering::Acquire)).min().unwrap_or(u32::MAX)
    }

    /// Waits until one or more may have moved on.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    fn saw(&self, browser: usize, seq: u32) {
        self.seen[browser].store(seq, Ordering::Release);
        let frames = self.frames.fetch_add(1, Ordering::AcqRel) + 1;
        // Once a frame for all, not once a frame for each.
        if (frames as usize).is_multiple_of(self.seen.len()) {
            self.moved.notify_one();
        }
    }
}

/// When each frame arrived, counted from a moment that sender and browsers share.
pub(crate) struct Arrivals {
    /// The moment.
    pub(crate) since: Instant,
    /// First line of a frame, and when it came.
    pub(crate) at: Vec<(u32, std::time::Duration)>,
}

/// Watches with `socket` until line `last`, starting after line `after`.
pub(crate) async fn watch(
    mut socket: Socket,
    audience: Arc<Audience>,
    browser: usize,
    (after, last): (u32, u32),
    mut arrivals: Option<Arrivals>,
) -> anyhow::Result<Option<Arrivals>> {
    let mut have = after;
    while have < last {
        let text = socket::next_text(&mut socket).await?;
        if !text.starts_with(r#"{"type":"log.stream""#) {
            ensure!(!text.starts_with(r#"{"type":"log.gap""#), "browser {browser} lost lines: {text}");
            continue;
        }
        let (from, to) = span(&text).context("a frame without lines")?;
        ensure!(from == have + 1, "browser {browser} had line {have}, then came line {from}");
        have = to;
        if let Some(arrivals) = &mut arrivals {
            arrivals.at.push((from, arrivals.since.elapsed()));
        }
        audience.saw(browser, have);
    }
    Ok(arrivals)
}

/// First and last line of a frame, without parsing all of it: this must cost little beside what is measured.
fn span(text: &str) -> Option<(u32, u32)> {
    const KEY: &str = r#""seq":"#;
    let number = |at: usize| {
        let digits = &text[at + KEY.len()..];
        digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
    };
    Some((number(text.find(KEY)?)?, number(text.rfind(KEY)?)?))
}

/// Collects what tasks return; the first error is the error of all.
pub(crate) async fn all<T: 'static>(tasks: &mut JoinSet<anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        results.push(result??);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Frames;
    use flotilla_proto::JobId;

    #[test]
    fn the_span_of_a_frame_is_that_of_its_lines() {
        let frames = Frames::of(JobId::from_parts(1, 1), 1, 3, 64).unwrap();
        assert_eq!(span(&frames.frames[2]), Some((129, 192)));
        assert_eq!(span("{}"), None);
    }

    #[test]
    fn an_audience_is_as_far_as_its_slowest_browser() {
        let audience = Audience::new(2);
        audience.saw(0, 10);
        assert_eq!(audience.seen_by_all(), 0);
        audience.saw(1, 7);
        assert_eq!(audience.seen_by_all(), 7);
    }
}
