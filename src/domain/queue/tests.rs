//! The queue's rules, one by one, and over random streams of jobs.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::domain::JobKind;

fn host(n: u8) -> HostId {
    HostId::from_parts(1, u128::from(n))
}

fn repo(n: u8) -> RepoId {
    RepoId::from_parts(1, u128::from(n))
}

fn id(no: i64) -> JobId {
    JobId::from_parts(2, u128::from(no.unsigned_abs()))
}

/// A job that waits.
fn job(no: i64, on: u8, kind: JobKind, of: u8) -> OpenJob {
    OpenJob {
        no: JobNo(no),
        id: id(no),
        host: host(on),
        seat: host(on),
        repo: Some(repo(of)),
        plan: None,
        access: Access::of(&kind),
        second: None,
        alone: false,
        stage: Stage::Waiting,
        stopping: false,
    }
}

fn taken(job: OpenJob) -> OpenJob {
    OpenJob { stage: Stage::Taken, ..job }
}

fn planned(job: OpenJob) -> OpenJob {
    OpenJob { plan: Some(PlanId::from_parts(1, 1)), ..job }
}

fn rules(per_host: u32, in_all: u32) -> QueueRules {
    QueueRules { per_host, in_all, ..QueueRules::default() }
}

/// Numbers of the jobs that start, and what the others wait for by number; everyone is connected but those named.
fn look(open: &[OpenJob], rules: QueueRules, away: &[u8]) -> (Vec<i64>, Vec<(i64, Obstacle)>) {
    let decided = decide(open, rules, &Turns::default(), |at| !away.iter().any(|n| host(*n) == at));
    let waits = open.iter().filter_map(|job| Some((job.no.0, *decided.waits.get(&job.id)?)));
    (decided.starts.iter().map(|at| open[*at].no.0).collect(), waits.collect())
}

use JobKind::{Backup, Check, Copy, Prune, Restore};

#[test]
fn a_copy_shares_both_of_its_repositories() {
    let copy = |no, on| OpenJob { second: Some((repo(2), Access::Shared)), ..job(no, on, Copy, 1) };
    let (starts, waits) = look(&[taken(job(1, 1, Prune, 2)), copy(2, 2)], rules(2, 9), &[]);
    assert_eq!((starts, waits), (vec![], vec![(2, Obstacle::Repository(id(1)))]));
    let (starts, waits) = look(&[taken(copy(1, 1)), job(2, 2, Backup, 2), job(3, 3, Prune, 2)], rules(2, 9), &[]);
    assert_eq!((starts, waits), (vec![2], vec![(3, Obstacle::Repository(id(1)))]));
}

#[test]
fn those_that_share_a_repository_start_together_and_an_exclusive_one_waits_for_all_of_them() {
    let open = [taken(job(1, 1, Backup, 1)), job(2, 2, Backup, 1), job(3, 3, Prune, 1), job(4, 4, Restore, 1)];
    let (starts, waits) = look(&open, rules(2, 9), &[]);
    assert_eq!(starts, [2]);
    assert_eq!(waits, [(3, Obstacle::Repository(id(1))), (4, Obstacle::Turn(id(3)))]);
}

#[test]
fn an_exclusive_job_that_has_the_repository_keeps_out_all_hosts_that_share_it_and_no_others() {
    let open = [taken(job(1, 1, Check, 1)), job(2, 2, Backup, 1), job(3, 2, Backup, 2)];
    let (starts, waits) = look(&open, rules(2, 9), &[]);
    assert_eq!((starts, waits), (vec![3], vec![(2, Obstacle::Repository(id(1)))]));
}

#[test]
fn an_order_that_was_sent_holds_its_lock_whether_or_not_its_host_is_there() {
    let sent = OpenJob { stage: Stage::Sent(Timestamp::from_unix_ms(0)), ..job(1, 1, Check, 1) };
    let open = [sent, job(2, 2, Backup, 1)];
    assert_eq!(look(&open, rules(2, 9), &[1]).1, [(2, Obstacle::Repository(id(1)))]);
}

#[test]
fn an_exclusive_job_of_a_host_that_is_away_or_full_holds_nobody_back() {
    let open = [job(1, 1, Check, 1), job(2, 2, Backup, 1)];
    assert_eq!(look(&open, rules(2, 9), &[1]), (vec![2], vec![(1, Obstacle::Host)]));
    let open = [taken(job(1, 1, Backup, 2)), job(2, 1, Check, 1), job(3, 2, Backup, 1)];
    assert_eq!(look(&open, rules(1, 9), &[]), (vec![3], vec![(2, Obstacle::HostPlaces)]));
}

#[test]
fn the_place_of_an_exclusive_job_that_waits_for_its_lock_only_is_kept() {
    let open = [taken(job(1, 2, Backup, 1)), job(2, 1, Check, 1), job(3, 1, Backup, 2)];
    let (starts, waits) = look(&open, rules(1, 9), &[]);
    assert_eq!(starts, [0; 0]);
    assert_eq!(waits, [(2, Obstacle::Repository(id(1))), (3, Obstacle::HostPlaces)]);
}

#[test]
fn one_plan_runs_once_at_a_time_on_a_host_and_at_once_on_many() {
    let open = [planned(job(1, 1, Backup, 1)), planned(job(2, 1, Backup, 1)), planned(job(3, 2, Backup, 1))];
    assert_eq!(look(&open, rules(2, 9), &[]), (vec![1, 3], vec![(2, Obstacle::Plan(id(1)))]));
    // What its agent began by itself counts, though it was recorded later.
    let open = [planned(job(1, 1, Backup, 1)), taken(planned(job(2, 1, Backup, 1)))];
    assert_eq!(look(&open, rules(2, 9), &[]).1, [(1, Obstacle::Plan(id(2)))]);
}

#[test]
fn a_plans_copies_follow_each_other_and_keep_no_backup_waiting() {
    let copy = |no| OpenJob { second: Some((repo(2), Access::Shared)), ..planned(job(no, 1, Copy, 1)) };
    let open = [taken(copy(1)), copy(2), planned(job(3, 1, Backup, 1))];
    assert_eq!(look(&open, rules(3, 9), &[]), (vec![3], vec![(2, Obstacle::Plan(id(1)))]));
}

#[test]
fn no_host_and_not_all_together_get_more_than_their_places() {
    let open: Vec<_> = (1..=6).map(|n| job(n, if n <= 3 { 1 } else { 2 }, Backup, 1)).collect();
    let (starts, waits) = look(&open, rules(2, 3), &[]);
    assert_eq!(starts, [1, 4, 2]);
    assert_eq!(waits, [(3, Obstacle::HostPlaces), (5, Obstacle::AllPlaces), (6, Obstacle::AllPlaces)]);
}

#[test]
fn a_job_that_is_to_stop_does_not_start_and_holds_nobody_back() {
    let open = [OpenJob { stopping: true, ..planned(job(1, 1, Check, 1)) }, planned(job(2, 1, Backup, 1))];
    assert_eq!(look(&open, rules(1, 1), &[]), (vec![2], vec![]));
}

#[test]
fn a_host_with_a_long_queue_does_not_keep_one_with_a_short_one_waiting() {
    let mut turns = Turns::default();
    let mut open: Vec<_> = (1..=50).map(|n| job(n, 1, Backup, 1)).collect();
    open.push(job(51, 2, Backup, 1));
    let mut served = Vec::new();
    for _ in 0..2 {
        let decided = decide(&open, rules(2, 1), &turns, |_| true);
        let job = open.remove(decided.starts[0]);
        assert_eq!(decided.starts.len(), 1);
        turns.served(job.seat);
        served.push(job.no.0);
        // It ends at once.
    }
    assert_eq!(served, [1, 51]);
}

/// A runbook that the agent of host 9 runs for another host.
fn run_for(no: i64, about: u8, alone: bool) -> OpenJob {
    OpenJob { repo: None, seat: host(about), alone, ..job(no, 9, JobKind::Runbook("x".into()), 1) }
}

#[test]
fn what_one_agent_runs_for_many_hosts_takes_the_places_of_those_and_none_of_its_own() {
    let mut open: Vec<_> = (1..=50).map(|n| run_for(i64::from(n), 100 + n, true)).collect();
    open.extend((51..=53).map(|no| job(no, 9, Backup, 1)));
    let (starts, waits) = look(&open, rules(2, 99), &[]);
    assert_eq!(starts.len(), 52);
    assert_eq!(waits, [(53, Obstacle::HostPlaces)]);
    let (starts, waits) = look(&open[..50], rules(2, 99), &[9]);
    assert!(starts.is_empty() && waits.iter().all(|(_, wait)| *wait == Obstacle::Host), "its agent is away");
}

#[test]
fn a_host_has_one_runbook_at_a_time_whoever_runs_it() {
    let by_its_agent = OpenJob { repo: None, alone: true, ..job(2, 1, JobKind::Runbook("y".into()), 1) };
    let open = [taken(run_for(1, 1, true)), by_its_agent, run_for(3, 1, false), run_for(4, 1, false)];
    let (starts, waits) = look(&open, rules(2, 99), &[]);
    assert_eq!((starts, waits), (vec![3], vec![(2, Obstacle::Runbook(id(1))), (4, Obstacle::HostPlaces)]));
}

/// What happens in a step: a job comes, or the nth running one ends.
#[derive(Debug, Clone)]
enum Step {
    Comes { host: u8, repo: u8, exclusive: bool, planned: bool },
    Ends(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..4, 0_u8..3, prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(host, repo, exclusive, planned)| Step::Comes { host, repo, exclusive, planned }),
        2 => (0_usize..8).prop_map(Step::Ends),
    ]
}

/// A queue that is looked at after each step.
struct World {
    open: Vec<OpenJob>,
    turns: Turns,
    rules: QueueRules,
    next: i64,
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Comes { host, repo, exclusive, planned: by_plan } => {
                let new = job(self.next, host, if exclusive { Prune } else { Backup }, repo);
                self.open.push(if by_plan && !exclusive { planned(new) } else { new });
                self.next += 1;
            }
            Step::Ends(nth) => {
                let running: Vec<usize> =
                    (0..self.open.len()).filter(|at| self.open[*at].stage == Stage::Taken).collect();
                if let Some(at) = running.get(nth % running.len().max(1)) {
                    self.open.remove(*at);
                }
            }
        }
    }

    /// Starts what may start. Each job that is named as an obstacle must be there, and in the way.
    fn look(&mut self) {
        let decided = decide(&self.open, self.rules, &self.turns, |_| true);
        for (waiting, obstacle) in &decided.waits {
            let waiting = self.open.iter().find(|job| job.id == *waiting).unwrap();
            if let Obstacle::Repository(other) | Obstacle::Turn(other) | Obstacle::Plan(other) = obstacle {
                let other = self.open.iter().find(|job| job.id == *other).unwrap();
                assert!(other.repo == waiting.repo || other.plan == waiting.plan);
            }
        }
        for at in decided.starts {
            assert_eq!(self.open[at].stage, Stage::Waiting);
            self.open[at].stage = Stage::Taken;
            self.turns.served(self.open[at].seat);
        }
    }

    fn running(&self) -> impl Iterator<Item = &OpenJob> {
        self.open.iter().filter(|job| job.stage == Stage::Taken)
    }

    fn holds_its_rules(&self) {
        for one in self.running() {
            let beside = |other: &&OpenJob| other.no != one.no;
            if one.access == Access::Exclusive {
                assert!(!self.running().filter(beside).any(|other| other.repo == one.repo), "{one:?} is not alone");
            }
            let same = |other: &&OpenJob| other.host == one.host && other.plan == one.plan;
            assert!(one.plan.is_none() || !self.running().filter(beside).any(|other| same(&other)));
            assert!(self.running().filter(|other| other.host == one.host).count() <= self.rules.per_host as usize);
        }
        assert!(self.running().count() <= self.rules.in_all as usize);
    }
}

proptest! {
    #[test]
    fn whatever_comes_and_ends_the_locks_and_limits_hold_and_nobody_waits_for_ever(
        steps in vec(step(), 1..120), per_host in 1_u32..4, in_all in 1_u32..8,
    ) {
        let mut world = World { open: Vec::new(), turns: Turns::default(), rules: rules(per_host, in_all), next: 1 };
        for step in &steps {
            world.step(step);
            world.look();
            world.holds_its_rules();
        }
        // Nothing new comes: each look at least one job runs, until all have.
        while !world.open.is_empty() {
            world.look();
            world.holds_its_rules();
            assert!(world.running().count() > 0, "stuck: {:?}", world.open);
            world.step(&Step::Ends(0));
        }
    }

    /// Jobs that share a repository come faster than they end: an exclusive one starts all the same, when those that ran or stood before it have ended.
    #[test]
    fn a_stream_of_shared_jobs_does_not_starve_an_exclusive_one(
        ends in vec(0_usize..8, 200), hosts in vec(0_u8..6, 200), at in 1_usize..20, per_host in 1_u32..3,
    ) {
        let mut world = World { open: Vec::new(), turns: Turns::default(), rules: rules(per_host, 100), next: 1 };
        let mut waiting_at_its_coming = 0;
        for (n, (end, on)) in ends.iter().zip(&hosts).enumerate() {
            let exclusive = n == at;
            let shared = Step::Comes { host: if exclusive { 9 } else { *on }, repo: 0, exclusive, planned: false };
            world.step(&shared);
            if exclusive {
                waiting_at_its_coming = world.open.len();
            }
            world.look();
            let alone = world.open.iter().find(|job| job.access == Access::Exclusive);
            if n > at && alone.is_none_or(|job| job.stage == Stage::Taken) {
                return Ok(());
            }
            if let Some(alone) = alone {
                prop_assert!(world.running().all(|job| job.no <= alone.no), "one that came later overtook it");
            }
            world.step(&Step::Ends(*end));
        }
        prop_assert!(false, "still waiting, {waiting_at_its_coming} were before it");
    }

    /// One host has a hundred jobs, others one each: nobody waits longer than one round.
    #[test]
    fn hosts_take_turns(others in 1_u8..6, in_all in 1_u32..4) {
        let mut world = World { open: Vec::new(), turns: Turns::default(), rules: rules(2, in_all), next: 1 };
        for _ in 0..100 {
            world.step(&Step::Comes { host: 0, repo: 0, exclusive: false, planned: false });
        }
        for other in 1..=others {
            world.step(&Step::Comes { host: other, repo: 0, exclusive: false, planned: false });
        }
        for _ in 0..=usize::from(others) {
            world.look();
            world.step(&Step::Ends(0));
        }
        world.look();
        prop_assert!(world.open.iter().filter(|job| job.stage == Stage::Waiting).all(|job| job.host == host(0)));
    }
}
