//! What a wave does next, and what it never does.

use super::{Standing::*, *};

fn pace(canary: u32, batch: u32, stop_at: u32) -> Pace {
    Pace { canary, batch, stop_at }
}

fn decide(pace: Pace, hosts: &[Standing], stopped: Option<Stop>) -> Action {
    next(&WaveState { pace, hosts, stopped })
}

fn stopped_by(action: &Action) -> Option<Stop> {
    match action {
        Action::Stop(stop, _) => Some(*stop),
        _ => None,
    }
}

#[test]
fn the_first_host_goes_alone_and_the_others_when_it_ended_well() {
    let hosts = [NotStarted; 4];
    assert_eq!(decide(pace(1, 10, 20), &hosts, None), Action::Start(vec![0]));
    assert_eq!(decide(pace(1, 10, 20), &[Running, NotStarted, NotStarted, NotStarted], None), Action::Wait);
    let went_well = [Succeeded, NotStarted, NotStarted, NotStarted];
    assert_eq!(decide(pace(1, 10, 20), &went_well, None), Action::Start(vec![1, 2, 3]));
    assert_eq!(decide(pace(0, 10, 20), &hosts, None), Action::Start(vec![0, 1, 2, 3]));
}

#[test]
fn a_canary_that_ends_with_something_to_look_at_lets_the_others_go() {
    assert_eq!(decide(pace(1, 10, 20), &[Warning, NotStarted], None), Action::Start(vec![1]));
}

#[test]
fn several_canaries_must_all_end_well_and_keep_to_the_batch() {
    let p = pace(3, 2, 50);
    assert_eq!(decide(p, &[NotStarted; 5], None), Action::Start(vec![0, 1]));
    assert_eq!(decide(p, &[Succeeded, Running, NotStarted, NotStarted, NotStarted], None), Action::Start(vec![2]));
    assert_eq!(decide(p, &[Succeeded, Succeeded, Running, NotStarted, NotStarted], None), Action::Wait);
    assert_eq!(decide(p, &[Succeeded, Succeeded, Succeeded, NotStarted, NotStarted], None), Action::Start(vec![3, 4]));
}

#[test]
fn where_the_canary_fails_nothing_else_is_begun() {
    let hosts = [Failed, NotStarted, NotStarted];
    let action = decide(pace(1, 10, 100), &hosts, None);
    assert_eq!(stopped_by(&action), Some(Stop::Canary));
    assert_eq!(decide(pace(1, 10, 100), &hosts, Some(Stop::Canary)), Action::Finish(WaveStatus::Failed));
}

#[test]
fn as_many_run_at_the_same_time_as_the_batch_says() {
    let hosts = [Succeeded, Running, NotStarted, NotStarted, NotStarted];
    assert_eq!(decide(pace(1, 2, 20), &hosts, None), Action::Start(vec![2]));
    assert_eq!(decide(pace(1, 1, 20), &hosts, None), Action::Wait);
}

#[test]
fn reaching_the_share_of_failures_stops_it() {
    let mut hosts = [Succeeded; 12];
    hosts[11] = NotStarted;
    hosts[1] = Failed;
    hosts[2] = Failed;
    assert_eq!(decide(pace(1, 10, 20), &hosts, None), Action::Start(vec![11]), "2 of 11 are 18 %");
    hosts[3] = Failed;
    let Action::Stop(Stop::Failures, why) = decide(pace(1, 10, 20), &hosts, None) else { panic!("3 of 11 are 27 %") };
    assert_eq!(why, "3 of 11 begun did not end well, and the wave stops at 20 %");
}

#[test]
fn a_stop_at_0_percent_is_one_at_the_first_failure() {
    let hosts = [Succeeded, Failed, NotStarted];
    assert_eq!(stopped_by(&decide(pace(0, 1, 0), &hosts, None)), Some(Stop::Failures));
    assert_eq!(decide(pace(0, 1, 0), &[Succeeded, NotStarted, NotStarted], None), Action::Start(vec![1]));
}

#[test]
fn at_100_percent_it_stops_only_where_all_that_were_begun_failed() {
    assert_eq!(decide(pace(0, 2, 100), &[Failed, Succeeded, NotStarted], None), Action::Start(vec![2]));
    assert_eq!(stopped_by(&decide(pace(0, 2, 100), &[Failed, Failed, NotStarted], None)), Some(Stop::Failures));
}

#[test]
fn what_was_stopped_waits_for_what_it_began_and_begins_nothing() {
    let hosts = [Failed, Running, NotStarted];
    assert_eq!(decide(pace(0, 10, 20), &hosts, Some(Stop::Failures)), Action::Wait);
    // A job that counted as lost turned out to have ended well: the wave stays stopped.
    let better = [Succeeded, Succeeded, NotStarted];
    assert_eq!(decide(pace(0, 10, 20), &better, Some(Stop::Failures)), Action::Finish(WaveStatus::Failed));
}

#[test]
fn a_cancelled_wave_ends_as_cancelled_once_nothing_runs() {
    let hosts = [Succeeded, Running, NotStarted];
    assert_eq!(decide(pace(1, 10, 20), &hosts, Some(Stop::Cancel)), Action::Wait);
    let hosts = [Succeeded, Failed, NotStarted];
    assert_eq!(decide(pace(1, 10, 20), &hosts, Some(Stop::Cancel)), Action::Finish(WaveStatus::Cancelled));
}

#[test]
fn it_ends_as_well_as_its_hosts_did() {
    let p = pace(1, 10, 50);
    assert_eq!(decide(p, &[Succeeded; 3], None), Action::Finish(WaveStatus::Succeeded));
    assert_eq!(decide(p, &[Succeeded, Warning, Succeeded], None), Action::Finish(WaveStatus::Warning));
    assert_eq!(decide(p, &[Succeeded, Failed, Succeeded], None), Action::Finish(WaveStatus::Warning));
}

#[test]
fn a_restart_ended_well_only_when_health_came_back() {
    let of = |aftermath: &Aftermath| Standing::of_job(JobStatus::Succeeded, Some(aftermath));
    let waiting = Aftermath::waiting(Timestamp::from_unix_ms(0));
    assert_eq!(of(&waiting), Running);
    assert_eq!(of(&Aftermath::Unhealthy { detail: String::new() }), Failed);
    assert_eq!(of(&Aftermath::Healthy { after_ms: 1 }), Succeeded);
    assert_eq!(of(&Aftermath::NotAsked), Succeeded);
    assert_eq!(Standing::of_job(JobStatus::Succeeded, None), Succeeded);
    assert_eq!(Standing::of_job(JobStatus::Failed, Some(&waiting)), Failed);
    for status in [JobStatus::Cancelled, JobStatus::Lost] {
        assert_eq!(Standing::of_job(status, None), Failed, "{status}");
    }
}

#[test]
fn a_pace_out_of_bounds_is_refused_field_by_field() {
    let fields: Vec<String> = pace(20_000, 0, 101).faults().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["canary", "batch", "stop_at"]);
    assert!(Pace::of("greet").faults().is_empty() && Pace::of(RESTART).faults().is_empty());
    assert_eq!(Pace::of(RESTART), pace(0, 1, 0));
}

/// Plays a wave whose jobs end in any order and any way.
fn play(seed: u64, pace: Pace, count: usize, failing_percent: u64) {
    let mut state = seed;
    let mut dice = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let (mut hosts, mut stopped) = (vec![NotStarted; count], None);
    for _ in 0..count * 4 + 4 {
        match decide(pace, &hosts, stopped) {
            Action::Start(places) => {
                assert!(stopped.is_none(), "a stopped wave began something");
                let first = (pace.canary as usize).min(count);
                for at in places {
                    assert_eq!(hosts[at], NotStarted, "{at} was begun twice");
                    assert!(at < first || hosts[..first].iter().all(|host| host.is_good()), "{at} before the canary");
                    hosts[at] = Running;
                }
                let running = hosts.iter().filter(|host| **host == Running).count();
                assert!(running <= pace.batch as usize, "{running} at once");
            }
            Action::Stop(stop, why) => {
                assert!(stopped.is_none() && hosts.contains(&Failed) && !why.is_empty());
                stopped = Some(stop);
            }
            Action::Wait => {
                let running: Vec<usize> = (0..count).filter(|at| hosts[*at] == Running).collect();
                let at = running[dice() as usize % running.len()];
                hosts[at] = if dice() % 100 < failing_percent { Failed } else { Succeeded };
            }
            Action::Finish(status) => {
                let tally = Tally::of(&hosts);
                assert_eq!(tally.running, 0);
                assert_eq!(status == WaveStatus::Failed, stopped.is_some(), "{status:?}");
                assert!(stopped.is_some() || tally.not_started == 0, "a host was forgotten");
                return;
            }
        }
    }
    panic!("seed {seed}: it never ended");
}

#[test]
fn whatever_happens_a_wave_keeps_its_bounds_and_ends() {
    for seed in 0..2_000_u64 {
        let p = pace((seed % 5) as u32, (seed % 7) as u32 + 1, (seed * 13 % 101) as u32);
        play(seed, p, (seed % 23) as usize + 1, seed * 7 % 101);
    }
}
