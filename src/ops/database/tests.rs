use super::*;
use crate::{clock::ManualClock, hub::Hub};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

struct House {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    database: Database,
}

fn house(config: DatabaseConfig) -> House {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(at("2026-11-21T02:40:00Z"));
    let store = Store::open(dir.path(), Hub::new(), clock.clone()).unwrap();
    let database = Database::new(store, clock.clone(), config);
    House { dir, clock, database }
}

impl House {
    async fn back_up(&self) -> Result<Copy, BackupError> {
        self.database.back_up(Actor::system(), CancellationToken::new()).await
    }
}

#[test]
fn a_copy_a_day_for_a_week_and_a_copy_a_week_for_a_month_are_kept() {
    // Sixty nights, the last of them a Saturday.
    let now = at("2026-11-21T02:40:00Z");
    let mut made: Vec<Timestamp> = (0..60).map(|n| now.plus_s(-86_400 * n)).collect();
    for at in made.clone().iter().rev() {
        // As it happens: one more each night, and what is superfluous then goes.
        let so_far: Vec<Timestamp> = made.iter().copied().filter(|other| other <= at).collect();
        let gone = superfluous(&so_far, *at, 7, 4);
        made.retain(|at| !gone.contains(at));
    }
    let kept: Vec<String> = made.iter().map(|at| at.to_string()[..10].to_owned()).collect();
    let days = ["2026-11-21", "2026-11-20", "2026-11-19", "2026-11-18", "2026-11-17", "2026-11-16", "2026-11-15"];
    // Sundays, the newest of their weeks; the 15th is one of them.
    assert_eq!(kept, [&days[..], &["2026-11-08", "2026-11-01"]].concat());
}

#[test]
fn copies_of_the_last_day_are_all_kept_and_of_an_earlier_one_the_newest() {
    let made = ["2026-11-21T10:00:00Z", "2026-11-21T02:40:00Z", "2026-11-19T20:00:00Z", "2026-11-19T02:40:00Z"].map(at);
    assert_eq!(superfluous(&made, at("2026-11-21T10:00:00Z"), 7, 0), [at("2026-11-19T02:40:00Z")]);
}

#[tokio::test]
async fn a_copy_is_private_whole_and_opens_as_a_database() {
    let house = house(DatabaseConfig::default());
    let copy = house.back_up().await.unwrap();
    assert_eq!(copy.path, house.dir.path().join("backups/flotilla-2026-11-21T02-40-00.000Z.db"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&copy.path), mode(&house.database.dir())), (0o600, 0o700));
    }
    assert!(copies::faults(&copy.path).unwrap().is_empty());
    assert_eq!(house.database.copies().await.unwrap(), [copy]);
    assert!(!house.database.dir().join(UNFINISHED).exists());
    assert_eq!(house.database.trouble().await.unwrap(), None);
}

#[tokio::test]
async fn a_failed_copy_is_told_until_one_succeeds_and_leaves_the_earlier_ones() {
    let house = house(DatabaseConfig::default());
    let first = house.back_up().await.unwrap();
    // A folder that lies where the unfinished copy belongs can't be written over.
    let obstacle = house.database.dir().join(UNFINISHED);
    fs::create_dir(&obstacle).unwrap();
    house.clock.advance(86_400);
    assert!(house.back_up().await.is_err());
    assert!(house.database.failed_last().await);
    let trouble = house.database.trouble().await.unwrap().unwrap();
    assert!(trouble.contains("failed") && trouble.contains("unfinished"), "{trouble}");
    assert_eq!(house.database.copies().await.unwrap(), [first]);
    fs::remove_dir(&obstacle).unwrap();
    house.back_up().await.unwrap();
    assert_eq!(house.database.trouble().await.unwrap(), None);
}

#[tokio::test]
async fn nights_without_a_copy_are_told() {
    let house = house(DatabaseConfig::default());
    assert!(house.database.missed().await.unwrap(), "there is none yet");
    house.back_up().await.unwrap();
    assert!(!house.database.missed().await.unwrap());
    house.clock.advance(3 * 86_400);
    assert!(house.database.missed().await.unwrap());
    assert!(house.database.trouble().await.unwrap().unwrap().contains("two days"));
    let off = DatabaseConfig { nightly: false, ..DatabaseConfig::default() };
    let quiet = self::house(off);
    assert!(!quiet.database.missed().await.unwrap(), "whoever makes copies by other means is not told");
}

#[tokio::test]
async fn a_disk_without_room_is_named_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let refused = prepare(dir.path(), u64::MAX).unwrap_err();
    assert!(matches!(refused, BackupError::NoRoom { .. }) && refused.to_string().contains("backup_dir"), "{refused}");
}

#[tokio::test]
async fn two_copies_are_not_made_at_once() {
    let house = house(DatabaseConfig::default());
    let _made = house.database.0.busy.lock().await;
    assert!(matches!(house.back_up().await, Err(BackupError::Busy)));
    assert!(!house.database.failed_last().await);
}

#[test]
fn the_next_copy_is_today_or_tomorrow() {
    assert_eq!(next_at(at("2026-11-21T02:39:59Z"), (2, 40)), at("2026-11-21T02:40:00Z"));
    assert_eq!(next_at(at("2026-11-21T02:40:00Z"), (2, 40)), at("2026-11-22T02:40:00Z"));
}

#[test]
fn only_names_that_this_server_gives_are_copies() {
    assert_eq!(made_at(&file_name(at("2026-11-21T02:40:00Z"))), Some(at("2026-11-21T02:40:00Z")));
    for name in ["flotilla.db", "flotilla-old.db", "flotilla-2026-11-21T02-40-00.000Z.db.bak", UNFINISHED] {
        assert_eq!(made_at(name), None, "{name}");
    }
}
