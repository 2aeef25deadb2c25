//! Prune, and what can be read of the text that it, a repair and the like print: no version up to 0.19 has JSON for them.

use std::collections::VecDeque;

use flotilla_proto::{JobStatus, Operation, PruneResult};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Broke, Desk, Memo, Next, Ran};
use crate::sink::JobOutcome;

/// What is kept of such a text. Of bounded size.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    /// The figures of a prune.
    pub(crate) prune: PruneResult,
    /// The last lines that say something.
    pub(crate) last: VecDeque<String>,
    /// A server refused a deletion.
    pub(crate) refused: bool,
}

const LINES_KEPT: usize = 20;
const LINE_BYTES: usize = 500;

impl Said {
    /// Takes a line of either stream.
    pub(crate) fn note(&mut self, line: &str) {
        let line = line.trim();
        self.refused |= line.contains("403 Forbidden") || line.contains("(403)");
        // `[0:00] 100.00%  2 / 2 files deleted` is progress.
        if line.is_empty() || line.starts_with('[') {
            return;
        }
        let figure = |label: &str| line.strip_prefix(label).and_then(bytes);
        if let Some(count) = figure("to repack:") {
            self.prune.repacked_bytes = Some(count);
        } else if let Some(count) = figure("total prune:") {
            self.prune.freed_bytes = Some(count);
        } else if let Some(count) = figure("remaining:") {
            self.prune.remaining_bytes = Some(count);
        }
        if self.last.len() == LINES_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line[..line.floor_char_boundary(LINE_BYTES)].to_owned());
    }
}

/// The size in `   36 blobs / 6.250 MiB`, as near as it is printed.
fn bytes(text: &str) -> Option<u64> {
    let size = text.split_once('/')?.1.trim();
    let (number, unit) = size.split_once(' ')?;
    let factor = match unit.split_whitespace().next()? {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok().filter(|number| *number >= 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates; it is not negative"
    )]
    Some((number * factor).round() as u64)
}

/// What the run proper is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Meant {
    dry_run: bool,
}

pub(super) fn prepare(desk: &mut Desk<'_>) -> Result<Next, Broke> {
    let Some(Operation::Prune(spec)) = &desk.order.operation else { return Err(Broke::no_details(desk.order)) };
    Ok(Next::Run(desk.session.prune(spec)?, Memo::Prune(Meant { dry_run: spec.dry_run })))
}

pub(super) fn judge(meant: &Meant, ran: Ran) -> JobOutcome {
    let result = PruneResult { dry_run: meant.dry_run, ..ran.said.prune };
    let (status, error) = match ran.outcome.error {
        None if ran.said.refused => (
            JobStatus::Failed,
            Some("restic ended without an error, but the repository's server refused deletions (403), as an append-only one does: enter maintenance credentials on the repository's page".to_owned()),
        ),
        error => (ran.outcome.status, error),
    };
    JobOutcome { status, error, summary: Some(json!(result)), exit_code: ran.outcome.exit_code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_read_as_each_version_prints_them_and_others_are_absent() {
        let mut said = Said::default();
        for line in [
            "[0:00] 100.00%  4 / 4 packs processed",
            "to repack:             3 blobs / 1.500 KiB",
            "this removes:          0 blobs / 0 B",
            "to delete:             2 blobs / 293.265 KiB",
            "total prune:           2 blobs / 293.265 KiB",
            "remaining:            12 blobs / 2.000 GiB",
            "unused size after prune: 0 B (0.00% of remaining size)",
            "",
        ] {
            said.note(line);
        }
        let wanted = PruneResult {
            freed_bytes: Some(300_303),
            repacked_bytes: Some(1536),
            remaining_bytes: Some(2 << 30),
            dry_run: false,
        };
        assert_eq!((said.prune, said.last.len()), (wanted, 6));
        let mut other = Said::default();
        other.note("total prune: much");
        assert_eq!(other.prune, PruneResult::default());
    }
}
