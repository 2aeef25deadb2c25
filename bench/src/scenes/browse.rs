//! Looking into repositories: the list of 10,000 snapshots (all of it, and each page that shows some of it), and a folder of 100,000 entries from the cache (its
//! first page, a page deep in it, a search by name), beside a bare read of the same rows.

use anyhow::Context as _;
use flotilla::{
    domain::{RepoId, snapshot::SnapshotNo},
    store::{
        snapshots::{self, SnapshotFilter},
        trees,
    },
};
use http::Method;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use crate::{
    api::Api,
    measure::{median, micros},
    scenes::Plan,
    server::{Server, Wanted},
    table::{Goal, Row, Table},
};

/// Entries of one page.
const PAGE: u32 = 100;

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let (count, entries) = (plan.size(10_000, 50), plan.size(100_000, 50));
    let server = Server::start(Wanted { hosts: 1, tls: false })?;
    let db = server.database()?;
    let repo = RepoId::from_parts(1, 1);
    fill(db.path().context("a file")?, repo, count, entries)?;
    let bare = lists(&db, repo, count, table)?;
    folder(&db, entries, table)?;
    let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
    whole_list(&mut api, repo, (count, bare), table).await?;
    over_http(&mut api, repo, count, table).await
}

fn id(n: u32) -> String {
    format!("{n:064x}")
}

/// Writes the rows as the librarian does, beside a server that has nothing to do.
fn fill(path: &str, repo: RepoId, count: u32, entries: u32) -> anyhow::Result<()> {
    let mut db = Connection::open(path)?;
    let tx = db.transaction()?;
    {
        tx.execute(
            "INSERT INTO repos (id, name, url, append_only, init, secrets, secrets_set, created_at) VALUES (?1, 'browsed', '/nowhere', 0, 0, x'', '[]', 1)",
            [repo.to_string()],
        )?;
        let mut snapshot = tx.prepare(
            "INSERT INTO snapshots (repo_id, id, time, hostname, paths, tags, files, bytes, added, first_seen_at)
             VALUES (?1, ?2, ?3, ?4, '[\"/etc\",\"/home\",\"/srv/www\"]', '[\"flotilla\",\"job-01JD0000000000000000000000\",\"nightly\"]', 21977, 3200000000, 12400000, ?3)",
        )?;
        for n in 0..count {
            let time = 1_700_000_000_000_i64 + i64::from(n) * 60_000;
            snapshot.execute(params![repo.to_string(), id(n), time, format!("host-{}", n % 50)])?;
        }
        tx.execute(
            "INSERT INTO tree_folders (no, snapshot_no, path, job_id, entries, used_at) VALUES (1, 1, '/big', '01JD0000000000000000000000', ?1, 9000000000000)",
            [entries],
        )?;
        let mut node = tx.prepare(
            "INSERT INTO tree_nodes (folder_no, sort, name, kind, size, mtime, mode, owner) VALUES (1, 1, ?1, 'file', ?2, 1700000000000, '-rw-r--r--', 'root:root')",
        )?;
        for n in 0..entries {
            node.execute(params![format!("document-{n:06}.txt"), n])?;
        }
    }
    tx.commit()?;
    // As it lies in a server at rest: not in the log of what was written last, where each page is searched for.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Microseconds of one call, warm.
fn timed(mut call: impl FnMut() -> anyhow::Result<usize>, expected: usize) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..31 {
        let start = Instant::now();
        let found = call()?;
        times.push(micros(start.elapsed()));
        anyhow::ensure!(found == expected, "{found} rows instead of {expected}");
    }
    Ok(median(&times))
}

/// Steps through the rows of a statement and touches every column.
fn bare(db: &Connection, sql: &str) -> anyhow::Result<usize> {
    let mut statement = db.prepare_cached(sql)?;
    let columns = statement.column_count();
    let (mut rows, mut found, mut bytes) = (statement.query([])?, 0, 0);
    while let Some(row) = rows.next()? {
        found += 1;
        for column in 0..columns {
            bytes += row.get_ref(column)?.as_str().map_or(8, str::len);
        }
    }
    anyhow::ensure!(bytes > 0 || found == 0, "rows without content");
    Ok(found)
}

/// Gives the time of the bare read.
fn lists(db: &Connection, repo: RepoId, count: u32, table: &mut Table) -> anyhow::Result<f64> {
    let whole = |after: Option<SnapshotNo>| SnapshotFilter {
        repo_id: Some(repo),
        after,
        limit: 1000,
        ..SnapshotFilter::default()
    };
    let product = timed(
        || {
            let (mut found, mut after) = (0, None);
            loop {
                let page = snapshots::list(db, &whole(after))?;
                found += page.len();
                match page.last().filter(|_| page.len() == 1000) {
                    Some(last) => after = Some(last.no),
                    None => return Ok(found),
                }
            }
        },
        count as usize,
    )?;
    let sql =
        format!("SELECT * FROM snapshots WHERE repo_id = '{repo}' AND gone_at IS NULL ORDER BY time DESC, no DESC");
    let floor = timed(|| bare(db, &sql), count as usize)?;
    let name = format!("list of {count} snapshots, all of it in pages of 1000");
    table.add(Row { name, product, floor: Some(floor), unit: "us", goal: Goal::AtMost(50_000.0) });
    Ok(floor)
}

fn folder(db: &Connection, entries: u32, table: &mut Table) -> anyhow::Result<()> {
    let deep = entries / 10 * 9;
    let key: trees::NodeKey =
        format!("1.0.document-{deep:06}.txt").parse().map_err(|()| anyhow::anyhow!("a place in the folder"))?;
    let wanted = format!("{:06}", entries - 1);
    let page = PAGE as usize;
    let mut add = |what: &str, product, floor| {
        let name = format!("folder of {entries} entries from cache, {what}");
        table.add(Row { name, product, floor: Some(floor), unit: "us", goal: Goal::AtMost(100_000.0) });
    };
    let rows = |condition: &str| {
        format!("SELECT * FROM tree_nodes WHERE folder_no = 1 {condition} ORDER BY sort, name, twin LIMIT {PAGE}")
    };
    let first = timed(|| Ok(trees::page(db, 1, None, "", PAGE)?.len()), page)?;
    add("first page", first, timed(|| bare(db, &rows("")), page)?);
    let later = timed(|| Ok(trees::page(db, 1, Some(&key), "", PAGE)?.len()), page)?;
    let condition = format!("AND (sort, name, twin) > (1, 'document-{deep:06}.txt', 0)");
    add("page at 90 %", later, timed(|| bare(db, &rows(&condition)), page)?);
    let search = timed(|| Ok(trees::page(db, 1, None, &wanted, PAGE)?.len()), 1)?;
    add(
        "search by name, one match at the end",
        search,
        timed(|| bare(db, &rows(&format!("AND instr(name, '{wanted}')"))), 1)?,
    );
    Ok(())
}

/// All snapshots as a program fetches them: page by page, each by the `next` of the one before.
async fn whole_list(api: &mut Api, repo: RepoId, (count, bare): (u32, f64), table: &mut Table) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Page {
        items: Vec<serde::de::IgnoredAny>,
        next: Option<String>,
    }
    let (mut times, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let (mut found, mut after, mut spent) = (0, String::new(), 0.0);
        loop {
            let start = Instant::now();
            let body =
                api.ask(Method::GET, &format!("/api/repos/{repo}/snapshots?limit=1000{after}"), String::new()).await?;
            let took = micros(start.elapsed());
            spent += took;
            alone.push(took);
            // What the client does with it is not the server's time.
            let page: Page = serde_json::from_slice(&body)?;
            found += page.items.len();
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        anyhow::ensure!(found == count as usize, "{found} snapshots instead of {count}");
        times.push(spent);
    }
    let goal = Goal::AtMost(50_000.0);
    let name = format!("GET snapshots, all {count} in pages of 1000");
    table.add(Row { name, product: median(&times), floor: Some(bare), unit: "us", goal });
    let name = format!("GET snapshots, a page of 1000 of {count}");
    table.add(Row { name, product: median(&alone), floor: None, unit: "us", goal });
    Ok(())
}

async fn over_http(api: &mut Api, repo: RepoId, count: u32, table: &mut Table) -> anyhow::Result<()> {
    let snapshot = id(0);
    let deep = count / 10;
    let requests = [
        (format!("page of a repository's {count} snapshots"), format!("/repos/{repo}/snapshots"), 50_000.0),
        (
            format!("page of a repository's {count} snapshots, at 90 %"),
            format!("/repos/{repo}/snapshots?after={deep}"),
            50_000.0,
        ),
        (
            format!("page of a repository's {count} snapshots, by path and tag"),
            format!("/repos/{repo}/snapshots?path=/srv/www/html&tag=nightly"),
            50_000.0,
        ),
        (format!("page of the restore wizard, {count} snapshots"), "/restore".to_owned(), 50_000.0),
        (
            "GET tree, first page".to_owned(),
            format!("/api/repos/{repo}/snapshots/{snapshot}/tree?path=/big"),
            100_000.0,
        ),
        (
            "GET tree, search by name".to_owned(),
            format!("/api/repos/{repo}/snapshots/{snapshot}/tree?path=/big&q=99.txt"),
            100_000.0,
        ),
        (
            "page of a snapshot with the folder".to_owned(),
            format!("/repos/{repo}/snapshots/{snapshot}?path=/big"),
            100_000.0,
        ),
    ];
    for (name, path, goal) in requests {
        let mut times = Vec::new();
        for _ in 0..31 {
            let start = Instant::now();
            let body = api.ask(Method::GET, &path, String::new()).await?;
            times.push(micros(start.elapsed()));
            anyhow::ensure!(body.len() > 100, "an answer that holds next to nothing");
        }
        table.add(Row { name, product: median(&times), floor: None, unit: "us", goal: Goal::AtMost(goal) });
    }
    Ok(())
}
