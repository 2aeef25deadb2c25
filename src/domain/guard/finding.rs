//! What the guard found odd, in words for people: what was seen, why it matters, what to do. A finding names the snapshots that it is about, so that
//! a person's word holds for these and no others.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Timestamp,
    guard::{NAMED, SHRUNK_PART},
};

/// Why a forget is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A snapshot that stays claims a time long before it was first seen.
    BackDated,
    /// A snapshot that stays claims a time to come.
    ToCome,
    /// A snapshot that stays stands under a host that did not make it.
    NotItsOwn,
    /// A snapshot that stays is far smaller than those that would go.
    Shrunk,
    /// Nothing of a host would be left.
    WholeHost,
    /// Nothing at all would be left.
    Everything,
}

/// A snapshot that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Full id.
    pub id: String,
    /// The time that it claims.
    pub time: Timestamp,
    /// When it was first seen here; absent for one that is not in the index yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<Timestamp>,
    /// Bytes that a restore would write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Something odd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub cause: Cause,
    /// The host name in the snapshots; empty where it is about all.
    pub hostname: String,
    /// Their paths; empty where it is not about one series.
    #[serde(default)]
    pub paths: Vec<String>,
    /// The snapshots, at most [`NAMED`] once it is stored.
    pub about: Vec<About>,
    /// How many there are, where not all are named.
    #[serde(default)]
    pub count: u64,
    /// Of [`Cause::Shrunk`]: bytes that the others usually hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_bytes: Option<u64>,
}

impl Finding {
    /// Takes out what people have looked at before; whether something remains.
    pub(super) fn drop_seen(&mut self, seen: &[Self]) -> bool {
        let same: Vec<&Self> = seen
            .iter()
            .filter(|old| old.cause == self.cause && old.hostname == self.hostname && old.paths == self.paths)
            .collect();
        // Whoever said that a source is small now said so of the later ones too, until it shrinks again.
        let fine = same.iter().filter(|_| self.cause == Cause::Shrunk).flat_map(|old| &old.about);
        let fine = fine.filter_map(|about| about.bytes).min();
        self.about.retain(|about| {
            let small = fine.zip(about.bytes).is_some_and(|(fine, bytes)| bytes >= fine / SHRUNK_PART);
            !small && !same.iter().any(|old| old.about.iter().any(|old| old.id == about.id))
        });
        !self.about.is_empty()
    }

    /// The finding with its first snapshots only, as it is stored.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.count = self.how_many();
        self.about.truncate(NAMED);
        self
    }

    /// How many snapshots it is about.
    #[must_use]
    pub fn how_many(&self) -> u64 {
        self.count.max(self.about.len() as u64)
    }

    /// What was seen: a sentence.
    #[must_use]
    pub fn happened(&self) -> String {
        let (n, host) = (self.how_many(), &self.hostname);
        let (snapshots, them) = if n == 1 { ("A snapshot", "it") } else { ("Snapshots", "they") };
        let claims = if n == 1 { "claims" } else { "claim" };
        let first = self.about.first();
        match self.cause {
            Cause::BackDated => {
                let when = first.map(|about| match about.first_seen_at {
                    Some(seen) => {
                        format!(" ({} is dated {} and appeared {})", short(&about.id), day(about.time), day(seen))
                    }
                    None => format!(" ({} is dated {} and has only just appeared)", short(&about.id), day(about.time)),
                });
                format!(
                    "{snapshots} of {host} {claims} an older date than the one on which {them} appeared here{}.",
                    when.unwrap_or_default()
                )
            }
            Cause::ToCome => {
                let when = first.map(|about| format!(" ({} is dated {})", short(&about.id), day(about.time)));
                format!(
                    "{snapshots} of {host} {claims} a date that had not come yet when {them} appeared{}.",
                    when.unwrap_or_default()
                )
            }
            Cause::NotItsOwn => {
                format!("{snapshots} under the name {host} did not come from a backup that its own agent made.")
            }
            Cause::Shrunk => {
                let stand = if n == 1 { "holds" } else { "hold" };
                format!("{snapshots} of {host} {stand} less than a quarter of what the older ones hold that would go.")
            }
            Cause::WholeHost => format!("All {} of {host} would go: nothing of it would be left.", plural(n)),
            Cause::Everything => format!("All {} would go: nothing would be left.", plural(n)),
        }
    }

    /// Why that matters: a sentence.
    #[must_use]
    pub fn why(&self) -> &'static str {
        match self.cause {
            Cause::BackDated => {
                "Keep rules go by the date that a snapshot claims. A forged one takes the place of a true one, and the true one goes."
            }
            Cause::ToCome => {
                "Keep rules count from the newest snapshot. One with a date to come makes all true ones look old, and they go."
            }
            Cause::NotItsOwn => {
                "Whoever can write to the repository can write under any name. Such a snapshot can push out the host's own ones."
            }
            Cause::Shrunk => {
                "If a disk was not mounted, or someone emptied or encrypted the folder, the older snapshots are the only good ones."
            }
            Cause::WholeHost | Cause::Everything => {
                "A retention rule is to thin a history out. One that ends it is more often a mistake in the rules than a wish."
            }
        }
    }

    /// What to do: a sentence.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.cause {
            Cause::BackDated | Cause::ToCome => {
                "Ask who made it: someone who copied old snapshots here, or a host whose clock was wrong? Then approve. If nobody did, treat every host that can write here as suspect, pin the snapshots that you trust, and dismiss."
            }
            Cause::NotItsOwn => {
                "Ask whether someone ran restic there by hand. Then approve. If nobody did, look at the hosts that share this repository, pin the snapshots that you trust, and dismiss."
            }
            Cause::Shrunk => {
                "Look into the newest snapshot, and at the host. If the data is meant to be gone, approve: sizes like this one are not asked about again. If not, pin an older snapshot, mend the source, and dismiss."
            }
            Cause::WholeHost => {
                "If the host is gone and nobody needs its data, approve. If not, change the rules, or group by host, and dismiss."
            }
            Cause::Everything => "Change the rules, and dismiss. Approve only if the repository is to be emptied.",
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn day(at: Timestamp) -> String {
    at.to_jiff().strftime("%-d %b %Y %H:%M UTC").to_string()
}

fn plural(n: u64) -> String {
    if n == 1 { "1 snapshot".to_owned() } else { format!("{n} snapshots") }
}
