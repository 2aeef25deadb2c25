//! Locks of a real repository: who holds them is told, a dead one's goes, a living one's stays and the job says why.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/upkeep.rs"]
#[expect(dead_code, reason = "locks need no guard")]
mod upkeep;

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use flotilla_proto::{JobKind, JobStatus, LockRecord, LocksResult, Operation, Record, UnlockResult, UnlockSpec};
use harness::{Memory, REPO_PASSWORD, noise, poll, restic, versions};
use upkeep::{Bench, records, result};

/// A restic of nobody's job, at work.
struct Stranger {
    child: Child,
}

impl Stranger {
    /// Until there are so many locks.
    fn start(bench: &Bench, locks: usize) -> Self {
        fs::write(bench.source(), noise(8 << 20, 5)).unwrap();
        let child = Command::new(restic(bench.version))
            .args(["backup", "--quiet", "--no-cache", "--limit-upload=100", "--host=stranger"])
            .arg(bench.source())
            .env("RESTIC_REPOSITORY", bench.endpoint.folder.path().join("data/agent1/r"))
            .env("RESTIC_PASSWORD", REPO_PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        poll("the stranger has its lock", || bench.endpoint.locks("r") == locks);
        Self { child }
    }

    /// The same on a host of another name.
    fn elsewhere(bench: &Bench) -> Self {
        fs::write(bench.source(), noise(8 << 20, 6)).unwrap();
        let before = bench.endpoint.locks("r");
        let child = Command::new("unshare")
            .args(["-Ur", "--uts", "sh", "-c", "hostname elsewhere; exec \"$@\"", "restic"])
            .arg(restic(bench.version))
            .args(["backup", "--quiet", "--no-cache", "--limit-upload=100"])
            .arg(bench.source())
            .env("RESTIC_REPOSITORY", bench.endpoint.folder.path().join("data/agent1/r"))
            .env("RESTIC_PASSWORD", REPO_PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        poll("the other host's lock", || bench.endpoint.locks("r") == before + 1);
        Self { child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn locks(memory: &Memory) -> Vec<LockRecord> {
    let lock = |record| if let Record::Lock(lock) = record { Some(lock) } else { None };
    records(memory).into_iter().filter_map(lock).collect()
}

#[tokio::test]
async fn a_living_restics_lock_is_shown_and_stays_and_a_killed_ones_goes() {
    for version in versions() {
        let mut bench = Bench::new(version);
        bench.snapshots(1).await;
        let mut stranger = Stranger::start(&bench, 1);
        let (end, memory) = bench.good::<LocksResult>(JobKind::Locks, bench.repo(), None).await;
        assert_eq!(end.count, 1);
        let lock = &locks(&memory)[0];
        assert_eq!((lock.pid, lock.alive, lock.exclusive), (stranger.child.id(), Some(true), false), "{version}");
        assert!(lock.id.len() == 64 && lock.time.is_some() && !lock.hostname.is_empty());

        let (end, _) = bench.run(JobKind::Unlock, bench.repo(), None).await;
        assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}");
        let told = end.error.clone().unwrap();
        assert!(told.contains(&format!("process {} of this host", stranger.child.id())), "{version}: {told}");
        assert!(told.contains("lives"), "{version}: {told}");
        assert_eq!((result::<UnlockResult>(&end).kept.len(), bench.endpoint.locks("r")), (1, 1));

        stranger.kill();
        let (_, memory) = bench.good::<LocksResult>(JobKind::Locks, bench.repo(), None).await;
        assert_eq!(locks(&memory)[0].alive, Some(false), "{version}");
        let (end, _) = bench.good::<UnlockResult>(JobKind::Unlock, bench.repo(), None).await;
        assert!(end.removed[0].reason.contains("is gone"), "{version}: {end:?}");
        assert_eq!((end.removed.len(), end.kept.len(), bench.endpoint.locks("r")), (1, 0, 0));
        let (end, _) = bench.good::<UnlockResult>(JobKind::Unlock, bench.repo(), None).await;
        assert_eq!(end, UnlockResult::default(), "nothing to do is no failure");
    }
}

#[tokio::test]
async fn another_hosts_lock_goes_only_where_that_hosts_agent_has_proven_its_owner_dead_and_never_with_a_living_one() {
    for version in versions() {
        let mut bench = Bench::new(version);
        bench.snapshots(1).await;
        Stranger::elsewhere(&bench).kill();
        let (_, memory) = bench.good::<LocksResult>(JobKind::Locks, bench.repo(), None).await;
        let theirs = locks(&memory).remove(0);
        assert_eq!((theirs.hostname.as_str(), theirs.alive), ("elsewhere", None), "nobody here can tell");

        let (end, _) = bench.run(JobKind::Unlock, bench.repo(), None).await;
        let told = end.error.unwrap();
        assert!(
            end.status == JobStatus::Failed && told.contains("nobody has proven that it is dead"),
            "{version}: {told}"
        );
        assert_eq!(bench.endpoint.locks("r"), 1);

        // restic can take away all or none of what it does not judge itself.
        let mut living = Stranger::start(&bench, 2);
        let proof = || Some(Operation::Unlock(UnlockSpec { proven_dead: vec![theirs.id.clone()] }));
        let (end, _) = bench.run(JobKind::Unlock, bench.repo(), proof()).await;
        assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}");
        let kept = result::<UnlockResult>(&end).kept;
        assert!(kept.iter().any(|lock| lock.reason.contains("without others that must stay")), "{version}: {kept:?}");
        assert_eq!((kept.len(), bench.endpoint.locks("r")), (2, 2));

        living.kill();
        let (end, _) = bench.good::<UnlockResult>(JobKind::Unlock, bench.repo(), proof()).await;
        let reasons: Vec<&str> = end.removed.iter().map(|lock| lock.reason.as_str()).collect();
        assert!(reasons.iter().any(|why| why.contains("the agent of elsewhere found that process")), "{reasons:?}");
        assert_eq!((end.removed.len(), end.kept.len(), bench.endpoint.locks("r")), (2, 0, 0), "{version}");
    }
}
