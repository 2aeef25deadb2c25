//! The set itself: replaced whole, kept sealed, refused by entry.

use std::fs;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_set_replaces_the_one_before_whole_and_outlives_the_process() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    assert_eq!(agent.scheduler.hello().0, 0);
    agent.scheduler.receive(set(3, &[daily(1), daily(2)])).unwrap();
    let answer = agent.scheduler.receive(set(4, &[daily(2)])).unwrap();
    assert_eq!(answer, ScheduleAck { version: 4, rejected: vec![] });
    let agent = host.start();
    assert_eq!(agent.scheduler.hello().0, 4);
    agent.meet(&mut server, DAY).await;
    assert_eq!(server.jobs.keys().map(|(id, _)| *id).collect::<Vec<_>>(), [daily(2).schedule_id]);
}

#[tokio::test(start_paused = true)]
async fn the_same_version_is_acknowledged_again_and_an_older_one_is_taken() {
    let host = Host::new();
    let agent = host.start();
    for version in [7, 7, 2] {
        assert_eq!(agent.scheduler.receive(set(version, &[daily(1)])).unwrap().version, version);
    }
    assert_eq!(host.start().scheduler.hello().0, 2);
}

#[tokio::test(start_paused = true)]
async fn entries_that_cannot_be_followed_are_named_and_the_others_are_in_force() {
    let (host, mut server) = (Host::new(), Server::default());
    let agent = host.start();
    let cron = ScheduleEntry { cron: "0 3 * *".to_owned(), ..daily(2) };
    let zone = ScheduleEntry { timezone: "Mars/Base".to_owned(), ..daily(3) };
    let answer = agent.scheduler.receive(set(1, &[daily(1), cron, zone, daily(1)])).unwrap();
    let refused: Vec<_> = answer.rejected.iter().map(|r| (r.schedule_id.bits() & 0xff, r.reason.clone())).collect();
    assert_eq!(refused.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [2, 3, 1]);
    assert!(refused[0].1.contains("4 fields") && refused[1].1.contains("Mars/Base") && refused[2].1.contains("twice"));
    let agent = host.start();
    assert!(agent.trouble("schedule_rejected").unwrap().contains("cannot follow 3"));
    agent.meet(&mut server, DAY).await;
    assert_eq!(server.jobs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_set_of_too_many_entries_is_followed_in_part() {
    let agent = Host::new();
    let entries: Vec<_> = (0..1003).map(daily).collect();
    let answer = agent.start().scheduler.receive(set(1, &entries)).unwrap();
    assert_eq!(answer.rejected.len(), 3);
    assert!(answer.rejected[0].reason.contains("more than 1000"));
}

#[tokio::test(start_paused = true)]
async fn no_secret_stands_open_on_the_disk() {
    let host = Host::new();
    let mut entry = daily(1);
    entry.order.as_mut().unwrap().args = vec!["planted-secret".to_owned()];
    host.start().scheduler.receive(set(1, &[entry])).unwrap();
    for file in fs::read_dir(host.folder.path().join("schedule")).unwrap() {
        let content = fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(7).any(|part| part == b"planted"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_or_foreign_set_counts_as_none_and_costs_no_moment_when_it_comes_again() {
    let (host, mut server) = (Host::new(), Server::default());
    host.start().scheduler.receive(set(1, &[daily(1)])).unwrap();
    fs::write(host.folder.path().join("schedule/set"), b"rubbish").unwrap();
    host.pass(20 * HOUR).await;
    let agent = host.start();
    assert_eq!(agent.scheduler.hello().0, 0);
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.meet(&mut server, 2 * MINUTE).await;
    assert_eq!(server.moments(), ["22T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_memory_of_what_fired_nothing_before_now_fires() {
    let (host, mut server) = (Host::new(), Server::default());
    host.start().scheduler.receive(set(1, &[daily(1)])).unwrap();
    fs::write(host.folder.path().join("schedule/state.json"), b"{\"torn").unwrap();
    host.pass(20 * HOUR).await;
    let agent = host.start();
    assert_eq!(agent.scheduler.hello().0, 1);
    agent.meet(&mut server, DAY).await;
    assert_eq!(server.moments(), ["23T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_enrolment_left_is_not_told_to_the_new_server() {
    let host = Host::new();
    let agent = host.start();
    agent.scheduler.receive(set(1, &[daily(1)])).unwrap();
    agent.tick(16 * HOUR).await;
    let mut file = host.state_file();
    let (old, new) = (HostId::from_parts(1, 1).to_string(), HostId::from_parts(1, 2).to_string());
    file = file.replace(&old, &new);
    fs::write(host.folder.path().join("schedule/state.json"), file).unwrap();
    assert_eq!(host.start().pending(), []);
    assert!(host.now() > at("2026-11-22T00:00:00Z"));
}
