//! The process ends at any point: one id per moment, and no second run.

use std::fs;

use super::*;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("schedule")).unwrap();
    for name in ["set", "state.json"] {
        fs::copy(from.join("schedule").join(name), to.join("schedule").join(name)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_between_written_and_said_leaves_one_id() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(15 * HOUR + SECOND).await;
    let before = agent.pending();
    drop(agent);
    for _ in 0..3 {
        let agent = host.start();
        agent.tick(MINUTE).await;
        assert_eq!(agent.pending(), before);
    }
    host.start().meet(&mut server, MINUTE).await;
    assert_eq!(server.jobs.values().copied().collect::<Vec<_>>(), [before[0].job_id.unwrap()]);
    assert_eq!(host.start().pending(), []);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_between_the_decision_to_run_and_the_run_begins_it_once_under_its_id() {
    let host = Host::new();
    let crash = tempfile::tempdir().unwrap();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    let (from, to) = (host.folder.path().to_owned(), crash.path().to_owned());
    *host.runner.hook.lock().unwrap() = Some(Box::new(move |_| copy(&from, &to)));
    agent.tick(15 * HOUR + 3 * MINUTE).await;
    *host.runner.hook.lock().unwrap() = None;
    let ran = host.runner.jobs();
    assert_eq!(ran.len(), 1);
    let written = fs::read_to_string(crash.path().join("schedule/state.json")).unwrap();
    assert!(written.contains("\"alone\":true"), "written before it was handed over: {written}");

    // The runner took it: it is among what the process left.
    let taken = host.start_in(crash.path(), &ran);
    assert!(taken.pending()[0].alone);
    taken.tick(HOUR).await;
    assert_eq!(host.runner.jobs(), ran);

    // The runner did not.
    let other = Host { runner: Arc::default(), ..Host::new() };
    other.step(15 * 3600 + 180);
    let lost = other.start_in(crash.path(), &[]);
    assert!(!lost.pending()[0].alone, "nobody has heard of it yet");
    lost.tick(3 * MINUTE).await;
    assert_eq!(other.runner.jobs(), ran, "the same id");
    lost.tick(HOUR).await;
    assert_eq!(other.runner.jobs(), ran);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_while_a_backup_runs_by_itself_does_not_begin_it_again() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(15 * HOUR + 3 * MINUTE).await;
    let ran = host.runner.jobs();
    // Even where the server has its end and all that is missing is the answer for the moment.
    for leftovers in [&ran[..], &[]] {
        let agent = host.start_in(host.folder.path(), leftovers);
        agent.tick(2 * HOUR).await;
        assert!(agent.pending()[0].alone);
        assert_eq!(host.runner.jobs(), ran);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_end_the_server_has_is_a_settled_moment() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(15 * HOUR + 3 * MINUTE).await;
    agent.scheduler.has_job(host.runner.jobs()[0]);
    assert_eq!(host.start().pending(), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_fires_that_cannot_be_written_down_and_the_host_says_so() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    let (folder, away) = (host.folder.path().join("schedule"), host.folder.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "in the way").unwrap();
    agent.meet(&mut server, 15 * HOUR + MINUTE).await;
    assert!(server.jobs.is_empty() && host.runner.jobs().is_empty());
    assert!(agent.trouble("schedule_not_written").unwrap().contains("free space"));
    assert!(agent.scheduler.receive(set(2, &[])).unwrap_err().to_string().contains("schedule/set"));
    assert_eq!(agent.scheduler.hello().0, 1, "the held set stays in force");
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    agent.meet(&mut server, 2 * MINUTE).await;
    assert_eq!((server.moments(), agent.trouble("schedule_not_written")), (vec!["22T03:00".to_owned()], None));
}

#[tokio::test(start_paused = true)]
async fn answers_that_come_at_once_are_written_together_and_none_is_lost_by_a_death_in_between() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    let entries: Vec<ScheduleEntry> = (1..=300).map(hourly).collect();
    agent.scheduler.receive(set(1, &entries)).unwrap();
    agent.tick(HOUR + SECOND).await;
    let on_disk = || host.state_file().matches("\"since\"").count();
    let fires = agent.pending();
    assert_eq!((fires.len(), on_disk()), (300, 300));
    agent.scheduler.connected();
    for fire in fires {
        agent.scheduler.fired(&server.answer(fire));
    }
    assert_eq!((agent.pending(), on_disk()), (vec![], 299), "the first at once, the others soon");
    // A process that died now would say them again, and they would be the same jobs.
    let next = host.start();
    for fire in next.pending() {
        next.scheduler.fired(&server.answer(fire));
    }
    assert_eq!((server.asked, server.jobs.len()), (599, 300));
    agent.tick(SECOND).await;
    assert_eq!(on_disk(), 0);
    assert_eq!(host.start().pending(), []);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_orders_of_a_moment_that_it_has_just_taken_is_settled_on_disk_before_it_runs() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    agent.scheduler.receive(set(1, &[hourly(1), hourly(2), hourly(3)])).unwrap();
    agent.tick(HOUR + SECOND).await;
    let fires = agent.pending();
    agent.scheduler.connected();
    for fire in &fires {
        agent.scheduler.fired(&server.answer(fire.clone()));
    }
    agent.scheduler.has_job(fires[2].job_id.unwrap());
    assert_eq!(host.start().pending(), [], "it must not come back as one that waits for the server, and run alone");
}
