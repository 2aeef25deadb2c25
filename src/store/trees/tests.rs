use super::*;
use crate::{
    clock::ManualClock,
    domain::{RepoId, Timestamp},
    hub::Hub,
    store::{
        Store,
        repos::{self, RepoFields, SealedSecrets},
    },
};

struct Bench {
    store: Store,
    clock: std::sync::Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

const SNAPSHOT: SnapshotNo = SnapshotNo(1);

fn job(n: u128) -> JobId {
    JobId::from_parts(1, n)
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000));
    let store = Store::open(dir.path(), Hub::new(), clock.clone()).unwrap();
    store
        .write(|tx| {
            let fields = RepoFields {
                name: "vault".to_owned(),
                url: "/srv/r".to_owned(),
                username: None,
                append_only: false,
                init: true,
                tls_ca_pem: None,
            };
            let repo = RepoId::from_parts(1, 1);
            repos::insert(tx, repo, &fields, &SealedSecrets { sealed: vec![1], names: vec![] })?;
            tx.db().execute(
                "INSERT INTO snapshots (no, repo_id, id, time, hostname, paths, first_seen_at) VALUES (1, ?1, 'x', 1, 'h', '[]', 1)",
                [repo.to_string()],
            )?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    Bench { store, clock, _dir: dir }
}

fn node(name: &str, kind: NodeKind) -> NodeRecord {
    NodeRecord { name: name.to_owned(), kind, size: Some(7), ..NodeRecord::default() }
}

impl Bench {
    async fn fill(&self, path: &'static str, nodes: Vec<NodeRecord>) -> i64 {
        let folder = self.store.write(move |tx| order(tx, SNAPSHOT, path, job(1))).await.unwrap().unwrap();
        let (no, entries) = (folder.no, nodes.len() as u64);
        self.store.write(move |tx| fill(tx, no, &nodes)).await.unwrap();
        self.store.write(move |tx| finish(tx, no, entries)).await.unwrap();
        no
    }

    async fn names(&self, folder: i64, after: Option<NodeKey>, wanted: &'static str, limit: u32) -> Vec<String> {
        let found = self.store.read(move |db| page(db, folder, after.as_ref(), wanted, limit)).await.unwrap();
        found.into_iter().map(|entry| entry.node.name).collect()
    }

    async fn has(&self, path: &'static str) -> bool {
        let found = self.store.read(move |db| folder(db, SNAPSHOT, path)).await.unwrap();
        found.is_some_and(|folder| folder.entries.is_some())
    }
}

#[tokio::test]
async fn folders_come_first_then_names_and_pages_follow_each_other() {
    let bench = bench().await;
    let nodes = vec![
        node("b", NodeKind::File),
        node("a.b", NodeKind::Symlink),
        node("z", NodeKind::Dir),
        node("line\nbreak", NodeKind::File),
    ];
    let folder = bench.fill("/etc", nodes).await;
    assert_eq!(bench.names(folder, None, "", 10).await, ["z", "a.b", "b", "line\nbreak"]);
    let first = bench.store.read(move |db| page(db, folder, None, "", 2)).await.unwrap();
    let after: NodeKey = first[1].key.to_string().parse().unwrap();
    assert_eq!(after, first[1].key, "a place goes through an address and back");
    assert_eq!(bench.names(folder, Some(after), "", 10).await, ["b", "line\nbreak"]);
}

#[tokio::test]
async fn a_name_is_found_by_a_part_of_it_and_no_letter_of_it_is_special() {
    let bench = bench().await;
    let nodes = ["100%", "100a", "Nginx.conf", "a_b", "axb", "c\\d"].map(|name| node(name, NodeKind::File));
    let folder = bench.fill("/", nodes.to_vec()).await;
    assert_eq!(bench.names(folder, None, "0%", 10).await, ["100%"]);
    assert_eq!(bench.names(folder, None, "nginx", 10).await, ["Nginx.conf"]);
    assert_eq!(bench.names(folder, None, "a_b", 10).await, ["a_b"]);
    assert_eq!(bench.names(folder, None, "\\", 10).await, ["c\\d"]);
}

#[tokio::test]
async fn entries_that_are_shown_under_one_name_are_all_kept() {
    let bench = bench().await;
    let folder = bench.fill("/", vec![node("\u{FFFD}", NodeKind::File); 3]).await;
    assert_eq!(bench.names(folder, None, "", 10).await.len(), 3);
    let first = bench.store.read(move |db| page(db, folder, None, "", 1)).await.unwrap();
    assert_eq!(bench.names(folder, Some(first[0].key.clone()), "", 10).await.len(), 2);
}

#[tokio::test]
async fn a_filling_that_was_cut_off_is_cleared_and_begun_anew() {
    let bench = bench().await;
    let ordered = bench.store.write(|tx| order(tx, SNAPSHOT, "/etc", job(1))).await.unwrap().unwrap();
    bench.store.write(move |tx| fill(tx, ordered.no, &[node("half", NodeKind::File)])).await.unwrap();
    assert!(!bench.has("/etc").await);
    let again = bench.store.write(|tx| order(tx, SNAPSHOT, "/etc", job(2))).await.unwrap().unwrap();
    assert_eq!((again.no, again.job_id), (ordered.no, job(2)));
    assert!(!bench.store.write(move |tx| clear_step(tx, again.no)).await.unwrap());
    assert_eq!(bench.names(again.no, None, "", 10).await, [""; 0]);
    bench.store.write(move |tx| finish(tx, again.no, 0)).await.unwrap();
    assert!(bench.has("/etc").await);
    assert_eq!(bench.store.write(|tx| order(tx, SNAPSHOT, "/etc", job(3))).await.unwrap(), None, "it never changes");
}

#[tokio::test]
async fn the_folder_that_was_looked_at_the_longest_ago_goes_first_and_wholly() {
    let bench = bench().await;
    let many = |n: usize| (0..n).map(|i| node(&format!("f{i}"), NodeKind::File)).collect::<Vec<_>>();
    let old = bench.fill("/old", many(STEP + 500)).await;
    bench.clock.advance(10);
    bench.fill("/new", many(100)).await;
    bench.clock.advance(10);
    bench.store.write(move |tx| touch(tx, old)).await.unwrap();
    bench.clock.advance(10);
    bench.fill("/newest", many(100)).await;
    let evict = async |bound: u64| {
        let mut steps = 0;
        while bench.store.write(move |tx| evict_step(tx, bound)).await.unwrap() {
            steps += 1;
        }
        steps
    };
    assert_eq!(evict(3_000).await, 0);
    evict(2_650).await;
    assert_eq!((bench.has("/old").await, bench.has("/new").await, bench.has("/newest").await), (true, false, true));
    assert!(evict(200).await >= 3, "one step makes it unseen, then its entries go in steps");
    assert_eq!((bench.has("/old").await, bench.has("/newest").await), (false, true));
    let left: i64 = bench
        .store
        .read(|db| Ok::<_, StoreError>(db.query_row("SELECT count(*) FROM tree_nodes", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(left, 100);
}
