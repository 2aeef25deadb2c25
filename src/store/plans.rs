//! Plans in the store, with the hosts that they name. A removed plan keeps its row for the jobs that name it, and covers nobody.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{Hook, HostId, KeepRules, PlanId, PlanOptions, RepoId, event::Event, plan::Plan, schedule::Standing},
    store::{
        StoreError, WriteTx,
        rows::{json, json_opt, parsed, parsed_opt, time, to_json},
    },
};

const SELECT: &str = "SELECT p.*, r.name AS repo_name, s.name AS second_repo_name,
        (SELECT json_group_array(ph.host_id ORDER BY ph.host_id) FROM plan_hosts ph WHERE ph.plan_id = p.id) AS hosts
    FROM plans p JOIN repos r ON r.id = p.repo_id LEFT JOIN repos s ON s.id = p.second_repo_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Plan> {
    Ok(Plan {
        id: parsed(row, "id")?,
        name: row.get("name")?,
        repo_id: parsed(row, "repo_id")?,
        repo_name: row.get("repo_name")?,
        second_repo: parsed_opt(row, "second_repo_id")?.zip(row.get("second_repo_name")?),
        hosts: json(row, "hosts")?,
        tags: json(row, "tags")?,
        paths: json(row, "paths")?,
        excludes: json(row, "excludes")?,
        options: json(row, "options")?,
        hooks: json(row, "hooks")?,
        retention: json(row, "retention")?,
        schedule: json_opt(row, "schedule")?,
        created_at: time(row, "created_at")?,
    })
}

/// What a plan says.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFields {
    /// What people call it; unique without regard to case.
    pub name: String,
    /// Where to.
    pub repo_id: RepoId,
    /// Where each snapshot is copied to.
    pub second_repo_id: Option<RepoId>,
    /// Hosts named one by one.
    pub hosts: Vec<HostId>,
    /// Hosts with one of these tags are covered too.
    pub tags: Vec<String>,
    /// What.
    pub paths: Vec<String>,
    /// What not.
    pub excludes: Vec<String>,
    /// How.
    pub options: PlanOptions,
    /// Commands around it.
    pub hooks: Vec<Hook>,
    /// What is kept.
    pub retention: KeepRules,
    /// When.
    pub schedule: Option<Standing>,
}

/// Adds a plan.
///
/// # Errors
/// [`StoreError`]; a name that is taken is a conflict; a repository or host that is not there breaks a foreign key.
pub fn insert(tx: &mut WriteTx<'_>, id: PlanId, fields: &PlanFields) -> Result<Plan, StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO plans (id, name, repo_id, tags, paths, excludes, options, retention, created_at, schedule, hooks,
                                second_repo_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            id.to_string(),
            fields.name,
            fields.repo_id.to_string(),
            to_json(&fields.tags)?,
            to_json(&fields.paths)?,
            to_json(&fields.excludes)?,
            to_json(&fields.options)?,
            to_json(&fields.retention)?,
            tx.now().unix_ms(),
            fields.schedule.as_ref().map(to_json).transpose()?,
            to_json(&fields.hooks)?,
            fields.second_repo_id.map(|id| id.to_string()),
        ])?;
    name_hosts(tx, id, &fields.hosts)?;
    tx.publish(Event::Schedules);
    lookup(tx.db(), id)?.ok_or_else(|| StoreError::Corrupt("a plan that was just added is not there".to_owned()))
}

/// Changes a plan. Returns whether there is such a one.
///
/// # Errors
/// As [`insert`].
pub fn update(tx: &mut WriteTx<'_>, id: PlanId, fields: &PlanFields) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE plans SET name = ?2, repo_id = ?3, tags = ?4, paths = ?5, excludes = ?6, options = ?7, retention = ?8, schedule = ?9,
                              hooks = ?10, second_repo_id = ?11
             WHERE id = ?1 AND removed_at IS NULL",
        )?
        .execute(params![
            id.to_string(),
            fields.name,
            fields.repo_id.to_string(),
            to_json(&fields.tags)?,
            to_json(&fields.paths)?,
            to_json(&fields.excludes)?,
            to_json(&fields.options)?,
            to_json(&fields.retention)?,
            fields.schedule.as_ref().map(to_json).transpose()?,
            to_json(&fields.hooks)?,
            fields.second_repo_id.map(|id| id.to_string()),
        ])?;
    if changed > 0 {
        name_hosts(tx, id, &fields.hosts)?;
        tx.publish(Event::Schedules);
    }
    Ok(changed > 0)
}

fn name_hosts(tx: &mut WriteTx<'_>, id: PlanId, hosts: &[HostId]) -> Result<(), StoreError> {
    let key = id.to_string();
    tx.db().prepare_cached("DELETE FROM plan_hosts WHERE plan_id = ?1")?.execute([&key])?;
    let mut add = tx.db().prepare_cached("INSERT OR IGNORE INTO plan_hosts (plan_id, host_id) VALUES (?1, ?2)")?;
    for host in hosts {
        add.execute([&key, &host.to_string()])?;
    }
    Ok(())
}

/// A plan that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: PlanId) -> Result<Option<Plan>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE p.id = ?1 AND p.removed_at IS NULL"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// Plans that were not removed, by name; those after `after`, at most `limit` (0 for all).
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, after: Option<PlanId>, limit: u32) -> Result<Vec<Plan>, StoreError> {
    let limit = if limit == 0 { -1 } else { i64::from(limit) };
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE p.removed_at IS NULL
           AND (?1 IS NULL OR (p.name COLLATE NOCASE, p.id) > (SELECT name COLLATE NOCASE, id FROM plans WHERE id = ?1))
         ORDER BY p.name COLLATE NOCASE, p.id LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![after.map(|id| id.to_string()), limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Plans that cover a host of this id and these tags, by name.
///
/// # Errors
/// [`StoreError`].
pub fn covering(db: &Connection, host: HostId, tags: &[String]) -> Result<Vec<Plan>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE p.removed_at IS NULL
           AND (EXISTS (SELECT 1 FROM plan_hosts ph WHERE ph.plan_id = p.id AND ph.host_id = ?1)
                OR EXISTS (SELECT 1 FROM json_each(p.tags) own JOIN json_each(?2) given ON own.value = given.value))
         ORDER BY p.name COLLATE NOCASE, p.id"
    ))?;
    let rows = statement.query_map(params![host.to_string(), to_json(&tags)?], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Plans that back up to a repository, by name.
///
/// # Errors
/// [`StoreError`].
pub fn using_repo(db: &Connection, repo: RepoId) -> Result<Vec<Plan>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE p.removed_at IS NULL AND p.repo_id = ?1 ORDER BY p.name COLLATE NOCASE, p.id"
    ))?;
    let rows = statement.query_map([repo.to_string()], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Plans that have a schedule and were not removed.
///
/// # Errors
/// [`StoreError`].
pub fn scheduled(db: &Connection) -> Result<Vec<Plan>, StoreError> {
    let mut statement =
        db.prepare_cached(&format!("{SELECT} WHERE p.removed_at IS NULL AND p.schedule IS NOT NULL ORDER BY p.id"))?;
    let rows = statement.query_map([], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Identity, name and repository of every plan that ever was, for what ran by one that is gone.
///
/// # Errors
/// [`StoreError`].
pub fn of_all_times(db: &Connection) -> Result<Vec<(PlanId, String, RepoId)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id, name, repo_id FROM plans")?;
    let rows = statement.query_map([], |row| Ok((parsed(row, "id")?, row.get("name")?, parsed(row, "repo_id")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many plans there are.
///
/// # Errors
/// [`StoreError`].
pub fn count(db: &Connection) -> Result<u64, StoreError> {
    let n: i64 =
        db.prepare_cached("SELECT count(*) FROM plans WHERE removed_at IS NULL")?.query_row([], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// Removes a plan from all lists; it covers nobody any more. Its jobs stay. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: PlanId) -> Result<bool, StoreError> {
    tx.db().prepare_cached("DELETE FROM plan_hosts WHERE plan_id = ?1")?.execute([id.to_string()])?;
    let changed = tx
        .db()
        .prepare_cached("UPDATE plans SET removed_at = ?2 WHERE id = ?1 AND removed_at IS NULL")?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    tx.publish(Event::Schedules);
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        domain::Timestamp,
        hub::Hub,
        store::{
            Store, hosts,
            repos::{self, RepoFields, SealedSecrets},
        },
    };

    const REPO: u128 = 1;

    fn plan_id(n: u128) -> PlanId {
        PlanId::from_parts(1, n)
    }

    fn host_id(n: u128) -> HostId {
        HostId::from_parts(1, n)
    }

    fn fields(name: &str, hosts: &[u128], tags: &[&str]) -> PlanFields {
        PlanFields {
            name: name.to_owned(),
            repo_id: RepoId::from_parts(1, REPO),
            second_repo_id: Some(RepoId::from_parts(1, REPO)),
            hosts: hosts.iter().map(|n| host_id(*n)).collect(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            paths: vec!["/etc".to_owned()],
            excludes: vec!["*.tmp".to_owned()],
            options: PlanOptions { one_file_system: true, ..PlanOptions::default() },
            hooks: serde_json::from_str(r#"[{"at": "before", "run": "pg"}]"#).unwrap(),
            retention: KeepRules { keep_daily: Some(7), ..KeepRules::default() },
            schedule: None,
        }
    }

    async fn store(dir: &tempfile::TempDir) -> Store {
        let store = Store::open(dir.path(), Hub::new(), ManualClock::at(Timestamp::from_unix_ms(5))).unwrap();
        store
            .write(|tx| {
                let repo = RepoFields {
                    name: "vault".to_owned(),
                    url: "/srv/r".to_owned(),
                    username: None,
                    append_only: false,
                    init: true,
                    tls_ca_pem: None,
                };
                repos::insert(
                    tx,
                    RepoId::from_parts(1, REPO),
                    &repo,
                    &SealedSecrets { sealed: vec![1], names: vec![] },
                )?;
                for n in [1, 2] {
                    let host = hosts::NewHost {
                        id: host_id(n),
                        name: format!("web-{n}"),
                        tags: vec!["web".to_owned()],
                        token_hash: None,
                        enrol_token: None,
                        facts: hosts::Facts::default(),
                    };
                    hosts::insert(tx, &host)?;
                }
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        store
    }

    fn names(plans: Vec<Plan>) -> Vec<String> {
        plans.into_iter().map(|plan| plan.name).collect()
    }

    #[tokio::test]
    async fn a_plan_comes_back_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let given = fields("nightly", &[2, 1], &["web"]);
        let copy = given.clone();
        let plan = store.write(move |tx| insert(tx, plan_id(1), &copy)).await.unwrap();
        assert_eq!(plan.hosts, [host_id(1), host_id(2)]);
        assert_eq!((plan.repo_name.as_str(), plan.paths, plan.excludes), ("vault", given.paths, given.excludes));
        assert_eq!((plan.options, plan.retention), (given.options, given.retention));
        assert_eq!((plan.hooks[0].timeout_s, plan.hooks), (300, given.hooks));
        assert_eq!(plan.second_repo, Some((RepoId::from_parts(1, REPO), "vault".to_owned())));
    }

    #[tokio::test]
    async fn a_host_is_covered_by_the_plans_that_name_it_and_those_of_its_tags() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        store
            .write(|tx| {
                insert(tx, plan_id(1), &fields("by host", &[1], &[]))?;
                insert(tx, plan_id(2), &fields("by tag", &[], &["db", "web"]))?;
                insert(tx, plan_id(3), &fields("both", &[1], &["web"]))?;
                insert(tx, plan_id(4), &fields("neither", &[2], &["db"]))
            })
            .await
            .unwrap();
        let of = |host: u128, tags: &'static [&str]| {
            let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let store = &store;
            async move { names(store.read(move |db| covering(db, host_id(host), &tags)).await.unwrap()) }
        };
        assert_eq!(of(1, &["web"]).await, ["both", "by host", "by tag"]);
        assert_eq!(of(1, &[]).await, ["both", "by host"]);
        assert_eq!(of(9, &["web"]).await, ["both", "by tag"]);
        assert!(of(9, &["we"]).await.is_empty(), "a part of a tag is no tag");
        // The store and the domain agree.
        for plan in store.read(|db| list(db, None, 0)).await.unwrap() {
            let tags = ["web".to_owned()];
            assert_eq!(plan.covers(host_id(1), &tags), plan.name != "neither", "{}", plan.name);
        }
    }

    #[tokio::test]
    async fn a_removed_plan_covers_nobody_and_frees_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        store.write(|tx| insert(tx, plan_id(1), &fields("nightly", &[1], &["web"]))).await.unwrap();
        assert!(
            store.write(|tx| insert(tx, plan_id(2), &fields("Nightly", &[1], &[]))).await.unwrap_err().is_conflict()
        );
        assert!(store.write(|tx| remove(tx, plan_id(1))).await.unwrap());
        assert!(store.read(|db| covering(db, host_id(1), &["web".to_owned()])).await.unwrap().is_empty());
        assert!(store.read(|db| using_repo(db, RepoId::from_parts(1, REPO))).await.unwrap().is_empty());
        assert_eq!(store.read(|db| lookup(db, plan_id(1))).await.unwrap(), None);
        store.write(|tx| insert(tx, plan_id(2), &fields("Nightly", &[1], &[]))).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_replaces_the_hosts_that_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        store.write(|tx| insert(tx, plan_id(1), &fields("nightly", &[1], &[]))).await.unwrap();
        assert!(store.write(|tx| update(tx, plan_id(1), &fields("nightly", &[2], &[]))).await.unwrap());
        let plan = store.read(|db| lookup(db, plan_id(1))).await.unwrap().unwrap();
        assert_eq!(plan.hosts, [host_id(2)]);
        assert!(!store.write(|tx| update(tx, plan_id(9), &fields("x", &[], &[]))).await.unwrap());
        assert_eq!(store.read(count).await.unwrap(), 1);
    }
}
