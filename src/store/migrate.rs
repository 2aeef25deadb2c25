//! The ladder of schema versions. Migrations are numbered files, applied forward under `user_version`, each in one transaction,
//! and never edited once shipped. A database of a newer version is refused untouched.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;

const LADDER: &[&str] = &[
    include_str!("migrations/0001_init.sql"),
    include_str!("migrations/0002_durability.sql"),
    include_str!("migrations/0003_restic.sql"),
    include_str!("migrations/0004_second_copies.sql"),
    include_str!("migrations/0005_operations.sql"),
];

/// Brings `connection` to the newest version.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = u32::try_from(LADDER.len()).unwrap_or(u32::MAX);
    loop {
        // Immediate, and the version is read inside: two processes that start at once climb one after the other.
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: u32 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > known {
            return Err(StoreError::Newer { path: path.to_owned(), found, known });
        }
        let Some(step) = LADDER.get(found as usize) else { return Ok(()) };
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", found + 1)?;
        tx.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_climbs_to_the_newest_version_and_stays_there() {
        let mut db = Connection::open_in_memory().unwrap();
        run(&mut db, Path::new("x")).unwrap();
        run(&mut db, Path::new("x")).unwrap();
        let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version as usize, LADDER.len());
    }

    #[test]
    fn second_copies_that_failed_before_those_that_are_due_were_kept_are_due() {
        let mut db = Connection::open_in_memory().unwrap();
        LADDER[..3].iter().for_each(|step| db.execute_batch(step).unwrap());
        db.pragma_update(None, "user_version", 3).unwrap();
        db.pragma_update(None, "foreign_keys", false).unwrap();
        for (id, status, snapshot) in [("1", "failed", "a"), ("2", "failed", "b"), ("3", "succeeded", "a")] {
            let input = format!(r#"{{"operation": {{"copy": {{"to": "second", "snapshots": ["{snapshot}"]}}}}}}"#);
            let add = "INSERT INTO jobs (id, host_id, kind, status, actor_kind, plan_id, repo_id, input, timeout_s, created_at, error)
                       VALUES (?1, 'h', 'copy', ?2, 'system', 'p', 'first', ?3, 60, 5, 'why')";
            db.execute(add, [id, status, &input]).unwrap();
        }
        run(&mut db, Path::new("x")).unwrap();
        let due = "SELECT snapshot || ' ' || from_repo || ' ' || to_repo || ' ' || next_at || ' ' || error FROM second_copies";
        let due: Vec<String> =
            db.prepare(due).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(due, ["b first second 5 why"]);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused_untouched() {
        let mut db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 999).unwrap();
        let refused = run(&mut db, Path::new("/data/flotilla.db")).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 999, .. }));
        assert!(refused.to_string().contains("install a newer Flotilla"));
        let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 0);
    }
}
