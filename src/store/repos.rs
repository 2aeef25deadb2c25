//! Repositories in the store. Secrets come and go as one sealed blob that this module never opens; a removed repository keeps its row
//! for the jobs that name it, and loses its secrets.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        RepoId, Timestamp,
        event::Event,
        repo::{Repo, Upkeep},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, parsed_opt, time, time_opt, to_json},
    },
};

const SELECT: &str = "SELECT id, name, url, username, append_only, init, tls_ca_pem, secrets_set, created_at,
    maintenance_host_id, size_limit, check_days, imported FROM repos";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Repo> {
    Ok(Repo {
        id: parsed(row, "id")?,
        name: row.get("name")?,
        url: row.get("url")?,
        username: row.get("username")?,
        append_only: row.get("append_only")?,
        init: row.get("init")?,
        tls_ca_pem: row.get("tls_ca_pem")?,
        secrets_set: json(row, "secrets_set")?,
        created_at: time(row, "created_at")?,
        upkeep: Upkeep {
            maintenance_host_id: parsed_opt(row, "maintenance_host_id")?,
            size_limit: row.get::<_, Option<i64>>("size_limit")?.map(i64::unsigned_abs),
            check_days: row.get("check_days")?,
            imported: row.get("imported")?,
        },
    })
}

/// What can be said of a repository in the open.
#[derive(Debug, Clone, PartialEq)]
pub struct RepoFields {
    /// What people call it; unique without regard to case.
    pub name: String,
    /// restic's address, without credentials.
    pub url: String,
    /// User at a REST server.
    pub username: Option<String>,
    /// Whether the endpoints' credentials can only add.
    pub append_only: bool,
    /// Whether a missing repository may be created.
    pub init: bool,
    /// PEM of the server's authority.
    pub tls_ca_pem: Option<String>,
}

/// Secrets as the vault sealed them for `repos/{id}/secrets`, and the names of those that are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecrets {
    /// The sealed blob.
    pub sealed: Vec<u8>,
    /// Names, for display.
    pub names: Vec<String>,
}

/// Adds a repository.
///
/// # Errors
/// [`StoreError`]; a name that is taken is a conflict ([`StoreError::is_conflict`]).
pub fn insert(
    tx: &mut WriteTx<'_>,
    id: RepoId,
    fields: &RepoFields,
    secrets: &SealedSecrets,
) -> Result<Repo, StoreError> {
    let RepoFields { name, url, username, append_only, init, tls_ca_pem } = fields;
    tx.db()
        .prepare_cached(
            "INSERT INTO repos (id, name, url, username, append_only, init, tls_ca_pem, secrets, secrets_set, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id.to_string(),
            name,
            url,
            username,
            append_only,
            init,
            tls_ca_pem,
            secrets.sealed,
            to_json(&secrets.names)?,
            tx.now().unix_ms(),
        ])?;
    lookup(tx.db(), id)?.ok_or_else(|| StoreError::Corrupt("a repository that was just added is not there".to_owned()))
}

/// Changes a repository. Returns whether there is such a one.
///
/// # Errors
/// [`StoreError`]; a name that is taken is a conflict.
pub fn update(
    tx: &mut WriteTx<'_>,
    id: RepoId,
    fields: &RepoFields,
    secrets: &SealedSecrets,
) -> Result<bool, StoreError> {
    let RepoFields { name, url, username, append_only, init, tls_ca_pem } = fields;
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE repos SET name = ?2, url = ?3, username = ?4, append_only = ?5, init = ?6, tls_ca_pem = ?7, secrets = ?8, secrets_set = ?9,
               known_at = CASE WHEN url = ?3 THEN known_at END
             WHERE id = ?1 AND removed_at IS NULL",
        )?
        .execute(params![
            id.to_string(),
            name,
            url,
            username,
            append_only,
            init,
            tls_ca_pem,
            secrets.sealed,
            to_json(&secrets.names)?,
        ])?;
    // What agents keep for when this server is away holds these credentials.
    tx.publish(Event::Schedules);
    Ok(changed > 0)
}

/// Says who looks after a repository, and how.
///
/// # Errors
/// [`StoreError`]; a host that is not there breaks a foreign key.
pub fn set_upkeep(tx: &mut WriteTx<'_>, id: RepoId, upkeep: &Upkeep) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "UPDATE repos SET maintenance_host_id = ?2, size_limit = ?3, check_days = ?4, imported = ?5
             WHERE id = ?1 AND removed_at IS NULL",
        )?
        .execute(params![
            id.to_string(),
            upkeep.maintenance_host_id.map(|id| id.to_string()),
            upkeep.size_limit.map(u64::cast_signed),
            upkeep.check_days,
            upkeep.imported,
        ])?;
    Ok(())
}

/// A repository that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: RepoId) -> Result<Option<Repo>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?1 AND removed_at IS NULL"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// The sealed secrets of a repository that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn sealed_secrets(db: &Connection, id: RepoId) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = db.prepare_cached("SELECT secrets FROM repos WHERE id = ?1 AND removed_at IS NULL")?;
    Ok(statement.query_row([id.to_string()], |row| row.get(0)).optional()?)
}

/// Repositories that were not removed, by name; those after `after`, at most `limit` (0 for all).
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, after: Option<RepoId>, limit: u32) -> Result<Vec<Repo>, StoreError> {
    let limit = if limit == 0 { -1 } else { i64::from(limit) };
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE removed_at IS NULL
           AND (?1 IS NULL OR (name COLLATE NOCASE, id) > (SELECT name COLLATE NOCASE, id FROM repos WHERE id = ?1))
         ORDER BY name COLLATE NOCASE, id LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![after.map(|id| id.to_string()), limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many repositories there are.
///
/// # Errors
/// [`StoreError`].
pub fn count(db: &Connection) -> Result<u64, StoreError> {
    let n: i64 =
        db.prepare_cached("SELECT count(*) FROM repos WHERE removed_at IS NULL")?.query_row([], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// What backups did to a repository, as far as Flotilla saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// End of the last good backup.
    pub last_good: Option<Timestamp>,
    /// Bytes added in all.
    pub added: u64,
}

/// The usage of each repository that has any.
///
/// # Errors
/// [`StoreError`].
pub fn usage(db: &Connection) -> Result<HashMap<RepoId, Usage>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT repo_id, max(finished_at) FILTER (WHERE status IN ('succeeded', 'warning')) AS last_good,
                sum(coalesce(summary ->> '$.data_added_packed', summary ->> '$.data_added', 0)) AS added
         FROM jobs WHERE kind = 'backup' AND repo_id IS NOT NULL AND finished_at IS NOT NULL GROUP BY repo_id",
    )?;
    let rows = statement.query_map([], |row| {
        let usage = Usage {
            last_good: time_opt(row, "last_good")?,
            added: row.get::<_, Option<i64>>("added")?.map_or(0, i64::unsigned_abs),
        };
        Ok((parsed(row, "repo_id")?, usage))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes a repository from all lists and forgets its secrets. What lies in the repository itself is not touched. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: RepoId) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE repos SET removed_at = ?2, secrets = x'', secrets_set = '[]' WHERE id = ?1 AND removed_at IS NULL",
        )?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, domain::Timestamp, hub::Hub, store::Store};

    fn fields(name: &str) -> RepoFields {
        RepoFields {
            name: name.to_owned(),
            url: "rest:http://vault:8000/r/".to_owned(),
            username: Some("agent".to_owned()),
            append_only: true,
            init: false,
            tls_ca_pem: None,
        }
    }

    fn sealed(byte: u8) -> SealedSecrets {
        SealedSecrets { sealed: vec![byte; 4], names: vec!["password".to_owned()] }
    }

    fn id(n: u128) -> RepoId {
        RepoId::from_parts(1, n)
    }

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path(), Hub::new(), ManualClock::at(Timestamp::from_unix_ms(5))).unwrap()
    }

    async fn add(store: &Store, n: u128, name: &'static str) -> Result<Repo, StoreError> {
        store.write(move |tx| insert(tx, id(n), &fields(name), &sealed(1))).await
    }

    #[tokio::test]
    async fn repositories_list_by_name_page_by_page() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        for (n, name) in [(1, "b"), (2, "C"), (3, "a")] {
            add(&store, n, name).await.unwrap();
        }
        let names = |repos: Vec<Repo>| repos.into_iter().map(|repo| repo.name).collect::<Vec<_>>();
        let page = store.read(|db| list(db, None, 2)).await.unwrap();
        let after = page.last().unwrap().id;
        assert_eq!(names(page), ["a", "b"]);
        assert_eq!(names(store.read(move |db| list(db, Some(after), 2)).await.unwrap()), ["C"]);
    }

    #[tokio::test]
    async fn a_name_is_taken_whatever_its_case_until_its_repository_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        add(&store, 1, "vault").await.unwrap();
        assert!(add(&store, 2, "Vault").await.unwrap_err().is_conflict());
        assert!(store.write(|tx| remove(tx, id(1))).await.unwrap());
        add(&store, 2, "Vault").await.unwrap();
    }

    #[tokio::test]
    async fn a_removed_repository_is_in_no_list_and_its_secrets_are_gone_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        add(&store, 1, "vault").await.unwrap();
        assert_eq!(store.read(|db| sealed_secrets(db, id(1))).await.unwrap(), Some(vec![1; 4]));
        assert!(store.write(|tx| remove(tx, id(1))).await.unwrap());
        assert!(!store.write(|tx| remove(tx, id(1))).await.unwrap(), "removed twice");
        assert_eq!(store.read(|db| lookup(db, id(1))).await.unwrap(), None);
        assert_eq!(store.read(|db| sealed_secrets(db, id(1))).await.unwrap(), None);
        assert_eq!(store.read(count).await.unwrap(), 0);
        let left: Vec<u8> = store
            .read(|db| db.query_row("SELECT secrets FROM repos", [], |row| row.get(0)).map_err(StoreError::from))
            .await
            .unwrap();
        assert!(left.is_empty());
    }

    #[tokio::test]
    async fn a_change_replaces_what_is_open_and_what_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        add(&store, 1, "vault").await.unwrap();
        let next = RepoFields { init: true, username: None, ..fields("vault 2") };
        assert!(store.write(move |tx| update(tx, id(1), &next, &sealed(9))).await.unwrap());
        let repo = store.read(|db| lookup(db, id(1))).await.unwrap().unwrap();
        assert_eq!((repo.name.as_str(), repo.init, repo.username), ("vault 2", true, None));
        assert_eq!(store.read(|db| sealed_secrets(db, id(1))).await.unwrap(), Some(vec![9; 4]));
        assert!(!store.write(|tx| update(tx, id(7), &fields("x"), &sealed(1))).await.unwrap());
    }
}
