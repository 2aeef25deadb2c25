//! Alerts in the store. While one is open, its kind and subject are its key, so that raising is idempotent; cleared ones stay as history.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::alert::{Alert, AlertKind, Notice},
    store::{
        StoreError, WriteTx,
        rows::{parsed, time, time_opt},
    },
};

fn from_row(row: &Row<'_>) -> rusqlite::Result<Alert> {
    Ok(Alert {
        no: row.get("no")?,
        notice: Notice {
            kind: parsed(row, "kind")?,
            subject: row.get("subject")?,
            title: row.get("title")?,
            detail: row.get("detail")?,
            link: row.get("link")?,
        },
        raised_at: time(row, "raised_at")?,
        cleared_at: time_opt(row, "cleared_at")?,
        cleared_by: row.get("cleared_by")?,
    })
}

/// Raises an alert, or brings the words of the open one up to date. Returns whether it is new.
///
/// # Errors
/// [`StoreError`].
pub fn raise(tx: &mut WriteTx<'_>, notice: &Notice) -> Result<bool, StoreError> {
    let Notice { kind, subject, title, detail, link } = notice;
    let open = tx
        .db()
        .prepare_cached(
            "UPDATE alerts SET title = ?3, detail = ?4, link = ?5 WHERE kind = ?1 AND subject = ?2 AND cleared_at IS NULL",
        )?
        .execute(params![kind.as_str(), subject, title, detail, link])?;
    if open > 0 {
        return Ok(false);
    }
    tx.db()
        .prepare_cached(
            "INSERT INTO alerts (kind, subject, title, detail, link, raised_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![kind.as_str(), subject, title, detail, link, tx.now().unix_ms()])?;
    Ok(true)
}

/// Clears the open alert of a kind and subject, because its cause is gone. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn clear(tx: &mut WriteTx<'_>, kind: AlertKind, subject: &str) -> Result<bool, StoreError> {
    let cleared = tx
        .db()
        .prepare_cached(
            "UPDATE alerts SET cleared_at = ?3, cleared_by = '' WHERE kind = ?1 AND subject = ?2 AND cleared_at IS NULL",
        )?
        .execute(params![kind.as_str(), subject, tx.now().unix_ms()])?;
    Ok(cleared > 0)
}

/// Clears all open alerts about `subject`, because it is gone. Returns how many.
///
/// # Errors
/// [`StoreError`].
pub fn clear_all_of(tx: &mut WriteTx<'_>, subject: &str) -> Result<usize, StoreError> {
    Ok(tx
        .db()
        .prepare_cached("UPDATE alerts SET cleared_at = ?2, cleared_by = '' WHERE subject = ?1 AND cleared_at IS NULL")?
        .execute(params![subject, tx.now().unix_ms()])?)
}

/// Clears an alert by a person's word. Returns whether it was open.
///
/// # Errors
/// [`StoreError`].
pub fn dismiss(tx: &mut WriteTx<'_>, no: i64, by: &str) -> Result<bool, StoreError> {
    let cleared = tx
        .db()
        .prepare_cached("UPDATE alerts SET cleared_at = ?3, cleared_by = ?2 WHERE no = ?1 AND cleared_at IS NULL")?
        .execute(params![no, by, tx.now().unix_ms()])?;
    Ok(cleared > 0)
}

/// An alert by its number.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, no: i64) -> Result<Option<Alert>, StoreError> {
    Ok(db.prepare_cached("SELECT * FROM alerts WHERE no = ?1")?.query_row([no], from_row).optional()?)
}

/// Which alerts to list. All of the given conditions hold.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Open ones only, or cleared ones only.
    pub open: Option<bool>,
    /// Of this kind.
    pub kind: Option<AlertKind>,
    /// About this.
    pub subject: Option<String>,
    /// Raised before this one: the last of the page before.
    pub before: Option<i64>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// Alerts, the last raised first.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, filter: &AlertFilter) -> Result<Vec<Alert>, StoreError> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let mut statement = db.prepare_cached(
        "SELECT * FROM alerts WHERE (?1 IS NULL OR (cleared_at IS NULL) = ?1) AND (?2 IS NULL OR kind = ?2)
           AND (?3 IS NULL OR subject = ?3) AND (?4 IS NULL OR no < ?4) ORDER BY no DESC LIMIT ?5",
    )?;
    let kind = filter.kind.map(AlertKind::as_str);
    let rows = statement.query_map(params![filter.open, kind, filter.subject, filter.before, limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many are open.
///
/// # Errors
/// [`StoreError`].
pub fn count_open(db: &Connection) -> Result<u64, StoreError> {
    let n: i64 = db
        .prepare_cached("SELECT count(*) FROM alerts INDEXED BY alerts_open WHERE cleared_at IS NULL")?
        .query_row([], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, domain::Timestamp, hub::Hub, store::Store};

    fn notice(kind: AlertKind, subject: &str, title: &str) -> Notice {
        Notice {
            kind,
            subject: subject.to_owned(),
            title: title.to_owned(),
            detail: "Why and what to do.".to_owned(),
            link: "/repos".to_owned(),
        }
    }

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path(), Hub::new(), ManualClock::at(Timestamp::from_unix_ms(5))).unwrap()
    }

    async fn raised(store: &Store, kind: AlertKind, subject: &'static str, title: &'static str) -> bool {
        store.write(move |tx| raise(tx, &notice(kind, subject, title))).await.unwrap()
    }

    async fn titles(store: &Store, filter: AlertFilter) -> Vec<String> {
        let found = store.read(move |db| list(db, &filter)).await.unwrap();
        found.into_iter().map(|alert| alert.notice.title).collect()
    }

    #[tokio::test]
    async fn raising_an_open_alert_again_changes_its_words_and_makes_no_second_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        assert!(raised(&store, AlertKind::Damaged, "r1", "vault is damaged").await);
        assert!(!raised(&store, AlertKind::Damaged, "r1", "vault is damaged in 3 places").await);
        assert!(raised(&store, AlertKind::Damaged, "r2", "other").await);
        assert!(raised(&store, AlertKind::StaleLock, "r1", "lock").await);
        assert_eq!(titles(&store, AlertFilter::default()).await, ["lock", "other", "vault is damaged in 3 places"]);
        assert_eq!(store.read(count_open).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_cleared_alert_is_history_and_its_cause_raises_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        raised(&store, AlertKind::Damaged, "r1", "first").await;
        assert!(store.write(|tx| clear(tx, AlertKind::Damaged, "r1")).await.unwrap());
        assert!(!store.write(|tx| clear(tx, AlertKind::Damaged, "r1")).await.unwrap(), "cleared twice");
        assert!(raised(&store, AlertKind::Damaged, "r1", "second").await);
        assert_eq!(titles(&store, AlertFilter { open: Some(true), ..Default::default() }).await, ["second"]);
        assert_eq!(titles(&store, AlertFilter { open: Some(false), ..Default::default() }).await, ["first"]);
    }

    #[tokio::test]
    async fn a_person_clears_by_number_and_stands_on_the_row() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        raised(&store, AlertKind::NearlyFull, "r1", "full soon").await;
        let no = store.read(|db| list(db, &AlertFilter::default())).await.unwrap()[0].no;
        assert!(store.write(move |tx| dismiss(tx, no, "ada")).await.unwrap());
        assert!(!store.write(move |tx| dismiss(tx, no, "otto")).await.unwrap());
        let alert = store.read(move |db| lookup(db, no)).await.unwrap().unwrap();
        assert_eq!(alert.cleared_by.as_deref(), Some("ada"));
        assert!(alert.cleared_at.is_some());
    }
}
