//! The scheduler's decisions. One function looks at the entries in force, at what is remembered and at both clocks, and says what is remembered next; its
//! caller writes that down before anything follows from it. The wall clock says what is due, the monotonic one how long something has waited.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use flotilla_proto::{CatchUp, JobId, ScheduleFire, ScheduleId, Timestamp};
use tokio::time::Instant;

use super::{
    SchedulePolicy,
    entries::InForce,
    live::LiveJobs,
    state::{Mark, Pending, State, Withheld},
};
use crate::backoff::Entropy;

/// A remembered moment further ahead than this was written under a clock that was wrong.
const AHEAD_MS: i64 = 24 * 3_600_000;
/// A connection that stood this long without a new set has confirmed the one that is held.
const CONFIRMED_AFTER: Duration = Duration::from_secs(60);
/// How long a host's page tells that backups were withheld, after the last of them.
const WITHHELD_TOLD_MS: i64 = 24 * 3_600_000;
/// Moments that run without the server and are not yet reported. Past this none is added: `hello` must name them all.
pub(super) const MOST_ALONE: usize = 1000;

/// What a look depends on, beside entries and memory.
pub(super) struct Look<'a> {
    pub(super) wall: Timestamp,
    pub(super) mono: Instant,
    pub(super) policy: &'a SchedulePolicy,
    pub(super) live: &'a LiveJobs,
    pub(super) entropy: &'a Entropy,
}

/// What lives as long as the process.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) entries: BTreeMap<ScheduleId, InForce>,
    /// Since when a connection stands.
    link: Option<Instant>,
    /// Entries with a missed moment, and when it fires.
    held: HashMap<ScheduleId, Instant>,
    waits: HashMap<JobId, Wait>,
}

/// How long a pending moment has waited for the server.
struct Wait {
    since: Instant,
    /// In this connection, the first and the last time.
    sent: Option<(Instant, Instant)>,
    /// As which it was named in the `hello` of the connection that is being made: alone or not.
    named: Option<bool>,
    /// Reports of this connection that are not answered yet. Each gets one answer, in order.
    unanswered: u32,
}

impl Desk {
    /// Brings what is remembered up to this moment. Returns when to look again at the latest.
    pub(super) fn look(&mut self, state: &mut State, at: &Look<'_>) -> Instant {
        correct(state, at.wall);
        self.confirm(state, at.wall, at.mono);
        let next = self.fire_due(state, at);
        self.waits.retain(|job, _| state.pending.iter().any(|p| p.job_id == *job));
        for p in &state.pending {
            self.waits.entry(p.job_id).or_insert(Wait::new(at.mono));
        }
        self.drop_skipped(state, at);
        self.go_alone(state, at);
        let told = |w: Withheld| at.wall.ms_since(w.last) > WITHHELD_TOLD_MS && !self.too_old(state, at);
        if state.withheld.is_some_and(told) {
            state.withheld = None;
        }
        next.min(at.mono + at.policy.look_every)
    }

    /// The server has had time to send another set and did not.
    pub(super) fn confirm(&self, state: &mut State, wall: Timestamp, mono: Instant) {
        let confirmed = self.link.is_some_and(|since| mono.duration_since(since) >= CONFIRMED_AFTER);
        if confirmed && !self.entries.is_empty() {
            state.confirmed_at = wall;
        }
    }

    fn fire_due(&mut self, state: &mut State, at: &Look<'_>) -> Instant {
        let mut next_look = at.mono + at.policy.look_every;
        for (id, entry) in &mut self.entries {
            let Some(mark) = state.marks.get_mut(id).filter(|_| entry.entry.enabled) else { continue };
            let came = entry.came_by(at.wall);
            mark.reopen(came);
            let Some((floor, next)) = next_open(mark, entry, came) else { continue };
            let wait_ms = entry.fires_at(next).ms_since(at.wall);
            if wait_ms > 0 {
                self.held.remove(id);
                next_look = next_look.min(at.mono + Duration::from_millis(wait_ms.unsigned_abs()));
                continue;
            }
            let last = entry.calendar.last_between(floor, came).unwrap_or(next);
            let after = (last == next).then_some(floor);
            let missed = at.wall.ms_since(entry.fires_at(last)) > ms(at.policy.late_after);
            if missed && entry.entry.catch_up == CatchUp::Skip {
                tracing::info!(schedule.id = %id, moment = %last, "a missed moment is skipped, as the schedule wants it");
                mark.deal_with(last, after);
                continue;
            }
            if missed {
                let fires = *self.held.entry(*id).or_insert_with(|| at.mono + within(at, at.policy.catch_up_spread));
                if fires > at.mono {
                    next_look = next_look.min(fires);
                    continue;
                }
            }
            self.held.remove(id);
            let fired = Pending {
                schedule_id: *id,
                scheduled_at: last,
                job_id: job_id(at, *id),
                alone: false,
                begun: false,
                withheld: false,
                since: at.wall,
            };
            tracing::info!(schedule.id = %id, job.id = %fired.job_id, moment = %last, missed, "a schedule is due");
            mark.deal_with(last, after);
            state.fired(fired);
        }
        next_look
    }

    /// Moments that nobody took in time, of schedules that would rather skip them.
    fn drop_skipped(&self, state: &mut State, at: &Look<'_>) {
        if self.link.is_some() {
            return;
        }
        state.pending.retain(|p| {
            let skips = self.entries.get(&p.schedule_id).is_some_and(|e| e.entry.catch_up == CatchUp::Skip);
            let waited = self.waits.get(&p.job_id).is_some_and(|w| at.mono - w.since > at.policy.late_after);
            let over = skips && !p.alone && (waited || at.wall.ms_since(p.since) > ms(at.policy.late_after));
            if over {
                tracing::info!(schedule.id = %p.schedule_id, moment = %p.scheduled_at, "a moment is skipped, as the schedule wants it: the server is away");
            }
            !over
        });
    }

    /// Decides which moments no longer wait for the server.
    fn go_alone(&mut self, state: &mut State, at: &Look<'_>) {
        let too_old = self.too_old(state, at);
        let mut alone = state.pending.iter().filter(|p| p.alone).count();
        for p in state.pending.iter_mut().filter(|p| !p.alone) {
            let entry = self.entries.get(&p.schedule_id);
            // A clock that was ahead may have left moments that are yet to come.
            let ready =
                entry.is_some_and(|e| e.order_for(p.scheduled_at).is_some() && e.fires_at(p.scheduled_at) <= at.wall);
            let Some(wait) = self.waits.get_mut(&p.job_id).filter(|_| ready) else { continue };
            if !wait.is_over(self.link, at) {
                continue;
            }
            if too_old {
                if !std::mem::replace(&mut p.withheld, true) {
                    let days = at.policy.alone_for.as_secs() / 86_400;
                    tracing::warn!(
                        schedule.id = %p.schedule_id, moment = %p.scheduled_at,
                        "a backup is due and does not run: the server is away, and the schedules were last confirmed more than {days} days ago"
                    );
                    let first = state.withheld.map_or(p.scheduled_at, |w| w.first);
                    state.withheld = Some(Withheld { first, last: p.scheduled_at });
                }
                continue;
            }
            let mark = state.marks.get_mut(&p.schedule_id);
            let before_runs = mark.as_ref().and_then(|mark| mark.last_job).is_some_and(|job| at.live.contains(job));
            if before_runs || alone >= MOST_ALONE {
                continue;
            }
            tracing::warn!(
                schedule.id = %p.schedule_id, job.id = %p.job_id, moment = %p.scheduled_at,
                "the server is away: this backup runs without it and is reported later"
            );
            alone += 1;
            p.alone = true;
            wait.sent = None;
            if let Some(mark) = mark {
                mark.last_job = Some(p.job_id);
            }
        }
    }

    fn too_old(&self, state: &State, at: &Look<'_>) -> bool {
        at.wall.ms_since(state.confirmed_at) > ms(at.policy.alone_for)
    }

    // The connection.

    /// Moments for `hello`, oldest first. Those that run already come before others where not all have room: what `hello` says of their jobs is
    /// understood only with them.
    pub(super) fn name(&mut self, state: &State) -> Vec<ScheduleFire> {
        let mut named: Vec<&Pending> = state.pending.iter().collect();
        named.sort_by_key(|p| (!p.alone, p.scheduled_at));
        named.truncate(MOST_ALONE);
        named.sort_by_key(|p| p.scheduled_at);
        let now = Instant::now();
        self.waits.values_mut().for_each(|wait| wait.named = None);
        for p in &named {
            self.waits.entry(p.job_id).or_insert(Wait::new(now)).named = Some(p.alone);
        }
        named.into_iter().map(Pending::fire).collect()
    }

    pub(super) fn connected(&mut self, state: &State, now: Instant) {
        self.link = Some(now);
        for p in &state.pending {
            if let Some(wait) = self.waits.get_mut(&p.job_id) {
                wait.unanswered = u32::from(wait.named.is_some());
                // Named as something that it is no longer: said again.
                wait.sent = wait.named.take().filter(|alone| *alone == p.alone).map(|_| (now, now));
            }
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.link = None;
        self.waits.values_mut().for_each(|wait| (wait.sent, wait.unanswered) = (None, 0));
    }

    /// An answer for this job's moment came. Whether it answers the last report, and not one from before the job ran alone.
    pub(super) fn answered(&mut self, job_id: JobId) -> bool {
        let Some(wait) = self.waits.get_mut(&job_id) else { return true };
        wait.unanswered = wait.unanswered.saturating_sub(1);
        wait.unanswered == 0
    }

    /// Whether this connection has carried a report of the moment as it is now.
    pub(super) fn is_reported(&self, pending: &Pending) -> bool {
        self.waits.get(&pending.job_id).is_none_or(|wait| wait.sent.is_some())
    }

    /// The next moment to report, or when to ask again; `None` for not before something changes.
    pub(super) fn next_fire(
        &mut self,
        state: &State,
        now: Instant,
        again: Duration,
    ) -> Result<ScheduleFire, Option<Instant>> {
        let mut earliest: Option<Instant> = None;
        for p in &state.pending {
            let wait = self.waits.entry(p.job_id).or_insert(Wait::new(now));
            let due = wait.sent.map_or(now, |(_, last)| last + again);
            if due <= now {
                wait.sent = Some((wait.sent.map_or(now, |(first, _)| first), now));
                wait.unanswered += 1;
                return Ok(p.fire());
            }
            earliest = Some(earliest.map_or(due, |at| at.min(due)));
        }
        Err(earliest)
    }
}

impl Wait {
    fn new(since: Instant) -> Self {
        Self { since, sent: None, named: None, unanswered: 0 }
    }

    /// Whether the server had its time: nobody to ask, or no answer.
    fn is_over(&self, link: Option<Instant>, at: &Look<'_>) -> bool {
        let patience = at.policy.answer_within;
        let unanswered = || self.sent.is_some_and(|(first, _)| at.mono - first >= patience);
        at.mono - self.since >= at.policy.alone_after && (link.is_none() || unanswered())
    }
}

/// The first moment that is not dealt with while `came` have come, and the one before which it was sought.
fn next_open(mark: &Mark, entry: &mut InForce, came: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let mut floor = mark.floor(came);
    loop {
        let next = entry.next_after(floor)?;
        match mark.dealt_until(next) {
            Some(until) => floor = until,
            None => return Some((floor, next)),
        }
    }
}

/// Entries that came while the clock was far ahead must not be silent until then.
fn correct(state: &mut State, wall: Timestamp) {
    for (id, mark) in state.marks.iter_mut().filter(|(_, mark)| mark.from.ms_since(wall) > AHEAD_MS) {
        tracing::warn!(
            schedule.id = %id, from = %mark.from,
            "the clock was far ahead when this schedule came, and has been put back: the schedule begins now"
        );
        mark.from = wall;
    }
}

/// Chosen by time and chance. The entry is mixed in, so that two entries of one millisecond differ even where there is no chance to be had.
fn job_id(at: &Look<'_>, schedule_id: ScheduleId) -> JobId {
    let random = (u128::from((at.entropy)()) << 64) | u128::from((at.entropy)());
    JobId::from_parts(u64::try_from(at.wall.unix_ms()).unwrap_or(0), random ^ schedule_id.bits())
}

fn within(at: &Look<'_>, spread: Duration) -> Duration {
    let most = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis((at.entropy)() % (most + 1))
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
