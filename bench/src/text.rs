//! The log that agents send: lines as `restic backup -vv` prints them, 120 bytes on average, the same in every run; and the frames that carry them,
//! made before the clock starts.

use flotilla_proto::{AgentMessage, JobId, Line, LineText, LogStream, Stream, Timestamp};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A sequence that looks random and is always the same.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One line, without its line break.
pub(crate) fn line(dice: &mut Dice) -> String {
    const VERBS: [&str; 3] = ["unchanged", "modified ", "new      "];
    const AREAS: [&str; 5] =
        ["projects/atlas", "projects/borealis", "mail/archive", "photos/2024", "home/anna/Documents"];
    let verb = VERBS[dice.below(3) as usize];
    let area = AREAS[dice.below(5) as usize];
    let (a, b, c) = (dice.below(40), dice.below(900), dice.below(1_000_000));
    let (ms, added, stored) = (dice.below(90), dice.below(100_000), dice.below(50_000));
    format!(
        "{verb} /srv/data/{area}/part-{a:02}/batch-{b:03}/document-{c:06}.dat, saved in 0.{ms:03}s ({}.{:03} KiB added, {}.{:03} KiB stored)",
        added / 1000,
        added % 1000,
        stored / 1000,
        stored % 1000
    )
}

/// Frames of a job's log, ready to be sent.
pub(crate) struct Frames {
    /// `log.stream` envelopes in order.
    pub(crate) frames: Vec<Utf8Bytes>,
    /// Lines in each of them.
    pub(crate) lines_per_frame: u32,
    /// Bytes of text in all lines, with a line break each.
    pub(crate) text_bytes: u64,
}

impl Frames {
    /// `count` frames of `lines_per_frame` lines of `job`, from line `first` on.
    pub(crate) fn of(job: JobId, first: u32, count: u32, lines_per_frame: u32) -> anyhow::Result<Self> {
        let mut dice = Dice::new(u64::from(first));
        let mut text_bytes = 0;
        let mut frames = Vec::with_capacity(count as usize);
        for n in 0..count {
            let texts: Vec<String> = (0..lines_per_frame).map(|_| line(&mut dice)).collect();
            text_bytes += texts.iter().map(|text| text.len() as u64 + 1).sum::<u64>();
            let start = first + n * lines_per_frame;
            let lines = (start..).zip(&texts).map(|(seq, text)| Line {
                seq,
                at: Timestamp::from_unix_ms(1_790_000_000_000 + i64::from(seq)),
                stream: Stream::Stdout,
                text: LineText(text.as_str().into()),
            });
            let message = AgentMessage::LogStream(LogStream { job_id: job, lines: lines.collect() });
            frames.push(Utf8Bytes::from(message.encode("")?));
        }
        Ok(Self { frames, lines_per_frame, text_bytes })
    }

    /// Lines in all frames.
    pub(crate) fn lines(&self) -> u64 {
        self.frames.len() as u64 * u64::from(self.lines_per_frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_restics() {
        let mut dice = Dice::new(1);
        let bytes: usize = (0..10_000).map(|_| line(&mut dice).len() + 1).sum();
        assert!((115..130).contains(&(bytes / 10_000)), "{} bytes a line", bytes / 10_000);
    }
}
