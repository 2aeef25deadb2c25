//! Forget, prune, tag, copy and repair through the executor, in three generations of restic, on a real server that is append-only for endpoints and not for
//! maintenance. What counts is what is there afterwards.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/upkeep.rs"]
mod upkeep;

use std::{fs, path::Path};

use flotilla_proto::{
    CommandRun, CopyResult, CopySpec, ForgetResult, ForgetSpec, GuardAnswer, HeldBack, JobKind, JobStatus, KeepRules,
    Operation, PruneResult, PruneSpec, Record, RepairResult, RepairSpec, RepairWhat, RepoId, RepoSpec, Selection,
    TagResult, TagSpec,
};
use harness::{RestServer, free_port, local_repo, of_kind, secret, versions};
use upkeep::{Bench, Guard, doomed, listed, records, result};

fn keep(last: u32) -> ForgetSpec {
    ForgetSpec { keep: KeepRules { keep_last: Some(last), ..KeepRules::default() }, ..ForgetSpec::default() }
}

fn forget(spec: ForgetSpec) -> Option<Operation> {
    Some(Operation::Forget(spec))
}

#[tokio::test]
async fn a_forget_removes_what_the_rules_and_the_guard_agree_upon_and_the_list_proves_it() {
    for version in versions() {
        let guard = Guard::content();
        let mut bench = Bench::guarded(version, &guard);
        bench.snapshots(3).await;
        let before = bench.ids().await;
        let spec = ForgetSpec { prune: true, group_by: vec!["host".to_owned(), "paths".to_owned()], ..keep(1) };
        let (end, memory) = bench.good::<ForgetResult>(JobKind::Forget, bench.open_repo(), forget(spec)).await;
        assert_eq!((end.kept, end.removed, end.still_there.len()), (1, 2, 0), "{version}: {end:?}");
        assert!(end.prune.unwrap().freed_bytes.unwrap() > 300_000, "{version}: {}", memory.text());
        let left = listed(&memory);
        assert_eq!(left.iter().map(|snapshot| &snapshot.id).collect::<Vec<_>>(), [&before[2]]);
        assert_eq!(bench.ids().await, before[2..]);
        let asked = &guard.asked.lock().unwrap()[0];
        assert!(!asked.dry_run && asked.fates.len() == 3);
        assert_eq!(asked.fates[0].snapshot.id, before[2], "the newest first");
        assert_eq!(asked.fates[0].kept_by, ["last snapshot"]);
        assert!(asked.fates[0].group.starts_with("host-1 /"), "{}", asked.fates[0].group);
        let fates = records(&memory).into_iter().filter(|record| matches!(record, Record::Fate(_))).count();
        assert_eq!(fates, 3, "each is told");
    }
}

#[tokio::test]
async fn a_dry_run_asks_the_guard_and_removes_nothing() {
    for version in versions() {
        let guard = Guard::content();
        let mut bench = Bench::guarded(version, &guard);
        bench.snapshots(2).await;
        let spec = ForgetSpec { dry_run: true, prune: true, ..keep(1) };
        let (end, _) = bench.good::<ForgetResult>(JobKind::Forget, bench.repo(), forget(spec)).await;
        assert_eq!((end.kept, end.removed, end.dry_run), (1, 1, true));
        assert!(guard.asked.lock().unwrap()[0].dry_run);
        assert_eq!(bench.ids().await.len(), 2);
    }
}

#[tokio::test]
async fn what_the_guard_holds_back_stays_and_what_it_stops_is_not_begun() {
    for version in versions() {
        let guard = Guard::new(|request| {
            let mut remove = doomed(request);
            match request.fates.len() {
                3 => {
                    let held = HeldBack { snapshot: remove.pop().unwrap(), reason: "pinned by ann".to_owned() };
                    GuardAnswer { remove, held: vec![held], stopped: None }
                }
                _ => {
                    GuardAnswer { remove, stopped: Some("all of web-1 would go".to_owned()), ..GuardAnswer::default() }
                }
            }
        });
        let mut bench = Bench::guarded(version, &guard);
        bench.snapshots(3).await;
        let before = bench.ids().await;
        let (end, _) = bench.good::<ForgetResult>(JobKind::Forget, bench.open_repo(), forget(keep(1))).await;
        assert_eq!((end.removed, end.held[0].reason.as_str()), (1, "pinned by ann"));
        assert_eq!(bench.ids().await, [before[0].clone(), before[2].clone()]);
        let (end, _) = bench.run(JobKind::Forget, bench.open_repo(), forget(keep(1))).await;
        assert_eq!(end.status, JobStatus::Warning);
        assert!(end.error.as_ref().unwrap().contains("all of web-1 would go"), "{end:?}");
        assert_eq!(result::<ForgetResult>(&end).removed, 0);
        assert_eq!(bench.ids().await.len(), 2);
    }
}

#[tokio::test]
async fn without_a_guard_nothing_is_removed_nor_where_it_names_what_the_rules_keep() {
    let mut bench = Bench::new("0.18");
    bench.snapshots(2).await;
    let (end, _) = bench.run(JobKind::Forget, bench.open_repo(), forget(keep(1))).await;
    assert!(
        end.status == JobStatus::Failed && end.error.as_ref().unwrap().contains("guard could not be asked"),
        "{end:?}"
    );
    let wild = Guard::new(|request| {
        let remove = request.fates.iter().map(|fate| fate.snapshot.id.clone()).collect();
        GuardAnswer { remove, ..GuardAnswer::default() }
    });
    bench.agent.executor.set_errands(wild);
    let (end, _) = bench.run(JobKind::Forget, bench.open_repo(), forget(keep(1))).await;
    assert!(end.error.as_ref().unwrap().contains("which the rules keep"), "{end:?}");
    assert_eq!(bench.ids().await.len(), 2);
}

#[tokio::test]
async fn a_forget_without_a_rule_is_refused_before_restic_is_asked() {
    for version in versions() {
        let mut bench = Bench::guarded(version, &Guard::content());
        bench.snapshots(1).await;
        for rules in [KeepRules::default(), KeepRules { keep_last: Some(0), ..KeepRules::default() }] {
            let spec = ForgetSpec { keep: rules, ..ForgetSpec::default() };
            let (end, _) = bench.run(JobKind::Forget, bench.open_repo(), forget(spec)).await;
            assert!(end.error.as_ref().unwrap().contains("there is no keep rule"), "{version}: {end:?}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_removed_meanwhile_is_gone_and_no_error() {
    for version in versions() {
        let mut bench = Bench::new(version);
        bench.snapshots(3).await;
        let folder = bench.endpoint.folder.path().join("data/agent1/r/snapshots");
        let first = bench.ids().await[0].clone();
        // Between the dry run and the removal somebody else removes one.
        bench.agent.executor.set_errands(Guard::new(move |request| {
            fs::remove_file(folder.join(&first)).unwrap();
            GuardAnswer { remove: doomed(request), ..GuardAnswer::default() }
        }));
        let (end, memory) = bench.run(JobKind::Forget, bench.open_repo(), forget(keep(1))).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        assert_eq!(result::<ForgetResult>(&end).removed, 2);
    }
}

#[tokio::test]
async fn a_prune_tells_what_it_gave_back_and_its_dry_run_changes_nothing() {
    for version in versions() {
        let guard = Guard::content();
        let mut bench = Bench::guarded(version, &guard);
        bench.snapshots(2).await;
        bench.good::<ForgetResult>(JobKind::Forget, bench.open_repo(), forget(keep(1))).await;
        let packs = || fs::read_dir(bench.endpoint.folder.path().join("data/agent1/r/data")).unwrap().count();
        assert!(packs() > 0);
        let spec = |dry_run| Some(Operation::Prune(PruneSpec { max_unused: Some("0".to_owned()), dry_run }));
        for dry_run in [true, true, false] {
            let (end, memory) = bench.good::<PruneResult>(JobKind::Prune, bench.open_repo(), spec(dry_run)).await;
            assert_eq!(end.dry_run, dry_run);
            assert!(end.freed_bytes.unwrap() > 150_000, "{version}: {}", memory.text());
            assert!(end.remaining_bytes.is_some() && end.repacked_bytes.is_some());
        }
        let (end, _) = bench.good::<PruneResult>(JobKind::Prune, bench.open_repo(), spec(false)).await;
        assert_eq!(end.freed_bytes, Some(0));
        let wrong = Some(Operation::Prune(PruneSpec { max_unused: Some("--x".to_owned()), dry_run: false }));
        let (end, _) = bench.run(JobKind::Prune, bench.open_repo(), wrong).await;
        assert!(end.error.unwrap().contains("nor `unlimited`"));
    }
}

fn tags(snapshots: Vec<String>) -> Option<Operation> {
    Some(Operation::Tag(TagSpec { snapshots, add: vec!["kept".to_owned()], remove: vec!["flotilla".to_owned()] }))
}

#[tokio::test]
async fn a_tag_is_set_where_the_old_snapshot_is_gone() {
    for version in versions() {
        let mut bench = Bench::new(version);
        bench.snapshots(2).await;
        let ids = bench.ids().await;
        let (end, memory) = bench.good::<TagResult>(JobKind::Tag, bench.open_repo(), tags(ids[..1].to_vec())).await;
        assert_eq!(end.changed, 1);
        let list = listed(&memory);
        assert_eq!(list.len(), 2);
        let new = list.iter().find(|snapshot| snapshot.original.as_ref() == Some(&ids[0])).unwrap();
        assert!(new.tags.contains(&"kept".to_owned()) && !new.tags.contains(&"flotilla".to_owned()));
        let (end, _) = bench.run(JobKind::Tag, bench.open_repo(), tags(ids[..1].to_vec())).await;
        assert!(end.error.as_ref().unwrap().contains("is not there any more"), "{version}: {end:?}");
    }
}

#[tokio::test]
async fn a_copy_goes_to_another_server_which_is_created_with_the_same_way_of_cutting() {
    for version in versions() {
        let mut bench = Bench::new(version);
        bench.snapshots(2).await;
        let other = RestServer::start();
        let to = RepoSpec { id: RepoId::from_parts(1, 2), password: secret("planted-repo two"), ..other.repo("copy") };
        let spec = CopySpec { to: to.id, snapshots: Vec::new(), of: Selection::default() };
        let mut order = CommandRun {
            operation: Some(Operation::Copy(spec)),
            second_repo: Some(to.clone()),
            ..of_kind(bench.number(), JobKind::Copy, bench.repo())
        };
        let (end, memory) = bench.agent.run(&order).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        assert_eq!(result::<CopyResult>(&end), CopyResult { copied: 2, skipped: 0, count: Some(2) });
        assert_eq!(listed(&memory).len(), 2);
        bench.snapshots(1).await;
        order.job_id = harness::job(bench.number());
        let (end, _) = bench.agent.run(&order).await;
        assert_eq!(result::<CopyResult>(&end), CopyResult { copied: 1, skipped: 2, count: Some(3) }, "{version}");
        order.second_repo.as_mut().unwrap().password = secret("planted-repo wrong");
        order.job_id = harness::job(bench.number());
        let (end, _) = bench.agent.run(&order).await;
        let told = end.error.unwrap();
        assert!(told.starts_with("the second repository: the repository's password is wrong"), "{version}: {told}");
        order.second_repo = Some(RepoSpec { init: false, ..other.repo("none") });
        order.job_id = harness::job(bench.number());
        let (end, _) = bench.agent.run(&order).await;
        assert!(end.error.as_ref().unwrap().contains("the second repository: there is no repository"), "{end:?}");
    }
}

#[tokio::test]
async fn an_index_is_repaired_in_every_version_and_what_a_version_can_not_do_is_said() {
    for version in versions() {
        let mut bench = Bench::new(version);
        bench.snapshots(1).await;
        let index = bench.endpoint.folder.path().join("data/agent1/r/index");
        for file in fs::read_dir(&index).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let repair = |what| Some(Operation::Repair(RepairSpec { what, ..RepairSpec::default() }));
        let (end, _) = bench.good::<RepairResult>(JobKind::Repair, bench.open_repo(), repair(RepairWhat::Index)).await;
        assert!(!end.said.is_empty(), "{version}");
        assert!(fs::read_dir(&index).unwrap().count() > 0);
        let (end, _) = bench.run(JobKind::Repair, bench.open_repo(), repair(RepairWhat::Snapshots)).await;
        let told = end.error.clone().unwrap_or_default();
        match version {
            "0.14" => assert!(told.contains("a repair of snapshots needs restic 0.16 or newer"), "{told}"),
            _ => assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}"),
        }
        let (end, _) = bench.run(JobKind::Repair, bench.open_repo(), repair(RepairWhat::Packs)).await;
        let told = end.error.unwrap();
        let wanted = if version == "0.14" { "needs restic 0.17" } else { "names no packs" };
        assert!(told.contains(wanted), "{version}: {told}");
    }
}

#[tokio::test]
async fn a_damaged_pack_is_repaired_and_then_the_snapshots_that_lost_by_it() {
    for version in ["0.18", "0.19"] {
        let mut bench = Bench::new(version);
        bench.snapshots(1).await;
        let data = bench.endpoint.folder.path().join("data/agent1/r/data");
        let packs = fs::read_dir(data).unwrap().flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let largest = packs.map(|file| file.unwrap()).max_by_key(|file| file.metadata().unwrap().len()).unwrap();
        let mut content = fs::read(largest.path()).unwrap();
        content[1000] ^= 0xff;
        fs::remove_file(largest.path()).unwrap();
        fs::write(largest.path(), content).unwrap();
        let packs = vec![largest.file_name().to_str().unwrap().to_owned()];
        let spec = RepairSpec { what: RepairWhat::Packs, packs, ..RepairSpec::default() };
        let pack = largest.file_name().to_str().unwrap().to_owned();
        bench.good::<RepairResult>(JobKind::Repair, bench.open_repo(), Some(Operation::Repair(spec))).await;
        let copy = bench.agent.state.path().join("salvaged-packs").join(format!("pack-{pack}"));
        assert!(
            copy.exists(),
            "{version}: a damaged pack is kept where it can be found, and not where the agent happens to run"
        );
        for dry_run in [true, false] {
            let spec = RepairSpec { what: RepairWhat::Snapshots, forget: true, dry_run, ..RepairSpec::default() };
            let repair = Some(Operation::Repair(spec));
            let (end, _) = bench.good::<RepairResult>(JobKind::Repair, bench.open_repo(), repair).await;
            assert!(end.said.iter().any(|line| line.contains("1 snapshots")), "{version}: {:?}", end.said);
        }
        let (end, _) = bench.run(JobKind::Check, bench.repo(), None).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_dead_server_are_told_before_anything_is_done() {
    let mut bench = Bench::guarded("0.19", &Guard::content());
    bench.snapshots(1).await;
    let prune = || Some(Operation::Prune(PruneSpec::default()));
    let wrong = RepoSpec { password: secret("planted-repo wrong"), ..bench.open_repo() };
    let dead = RepoSpec { url: format!("rest:http://127.0.0.1:{}/r/", free_port()), ..local_repo(Path::new("/")) };
    for (repo, words) in [(wrong, "password is wrong"), (dead, "refuses connections")] {
        for (kind, operation) in [
            (JobKind::Forget, forget(keep(1))),
            (JobKind::Prune, prune()),
            (JobKind::Tag, tags(vec!["abcd1234".to_owned()])),
            (JobKind::Repair, Some(Operation::Repair(RepairSpec::default()))),
            (JobKind::Locks, None),
            (JobKind::Unlock, None),
            (JobKind::Tamper, None),
        ] {
            let (end, memory) = bench.run(kind.clone(), repo.clone(), operation).await;
            assert_eq!(end.status, JobStatus::Failed, "{kind}");
            assert!(end.error.as_ref().unwrap().contains(words), "{kind}: {end:?}\n{}", memory.text());
        }
    }
}
