//! What happens while the server is away, and when it comes back.

use super::*;

#[tokio::test(start_paused = true)]
async fn while_the_server_is_away_backups_run_and_all_of_them_are_told_when_it_is_back() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[hourly(1)])).unwrap();
    agent.meet(&mut server, 155 * SECOND).await;
    for hour in 0..5 {
        agent.tick(HOUR - 45 * SECOND).await;
        assert_eq!(host.runner.jobs().len(), hour, "the server has two minutes");
        agent.tick(45 * SECOND).await;
        assert_eq!(host.runner.jobs().len(), hour + 1);
        host.runner.end_all();
    }
    let ran = host.runner.jobs();
    let told = agent.pending();
    assert_eq!(moments(&told), ["21T13:00", "21T14:00", "21T15:00", "21T16:00", "21T17:00"]);
    assert!(told.iter().all(|fire| fire.alone));
    assert_eq!(told.iter().map(|fire| fire.job_id.unwrap()).collect::<Vec<_>>(), ran);
    agent.meet(&mut server, 5 * MINUTE).await;
    assert_eq!(server.jobs.values().copied().collect::<Vec<_>>(), ran);
    assert_eq!((agent.pending(), host.runner.jobs()), (vec![], ran));
}

#[tokio::test(start_paused = true)]
async fn past_a_thousand_backups_that_the_server_does_not_know_none_more_begins_without_it() {
    let mut host = Host::new();
    // Each look is at all of them.
    host.policy.look_every = 5 * MINUTE;
    let agent = host.start();
    let entries: Vec<ScheduleEntry> = (1..=600).map(hourly).collect();
    agent.scheduler.receive(set(1, &entries)).unwrap();
    agent.tick(15 * MINUTE).await;
    for ran in [600, 1000] {
        agent.tick(HOUR).await;
        assert_eq!(host.runner.jobs().len(), ran);
        host.runner.end_all();
    }
    let told = agent.pending();
    assert!(told.len() == 1000 && told.iter().all(|fire| fire.alone), "hello names all that ran");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_still_runs_is_not_joined_by_the_next_one() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[hourly(1)])).unwrap();
    agent.tick(4 * HOUR + 10 * MINUTE).await;
    assert_eq!(host.runner.jobs().len(), 1);
    assert_eq!(moments(&agent.pending()), ["21T13:00", "21T16:00"], "of those that wait the last one counts");
    host.runner.end_all();
    agent.tick(MINUTE).await;
    assert_eq!(host.runner.jobs().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_the_server_ordered_and_that_still_runs_is_not_joined_either() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[hourly(1)])).unwrap();
    agent.meet(&mut server, HOUR + MINUTE).await;
    let ordered = hourly(1).order.unwrap().for_job(*server.jobs.values().next().unwrap());
    agent.scheduler.submit(ordered);
    agent.tick(2 * HOUR).await;
    assert_eq!(host.runner.jobs().len(), 1);
    host.runner.end_all();
    agent.tick(MINUTE).await;
    assert_eq!(host.runner.jobs().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_there_and_does_not_answer_is_away_too_and_hears_first_that_the_job_runs() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.scheduler.connected();
    let said = agent.talk(15 * HOUR + 150 * SECOND).await;
    assert_eq!(host.runner.jobs(), [said[0].job_id.unwrap()]);
    assert!(!said[0].alone && said.last().unwrap().alone);
    assert_eq!(said[0].job_id, said.last().unwrap().job_id);
}

#[tokio::test(start_paused = true)]
async fn an_order_of_the_server_for_a_moment_that_runs_already_runs_nothing() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(15 * HOUR + 5 * MINUTE).await;
    let fire = agent.pending().remove(0);
    let order = daily(1).order.unwrap().for_job(fire.job_id.unwrap());
    agent.scheduler.has_job(order.job_id);
    assert_eq!(agent.scheduler.submit(order), Submitted::Known);
    assert!(agent.outbox.contains(fire.job_id.unwrap()), "its log is still to be told");
    assert_eq!((host.runner.jobs().len(), agent.pending()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_moment_that_the_server_has_ordered_does_not_run_by_itself_when_the_connection_breaks_then() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.scheduler.connected();
    let said = agent.talk(15 * HOUR + MINUTE).await;
    let order = daily(1).order.unwrap().for_job(said[0].job_id.unwrap());
    agent.scheduler.has_job(order.job_id);
    assert_eq!(agent.scheduler.submit(order), Submitted::Accepted);
    host.runner.end_all();
    agent.scheduler.disconnected();
    // Not even where this process and all that it knew of the job is gone.
    let agent = host.start();
    agent.tick(HOUR).await;
    assert_eq!((host.runner.jobs().len(), agent.pending()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_moment_that_was_taken_before_the_connection_broke_does_not_run_by_itself() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, 15 * HOUR + SECOND).await;
    agent.tick(3 * HOUR).await;
    assert_eq!((server.jobs.len(), host.runner.jobs()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_by_itself_waits_and_is_told_once() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    let mut check = hourly(2);
    check.order.as_mut().unwrap().kind = JobKind::Check;
    let skip = ScheduleEntry { order: None, catch_up: CatchUp::Skip, ..hourly(3) };
    let entries = [ScheduleEntry { order: None, ..hourly(1) }, check, skip];
    agent.scheduler.receive(set(1, &entries)).unwrap();
    agent.tick(6 * HOUR + 10 * MINUTE).await;
    assert_eq!(host.runner.jobs(), []);
    agent.meet(&mut server, 10 * MINUTE).await;
    assert_eq!(server.moments(), ["21T18:00", "21T18:00"], "the one that skips has nothing to tell");
}

#[tokio::test(start_paused = true)]
async fn a_pending_moment_of_an_entry_that_was_disabled_deleted_or_changed_is_for_the_server_to_refuse() {
    let changed = ScheduleEntry { cron: "30 4 * * *".to_owned(), ..daily(1) };
    for entries in [vec![], vec![ScheduleEntry { enabled: false, ..daily(1) }], vec![changed]] {
        let refuses = Some("the schedule is disabled".to_owned());
        let (host, mut server) = (Host::new(), Server { refuses, ..Server::default() });
        let agent = host.start();
        agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
        agent.tick(15 * HOUR + MINUTE).await;
        agent.scheduler.receive(set(2, &entries)).unwrap();
        agent.tick(HOUR).await;
        assert_eq!(host.runner.jobs(), []);
        agent.meet(&mut server, MINUTE).await;
        assert_eq!(moments(&server.hellos[0]), ["22T03:00"]);
        assert_eq!((agent.pending(), server.jobs.len()), (vec![], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_comes_while_a_moment_waits_is_the_one_that_it_runs_by() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(15 * HOUR + MINUTE).await;
    let mut newer = daily(1);
    newer.order.as_mut().unwrap().args = vec!["/srv".to_owned()];
    agent.scheduler.receive(set(2, &[newer])).unwrap();
    agent.tick(5 * MINUTE).await;
    assert_eq!(host.runner.jobs.lock().unwrap()[0].0.args, ["/srv"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_agents_with_one_identity_the_second_one_does_not_begin_or_stops() {
    let mut server = Server::default();
    let (first, second, third) = (Host::new(), Host::new(), Host::new());
    for (n, host) in [(1, &first), (1_000, &second), (1_000_000, &third)] {
        host.chance.store(n, Ordering::Relaxed);
    }
    let agents = [&first, &second, &third].map(|host| {
        let agent = host.start();
        agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
        agent
    });
    agents[0].meet(&mut server, 15 * HOUR + MINUTE).await;
    agents[1].meet(&mut server, MINUTE).await;
    agents[1].tick(HOUR).await;
    assert_eq!((server.jobs.len(), second.runner.jobs()), (1, vec![]));
    // The third had begun before it could ask.
    agents[2].tick(5 * MINUTE).await;
    let ran = third.runner.jobs();
    agents[2].meet(&mut server, MINUTE).await;
    assert_eq!((server.jobs.len(), ran.len(), &*third.runner.cancelled.lock().unwrap()), (1, 1, &ran));
    assert!(!agents[2].outbox.contains(ran[0]));
}

#[tokio::test(start_paused = true)]
async fn after_thirty_days_without_the_server_backups_wait_and_the_host_says_so() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, 5 * MINUTE).await;
    for _ in 0..40 {
        agent.tick(DAY).await;
        host.runner.end_all();
    }
    assert_eq!(host.runner.jobs().len(), 30);
    let trouble = agent.trouble("schedules_too_old").unwrap();
    assert!(trouble.contains("2026-12-22T03:00") && trouble.contains("30 days"), "{trouble}");
    // Also by a process that was not there; and then all goes on.
    let agent = host.start_in(host.folder.path(), &host.runner.jobs());
    agent.tick(HOUR).await;
    assert_eq!(host.runner.jobs().len(), 30);
    agent.meet(&mut server, HOUR).await;
    assert_eq!(server.jobs.len(), 31, "those that ran, and the last of those that did not");
    assert!(agent.trouble("schedules_too_old").is_some(), "told for a day");
    agent.meet(&mut server, 2 * DAY).await;
    assert_eq!((server.jobs.len(), agent.trouble("schedules_too_old")), (33, None));
    agent.tick(DAY).await;
    assert_eq!(host.runner.jobs().len(), 31, "and the next outage has thirty days again");
}

#[tokio::test(start_paused = true)]
async fn a_connection_confirms_the_set_that_is_held() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    for _ in 0..5 {
        agent.meet(&mut server, 10 * DAY).await;
    }
    host.start().tick(DAY).await;
    assert_eq!(host.runner.jobs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_was_under_way_when_the_backup_began_alone_does_not_stop_it() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.scheduler.connected();
    let said = agent.talk(15 * HOUR + 150 * SECOND).await;
    assert!(!said[0].alone && said.last().unwrap().alone);
    let answer = |job_id: Option<JobId>| ScheduleFired {
        schedule_id: said[0].schedule_id,
        scheduled_at: said[0].scheduled_at,
        job_id,
        reason: job_id.is_none().then(|| "in the future".to_owned()),
    };
    for _ in &said[1..] {
        agent.scheduler.fired(&answer(None));
    }
    assert_eq!((agent.pending().len(), host.runner.cancelled.lock().unwrap().len()), (1, 0));
    agent.scheduler.fired(&answer(said[0].job_id));
    assert_eq!(agent.pending(), []);
}
