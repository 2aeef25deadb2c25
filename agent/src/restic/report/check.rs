//! What a check found, out of its words: restic 0.18 and later count it, before that only the text does.

use flotilla_proto::Stream;
use serde::{Deserialize, Serialize};

/// What is known of a check so far.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checked {
    /// What is wrong, one each, whether kept in `findings` or not.
    pub(crate) errors: u64,
    /// The first of them in restic's words.
    pub(crate) findings: Vec<String>,
    /// Ids of damaged packs, as far as the text names them.
    pub(crate) broken: Vec<String>,
    /// restic suggests it.
    pub(crate) repair_index: bool,
    /// restic suggests it.
    pub(crate) prune: bool,
    /// restic said that it found no errors.
    pub(crate) clean: bool,
    /// restic said that it did.
    pub(crate) damaged: bool,
    /// Of the finding at hand: what it is about.
    about: Option<String>,
}

const FINDINGS_KEPT: usize = 50;
/// Of each of them.
const FINDING_CHARS: usize = 1000;
pub(crate) const PACKS_KEPT: usize = 1000;

/// Beginnings of lines that tell no finding: notices, retries, advice.
const NO_FINDINGS: [&str; 13] = [
    "Load(",
    "List(",
    "Stat(",
    "restic repair ",
    "Damaged pack files can be caused",
    "The repository contains damaged",
    "These damaged",
    "The repository is damaged",
    "unable to create",
    "created new cache",
    "using temporary cache",
    "subprocess ",
    "signal interrupt",
];

impl Checked {
    pub(super) fn note(&mut self, stream: Stream, line: &str) {
        self.clean |= line == "no errors were found";
        self.damaged |= line.contains("repository contains errors");
        self.prune |= line.contains("run `restic prune`");
        self.repair_index |= line.contains("run `restic rebuild-index") || line.contains("run `restic repair index");
        if stream != Stream::Stderr || line.contains("Fatal:") || NO_FINDINGS.iter().any(|text| line.starts_with(text))
        {
            return;
        }
        self.broken_pack(line);
        if line.starts_with("error for tree ") {
            self.about = Some(line.to_owned());
            return;
        }
        self.errors += 1;
        let finding = match (line.strip_prefix("  "), &self.about) {
            (Some(detail), Some(about)) => format!("{about} {detail}"),
            _ => line.trim().to_owned(),
        };
        if self.findings.len() < FINDINGS_KEPT {
            self.findings.push(finding.chars().take(FINDING_CHARS).collect());
        }
    }

    fn broken_pack(&mut self, line: &str) {
        let id = match line.strip_prefix("Pack ID does not match, want ") {
            Some(rest) => rest.split(',').next(),
            None if line.contains(" contains ") || line.contains(" failed to download") => {
                line.strip_prefix("pack ").and_then(|rest| rest.split(' ').next())
            }
            None => None,
        };
        let Some(id) = id.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())) else {
            return;
        };
        if self.broken.len() < PACKS_KEPT && !self.broken.iter().any(|known| known == id) {
            self.broken.push(id.to_owned());
        }
    }
}
