//! When something fires: on time, late, missed, and under clocks that jump.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_moment_fires_on_time_and_its_id_is_on_disk_before_it_is_said() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, 15 * HOUR - SECOND).await;
    assert!(server.jobs.is_empty());
    let said = agent.talk(2 * SECOND).await;
    assert_eq!(moments(&said), ["22T03:00"]);
    assert!(host.state_file().contains(&said[0].job_id.unwrap().to_string()));
}

#[tokio::test(start_paused = true)]
async fn the_spread_delays_a_moment_by_the_same_time_each_day_and_is_no_part_of_its_name() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    let entry = ScheduleEntry { jitter_s: 3600, ..daily(1) };
    let delay = flotilla_proto::calendar::jitter_s(entry.schedule_id, 3600);
    assert!(delay > 60, "a delay that shows");
    agent.scheduler.receive(set(1, &[entry])).unwrap();
    agent.meet(&mut server, 15 * HOUR + Duration::from_secs(delay.into()) - SECOND).await;
    assert!(server.jobs.is_empty());
    agent.meet(&mut server, 2 * SECOND).await;
    agent.meet(&mut server, DAY).await;
    assert_eq!(server.moments(), ["22T03:00", "23T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_fires_once_for_the_last_moment_however_many_there_were() {
    let (host, mut server) = (Host::new(), Server::default());
    let (once, skip) = (hourly(1), ScheduleEntry { catch_up: CatchUp::Skip, ..hourly(2) });
    host.start().scheduler.receive(set(1, &[once.clone(), skip])).unwrap();
    host.pass(50 * HOUR + 30 * MINUTE).await;
    let agent = host.start();
    agent.meet(&mut server, 61 * SECOND).await;
    assert_eq!(server.jobs.keys().collect::<Vec<_>>(), [&(once.schedule_id, at("2026-11-23T14:00:00Z"))]);
    agent.meet(&mut server, HOUR).await;
    assert_eq!(server.moments(), ["23T14:00", "23T15:00", "23T15:00"], "both go on");
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_fires_after_a_small_random_delay() {
    let mut delays = Vec::new();
    for chance in [1, 1_000_001, 77] {
        let host = Host::new();
        host.chance.store(chance, Ordering::Relaxed);
        host.start().scheduler.receive(set(1, &[daily(1)])).unwrap();
        host.pass(20 * HOUR).await;
        let (agent, began) = (host.start(), Instant::now());
        let fire = async {
            tokio::select! { never = agent.scheduler.run() => match never {}, fire = agent.scheduler.next() => fire }
        };
        timeout(61 * SECOND, fire).await.unwrap();
        delays.push(began.elapsed());
    }
    delays.sort_unstable();
    delays.dedup();
    assert_eq!(delays.len(), 3, "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn a_moment_less_than_five_minutes_late_was_not_missed() {
    for (late, expected) in [(4 * MINUTE, 1), (6 * MINUTE, 0)] {
        let (host, mut server) = (Host::new(), Server::default());
        let skip = ScheduleEntry { catch_up: CatchUp::Skip, ..daily(1) };
        host.start().scheduler.receive(set(1, &[skip])).unwrap();
        host.pass(15 * HOUR + late).await;
        host.start().meet(&mut server, 2 * MINUTE).await;
        assert_eq!(server.jobs.len(), expected, "{late:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn new_and_changed_entries_do_not_fire_for_what_was_before_they_came() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    let off = ScheduleEntry { enabled: false, ..daily(2) };
    agent.scheduler.receive(set(1, &[daily(1), off])).unwrap();
    host.pass(20 * HOUR).await;
    let changed = ScheduleEntry { cron: "0 4 * * *".to_owned(), ..daily(1) };
    agent.scheduler.receive(set(2, &[changed, daily(2), daily(3)])).unwrap();
    agent.meet(&mut server, HOUR).await;
    assert!(server.jobs.is_empty());
    agent.meet(&mut server, DAY).await;
    assert_eq!(server.moments(), ["23T04:00", "23T03:00", "23T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_order_loses_no_moment() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    host.pass(20 * HOUR).await;
    agent.scheduler.receive(set(2, &[ScheduleEntry { order: None, ..daily(1) }])).unwrap();
    agent.meet(&mut server, 2 * MINUTE).await;
    assert_eq!(server.moments(), ["22T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_entry_never_fires() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[ScheduleEntry { enabled: false, ..hourly(1) }])).unwrap();
    agent.meet(&mut server, 5 * HOUR).await;
    assert!(server.jobs.is_empty() && server.hellos.concat().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_fires_no_moment_twice() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[hourly(1)])).unwrap();
    agent.meet(&mut server, HOUR + MINUTE).await;
    host.step(-3600);
    let said = agent.talk(2 * HOUR).await;
    assert_eq!(server.moments(), ["21T13:00"]);
    assert!(said.iter().all(|fire| short(fire.scheduled_at) == "21T14:00"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_forward_is_a_missed_moment() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, MINUTE).await;
    host.step(3 * 24 * 3600);
    agent.meet(&mut server, 2 * MINUTE).await;
    assert_eq!(server.moments(), ["24T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_wild_jump_that_is_undone_silences_no_schedule_and_repeats_no_moment() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, MINUTE).await;
    host.step(4 * 24 * 3600);
    agent.meet(&mut server, 2 * MINUTE).await;
    assert_eq!(server.moments(), ["25T03:00"]);
    let said_ahead = server.jobs.clone();
    host.step(-4 * 24 * 3600);
    agent.meet(&mut server, 6 * DAY).await;
    assert_eq!(server.moments(), ["22T03:00", "23T03:00", "24T03:00", "25T03:00", "26T03:00", "27T03:00"]);
    assert!(said_ahead.iter().all(|(moment, job)| server.jobs[moment] == *job));
    assert_eq!(server.hellos.concat(), []);
}

#[tokio::test(start_paused = true)]
async fn a_moment_that_was_refused_because_the_clock_was_ahead_fires_when_it_comes() {
    let (each_day, each_hour) = ("0 3 * * *", "0 * * * *");
    // What came while the clock was ahead by less than a day begins then.
    for (ahead_h, cron, expected) in [(10, each_day, 2), (10, each_hour, 44), (100, each_day, 2), (100, each_hour, 48)]
    {
        let host = Host::new();
        let right = WallClock { began: host.clock.began, off_ms: AtomicI64::new(0) };
        let mut server = Server { clock: Some(Arc::new(right)), ..Server::default() };
        let agent = host.start();
        host.step(ahead_h * 3600);
        agent.scheduler.receive(set(1, &[ScheduleEntry { cron: cron.to_owned(), ..daily(1) }])).unwrap();
        agent.meet(&mut server, 6 * HOUR + MINUTE).await;
        assert!(server.jobs.is_empty() && server.asked <= 6, "asked {} times", server.asked);
        host.step(-ahead_h * 3600);
        agent.meet(&mut server, 2 * DAY).await;
        assert_eq!(server.jobs.len(), expected, "{ahead_h} h ahead, {cron}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_behind_for_a_while_repeats_nothing_and_fires_nothing_from_before() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, 20 * HOUR).await;
    for years in [1, 50] {
        host.step(-years * 365 * 24 * 3600);
        let agent = host.start();
        agent.meet(&mut server, 10 * MINUTE).await;
        host.step(years * 365 * 24 * 3600);
        agent.meet(&mut server, 10 * MINUTE).await;
    }
    assert_eq!(server.moments(), ["22T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_jump_that_is_undone_at_once_leaves_no_trace() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    host.step(400 * 24 * 3600);
    assert_eq!(agent.talk(Duration::from_millis(100)).await, []);
    host.step(-400 * 24 * 3600);
    agent.meet(&mut server, DAY).await;
    assert_eq!(server.moments(), ["22T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_moment_is_said_again_until_it_is_answered_and_under_one_id_over_all_connections() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[ScheduleEntry { order: None, ..daily(1) }])).unwrap();
    agent.scheduler.hello();
    agent.scheduler.connected();
    let said = agent.talk(15 * HOUR + 95 * SECOND).await;
    assert_eq!(moments(&said), ["22T03:00"; 4]);
    // Another connection takes over from that one; both get an answer.
    agent.meet(&mut server, MINUTE).await;
    assert_eq!(server.hellos, [[said[0].clone()]]);
    let answer = server.answer(said[0].clone());
    agent.scheduler.fired(&answer);
    assert!(said.iter().all(|fire| fire == &said[0]) && agent.pending().is_empty());
    assert_eq!(agent.talk(2 * MINUTE).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_drains_begins_nothing() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(15 * HOUR + MINUTE).await;
    agent.draining.cancel();
    agent.tick(3 * DAY).await;
    assert_eq!(moments(&agent.pending()), ["22T03:00"]);
    assert_eq!(host.runner.jobs(), []);
}
