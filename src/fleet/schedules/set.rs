//! One host's schedule set: the entries that its agent is to watch, each with the order that the agent runs while the server is away.
//! A set that would not fit into a frame loses orders, the largest first, until it does; which ones is noted for people.

use std::collections::HashMap;

use flotilla_proto::{PlanSpec, RepoSpec, ScheduleEntry, ScheduledOrder, limits};
use sha2::{Digest as _, Sha256};

use crate::{
    domain::{
        HostId, PlanId, RepoId,
        schedule::{Coverage, Entry, OwnSchedule, ScheduleRejection, agent_entries},
    },
    fleet::{
        Fleet,
        dispatch::{plan_spec, repo_spec},
    },
    ops::jobs::timeout_s,
    store::{Db, StoreError, hosts, plans, repos, schedules},
};

/// What a set may weigh as JSON: a frame, less what stands around it.
const ROOM: usize = limits::MAX_FRAME_BYTES - 4096;

/// A set that its agent does not have.
pub(super) struct Draft {
    pub(super) host: HostId,
    /// Its version where it has one; `None` for a set that is another than the last.
    pub(super) version: Option<u64>,
    pub(super) digest: [u8; 32],
    pub(super) entries: Vec<ScheduleEntry>,
    pub(super) unarmed: Vec<ScheduleRejection>,
}

/// What sets are made of, read once for many hosts.
pub(super) struct Drafts {
    coverage: Coverage,
    /// What orders say of plans, without their hosts: those may be thousands.
    specs: HashMap<PlanId, PlanSpec>,
    own: HashMap<HostId, Vec<OwnSchedule>>,
    repos: HashMap<RepoId, Target>,
}

/// A repository as orders name it.
struct Target {
    /// The address and credentials of endpoints; or why they cannot be read.
    spec: Result<RepoSpec, String>,
    /// Changes with whatever of it an order holds.
    print: [u8; 32],
}

impl Drafts {
    pub(super) fn read(db: &Db, fleet: &Fleet) -> Result<Self, StoreError> {
        let mut own: HashMap<HostId, Vec<OwnSchedule>> = HashMap::new();
        for schedule in schedules::of_agents(db)? {
            own.entry(schedule.host_id).or_default().push(schedule);
        }
        let plans = if own.is_empty() { plans::scheduled(db)? } else { plans::list(db, None, 0)? };
        let specs = plans.iter().map(|plan| (plan.id, plan_spec(plan.clone()))).collect();
        let coverage = Coverage::new(plans);
        let mut targets = HashMap::new();
        for repo in repos::list(db, None, 0)? {
            let Some(sealed) = repos::sealed_secrets(db, repo.id)? else { continue };
            let mut hasher = Sha256::new();
            for part in [
                &repo.url,
                repo.username.as_deref().unwrap_or_default(),
                repo.tls_ca_pem.as_deref().unwrap_or_default(),
            ] {
                hasher.update(part.len().to_be_bytes());
                hasher.update(part);
            }
            hasher.update([u8::from(repo.init)]);
            hasher.update(&sealed);
            let id = repo.id;
            let spec = repo_spec(fleet, repo, &sealed).map_err(|e| e.to_string());
            targets.insert(id, Target { spec, print: hasher.finalize().into() });
        }
        Ok(Self { coverage, specs, own, repos: targets })
    }

    /// The sets of those of `hosts` that do not have theirs.
    pub(super) fn of(&self, db: &Db, hosts: &[HostId]) -> Result<Vec<Draft>, StoreError> {
        let mut drafts = Vec::new();
        for host in hosts {
            let Some((slug, tags, state)) = hosts::schedule_state(db, *host)? else { continue };
            let own = self.own.get(host).map_or(&[][..], Vec::as_slice);
            let entries = agent_entries(&self.coverage, *host, &tags, own);
            if entries.is_empty() && state.version == 0 && state.acked == 0 {
                continue;
            }
            let digest = self.digest(&slug, &entries)?;
            let same = state.digest == Some(digest) && state.acked <= state.version;
            if same && state.acked == state.version {
                continue;
            }
            let (entries, unarmed) = self.armed(&slug, &entries);
            drafts.push(Draft { host: *host, version: same.then_some(state.version), digest, entries, unarmed });
        }
        Ok(drafts)
    }

    fn digest(&self, slug: &str, entries: &[Entry]) -> Result<[u8; 32], StoreError> {
        let mut hasher = Sha256::new();
        for entry in entries {
            let bare = self.entry(slug, entry, None);
            let text = serde_json::to_vec(&bare).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            hasher.update(text.len().to_be_bytes());
            hasher.update(text);
            let print = entry.repo_id.and_then(|id| self.repos.get(&id)).map(|target| target.print);
            hasher.update(print.unwrap_or_default());
        }
        Ok(hasher.finalize().into())
    }

    /// An entry with its order; `repo` is given apart, so that a digest can do without.
    fn entry(&self, slug: &str, entry: &Entry, repo: Option<RepoSpec>) -> ScheduleEntry {
        let schedule = &entry.standing.schedule;
        let order = ScheduledOrder {
            kind: entry.kind.clone(),
            host_label: slug.to_owned(),
            repo,
            args: entry.input.args.clone(),
            plan: entry.plan_id.and_then(|id| self.specs.get(&id).cloned()),
            timeout_s: timeout_s(&entry.kind),
        };
        ScheduleEntry {
            schedule_id: entry.id,
            cron: schedule.cron.clone(),
            timezone: schedule.timezone.clone(),
            enabled: schedule.enabled,
            catch_up: schedule.catch_up,
            jitter_s: schedule.jitter_s,
            // What does not fire needs no credentials at the endpoint.
            order: schedule.enabled.then(|| Box::new(order)),
        }
    }

    /// The entries with their orders, as many as fit; and those that go without, with the reason.
    fn armed(&self, slug: &str, entries: &[Entry]) -> (Vec<ScheduleEntry>, Vec<ScheduleRejection>) {
        let mut unarmed = Vec::new();
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            let target = entry.repo_id.and_then(|id| self.repos.get(&id));
            let (repo, missing) = match target.map(|target| &target.spec) {
                // Nobody keeps two hosts apart that run by themselves: a repository that is not there yet waits for this server.
                Some(Ok(spec)) => (Some(RepoSpec { init: false, ..spec.clone() }), None),
                Some(Err(e)) => (None, Some(e.clone())),
                None => (None, Some("its repository was removed".to_owned())),
            };
            let mut sent = self.entry(slug, entry, repo);
            if let Some(reason) = missing.filter(|_| sent.order.is_some()) {
                sent.order = None;
                unarmed.push(ScheduleRejection { schedule_id: entry.id, reason });
            }
            out.push(sent);
        }
        unarmed.extend(fit(&mut out, ROOM));
        (out, unarmed)
    }
}

/// Takes orders out, the largest first, until all of `entries` weigh at most `room` bytes.
fn fit(entries: &mut [ScheduleEntry], room: usize) -> Vec<ScheduleRejection> {
    let weight = |entry: &ScheduleEntry| serde_json::to_vec(entry).map_or(room, |text| text.len() + 1);
    let mut weights: Vec<usize> = entries.iter().map(weight).collect();
    let mut left_out = Vec::new();
    while weights.iter().sum::<usize>() > room {
        let heaviest = (0..entries.len()).filter(|i| entries[*i].order.is_some()).max_by_key(|i| weights[*i]);
        let Some(i) = heaviest else { break };
        entries[i].order = None;
        weights[i] = weight(&entries[i]);
        left_out.push(ScheduleRejection {
            schedule_id: entries[i].schedule_id,
            reason: "all orders of this host together are larger than a frame; give its plans fewer paths".to_owned(),
        });
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobKind, ScheduleId, schedule::CatchUp};

    fn entry(n: u128, path_bytes: usize) -> ScheduleEntry {
        let order = ScheduledOrder {
            kind: JobKind::Backup,
            host_label: "web".to_owned(),
            repo: None,
            args: vec!["x".repeat(path_bytes)],
            plan: None,
            timeout_s: 60,
        };
        ScheduleEntry {
            schedule_id: ScheduleId::from_parts(1, n),
            cron: "0 1 * * *".to_owned(),
            timezone: "UTC".to_owned(),
            enabled: true,
            catch_up: CatchUp::Once,
            jitter_s: 0,
            order: Some(Box::new(order)),
        }
    }

    #[test]
    fn a_set_that_is_too_large_loses_its_largest_orders_and_says_which() {
        let mut entries = vec![entry(1, 100), entry(2, 5000), entry(3, 1000)];
        let left_out = fit(&mut entries, 2500);
        assert_eq!(left_out.iter().map(|out| out.schedule_id).collect::<Vec<_>>(), [ScheduleId::from_parts(1, 2)]);
        assert_eq!(entries.iter().map(|entry| entry.order.is_some()).collect::<Vec<_>>(), [true, false, true]);
        assert!(serde_json::to_string(&entries).unwrap().len() <= 2500);
        assert!(fit(&mut entries, 2500).is_empty());
    }
}
