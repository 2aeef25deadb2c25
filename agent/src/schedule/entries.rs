//! The entries of a set that can be followed, each with its calendar; the others with the reason.

use std::collections::BTreeMap;

use flotilla_proto::{
    JobKind, ScheduleEntry, ScheduleId, ScheduleRejection, ScheduledOrder, Timestamp,
    calendar::{Calendar, jitter_s},
};

/// Entries of one set; a frame holds hardly more.
const MOST_ENTRIES: usize = 1000;

/// An entry in force.
pub(super) struct InForce {
    pub(super) entry: ScheduleEntry,
    pub(super) calendar: Calendar,
    /// From the moment to its firing.
    jitter_s: i64,
    /// The first moment after another one, as last computed.
    next: Option<(Timestamp, Option<Timestamp>)>,
}

impl InForce {
    /// When the moment `at` fires.
    pub(super) fn fires_at(&self, at: Timestamp) -> Timestamp {
        at.plus_s(self.jitter_s)
    }

    /// The first moment after `floor`.
    pub(super) fn next_after(&mut self, floor: Timestamp) -> Option<Timestamp> {
        match self.next {
            Some((known, next)) if known == floor => next,
            _ => {
                let next = self.calendar.next_after(floor);
                self.next = Some((floor, next));
                next
            }
        }
    }

    /// Moments up to this one should have fired by `now`.
    pub(super) fn came_by(&self, now: Timestamp) -> Timestamp {
        now.plus_s(-self.jitter_s)
    }

    /// What may run for this moment while the server is away: backups only.
    pub(super) fn order_for(&self, at: Timestamp) -> Option<&ScheduledOrder> {
        let order = self.entry.order.as_deref().filter(|order| order.kind == JobKind::Backup)?;
        // The entry may have changed since the moment came.
        (self.entry.enabled && self.calendar.is_due_at(at)).then_some(order)
    }
}

/// Sorts out what can't be followed.
pub(super) fn read(entries: Vec<ScheduleEntry>) -> (BTreeMap<ScheduleId, InForce>, Vec<ScheduleRejection>) {
    let mut in_force = BTreeMap::new();
    let mut rejected = Vec::new();
    for entry in entries {
        let schedule_id = entry.schedule_id;
        let refusal = if in_force.contains_key(&schedule_id) {
            "the set names this entry twice; the first one counts".to_owned()
        } else if in_force.len() >= MOST_ENTRIES {
            format!("the set has more than {MOST_ENTRIES} entries for this host; the first ones count")
        } else {
            match Calendar::new(&entry.cron, &entry.timezone) {
                Ok(calendar) => {
                    let jitter_s = i64::from(jitter_s(schedule_id, entry.jitter_s));
                    in_force.insert(schedule_id, InForce { entry, calendar, jitter_s, next: None });
                    continue;
                }
                Err(error) => error.to_string(),
            }
        };
        rejected.push(ScheduleRejection { schedule_id, reason: refusal });
    }
    (in_force, rejected)
}
