//! What the scheduler remembers of moments, as it stands in `state.json`: how far each entry has been dealt with, and the moments that the server has
//! not answered. Holds no secrets. Plain changes of plain data: nobody here asks what time it is or writes a file.

use std::collections::BTreeMap;

use flotilla_proto::{HostId, JobId, ScheduleEntry, ScheduleFire, ScheduleId, Timestamp};
use serde::{Deserialize, Serialize};

/// Stretches of dealt-with moments that an entry remembers. One is usual; each gap (the agent was down, the clock jumped) begins another. Past this the
/// two earliest become one: rather a moment of a wrong clock's time too few than one twice.
const MOST_SPANS: usize = 8;
/// Refused moments that an entry remembers, the last ones.
const MOST_REFUSED: usize = 32;

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Whose it is: moments of an earlier enrolment mean nothing to the server of this one.
    pub(super) host_id: HostId,
    /// When the server last had the held set for current.
    pub(super) confirmed_at: Timestamp,
    /// Backups that did not run because nobody had confirmed the set for too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) withheld: Option<Withheld>,
    /// Per entry of the set.
    #[serde(default)]
    pub(super) marks: BTreeMap<ScheduleId, Mark>,
    /// Unanswered moments, in the order in which they came.
    #[serde(default)]
    pub(super) pending: Vec<Pending>,
}

/// First and last moment that were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Withheld {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// How far an entry has been dealt with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    cron: String,
    timezone: String,
    enabled: bool,
    /// When the entry came in this form: nothing before that fires.
    pub(super) from: Timestamp,
    /// Moments that fired or were skipped, as stretches in their order. What lies before one is dealt with for as long as the clock is past it: so a clock
    /// that was ahead and is put right repeats nothing and silences nothing.
    #[serde(default)]
    spans: Vec<Span>,
    /// Moments that fired and that the server would not have. Should the clock go back behind one (it was ahead, that is why), it may fire again.
    #[serde(default)]
    refused: Vec<Timestamp>,
    /// The job that the last of its moments became, at the server or here.
    #[serde(default)]
    pub(super) last_job: Option<JobId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    first: Timestamp,
    last: Timestamp,
}

/// A moment that fired and that the server has not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) schedule_id: ScheduleId,
    pub(super) scheduled_at: Timestamp,
    pub(super) job_id: JobId,
    /// It is run without the server.
    #[serde(default)]
    pub(super) alone: bool,
    /// The runner has its order: it must not be handed over a second time.
    #[serde(default)]
    pub(super) begun: bool,
    /// It was not run because the set was too old.
    #[serde(default)]
    pub(super) withheld: bool,
    /// When it fired, by the agent's clock.
    pub(super) since: Timestamp,
}

impl Pending {
    pub(super) fn fire(&self) -> ScheduleFire {
        ScheduleFire {
            schedule_id: self.schedule_id,
            scheduled_at: self.scheduled_at,
            job_id: Some(self.job_id),
            alone: self.alone,
        }
    }
}

impl State {
    /// Of an agent that has no schedules yet.
    pub(super) fn new(host_id: HostId, confirmed_at: Timestamp) -> Self {
        Self { host_id, confirmed_at, withheld: None, marks: BTreeMap::new(), pending: Vec::new() }
    }

    /// Follows a set that came at `received`: what is new or has another rhythm starts there, so that it never fires for what was before.
    pub(super) fn follow<'a>(&mut self, entries: impl Iterator<Item = &'a ScheduleEntry>, received: Timestamp) {
        let mut before = std::mem::take(&mut self.marks);
        for entry in entries {
            let mark = match before.remove(&entry.schedule_id) {
                Some(mark) if mark.is_of(entry) => mark,
                other => Mark::new(entry, received, other),
            };
            self.marks.insert(entry.schedule_id, mark);
        }
    }

    /// A moment fires; from now on it has this id. Older moments of the entry that still wait for the server are settled by this one, however many
    /// they are.
    pub(super) fn fired(&mut self, fired: Pending) {
        let superseded =
            |p: &Pending| p.schedule_id == fired.schedule_id && !p.alone && p.scheduled_at < fired.scheduled_at;
        self.pending.retain(|p| !superseded(p));
        self.pending.push(fired);
    }

    /// The moment is answered: its job is `became`, or it has none.
    pub(super) fn settle(&mut self, schedule_id: ScheduleId, scheduled_at: Timestamp, became: Option<JobId>) {
        let moment = |p: &Pending| (p.schedule_id, p.scheduled_at) == (schedule_id, scheduled_at);
        let ran = self.pending.iter().any(|p| moment(p) && p.alone);
        self.pending.retain(|p| !moment(p));
        let Some(mark) = self.marks.get_mut(&schedule_id) else { return };
        if became.is_some() {
            mark.last_job = became;
        } else if !ran {
            mark.refused.push(scheduled_at);
            let surplus = mark.refused.len().saturating_sub(MOST_REFUSED);
            mark.refused.drain(..surplus);
        }
    }
}

impl Mark {
    fn new(entry: &ScheduleEntry, received: Timestamp, before: Option<Self>) -> Self {
        let (from, spans, last_job) =
            before.map_or((received, Vec::new(), None), |mark| (received.max(mark.from), mark.spans, mark.last_job));
        Self {
            cron: entry.cron.clone(),
            timezone: entry.timezone.clone(),
            enabled: entry.enabled,
            from,
            spans,
            refused: Vec::new(),
            last_job,
        }
    }

    fn is_of(&self, entry: &ScheduleEntry) -> bool {
        (self.cron.as_str(), self.timezone.as_str(), self.enabled)
            == (entry.cron.as_str(), entry.timezone.as_str(), entry.enabled)
    }

    /// The dealt-with moment after which the next one is to be sought, while the clock stands at `at`.
    pub(super) fn floor(&self, at: Timestamp) -> Timestamp {
        self.spans.iter().filter(|span| span.first <= at).map(|span| span.last).fold(self.from, Timestamp::max)
    }

    /// Where `at` is dealt with: the end of its stretch.
    pub(super) fn dealt_until(&self, at: Timestamp) -> Option<Timestamp> {
        self.spans.iter().find(|span| span.first <= at && at <= span.last).map(|span| span.last)
    }

    /// A moment fires or is skipped. `after`: the moment right before it; `None` where moments in between were missed.
    pub(super) fn deal_with(&mut self, at: Timestamp, after: Option<Timestamp>) {
        match self.spans.iter_mut().find(|span| Some(span.last) == after) {
            Some(span) => span.last = at,
            None => self.spans.push(Span { first: at, last: at }),
        }
        self.spans.sort_by_key(|span| span.first);
        while self.spans.len() > MOST_SPANS {
            let earliest = self.spans.remove(0);
            self.spans[0].first = earliest.first;
        }
    }

    /// The clock stands at `at`: what was refused because it was ahead is open again.
    pub(super) fn reopen(&mut self, at: Timestamp) {
        let again: Vec<Timestamp> = self.refused.extract_if(.., |refused| *refused > at).collect();
        for moment in again {
            let before = |m: Timestamp| Timestamp::from_unix_ms(m.unix_ms() - 1);
            let after = |m: Timestamp| Timestamp::from_unix_ms(m.unix_ms() + 1);
            let parts = |span: &Span| {
                if moment < span.first || span.last < moment {
                    return [Some(*span), None];
                }
                let (left, right) = (Span { last: before(moment), ..*span }, Span { first: after(moment), ..*span });
                [Some(left), Some(right)].map(|part| part.filter(|part| part.first <= part.last))
            };
            self.spans = self.spans.iter().flat_map(parts).flatten().collect();
        }
    }
}
