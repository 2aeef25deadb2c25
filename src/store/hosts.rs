//! Hosts in the store. A removed host keeps its row, its jobs and its slug, so that its snapshots stay findable.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, Timestamp, TokenId,
        event::Event,
        host::{Host, slug_of},
        schedule::ScheduleRejection,
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, time, time_opt, to_json},
    },
};

const SELECT: &str = "SELECT * FROM hosts";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Host> {
    Ok(Host {
        id: parsed(row, "id")?,
        name: row.get("name")?,
        slug: row.get("slug")?,
        tags: json(row, "tags")?,
        os: row.get("os")?,
        arch: row.get("arch")?,
        hostname: row.get("hostname")?,
        agent_version: row.get("agent_version")?,
        restic_version: row.get("restic_version")?,
        last_seen_at: time_opt(row, "last_seen_at")?,
        created_at: time(row, "created_at")?,
        revoked_at: time_opt(row, "revoked_at")?,
        enrolled: row.get::<_, Option<[u8; 32]>>("token_hash")?.is_some(),
        own: row.get("own")?,
    })
}

/// The name of the host that bears a slug, also of one that was removed: slugs are for life.
///
/// # Errors
/// [`StoreError`].
pub fn of_slug(db: &Connection, slug: &str) -> Result<Option<String>, StoreError> {
    let mut statement = db.prepare_cached("SELECT name FROM hosts WHERE slug = ?1")?;
    Ok(statement.query_row([slug], |row| row.get(0)).optional()?)
}

/// A host that is to be made.
#[derive(Debug, Clone)]
pub struct NewHost {
    /// Identity.
    pub id: HostId,
    /// What people call it; need not be unique.
    pub name: String,
    /// Labels.
    pub tags: Vec<String>,
    /// SHA-256 of the agent's token.
    pub token_hash: Option<[u8; 32]>,
    /// The enrolment token that it came with.
    pub enrol_token: Option<TokenId>,
    /// What the agent said of the machine.
    pub facts: Facts,
}

/// What an agent says of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `linux`, `windows`, …
    pub os: String,
    /// `x86_64`, …
    pub arch: String,
    /// The machine's name for itself.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of its restic.
    pub restic_version: Option<String>,
    /// Changes with each boot.
    pub boot_id: String,
}

/// Adds a host under a slug that is free.
///
/// # Errors
/// [`StoreError`].
pub fn insert(tx: &mut WriteTx<'_>, host: &NewHost) -> Result<Host, StoreError> {
    let slug = free_slug(tx.db(), &slug_of(&host.name))?;
    let Facts { os, arch, hostname, agent_version, restic_version, boot_id } = &host.facts;
    tx.db()
        .prepare_cached(
            "INSERT INTO hosts (id, name, slug, tags, os, arch, hostname, agent_version, restic_version, boot_id, token_hash, enrol_token_id, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            host.id.to_string(),
            host.name,
            slug,
            to_json(&host.tags)?,
            os,
            arch,
            hostname,
            agent_version,
            restic_version,
            boot_id,
            host.token_hash,
            host.enrol_token.map(|id| id.to_string()),
            tx.now().unix_ms(),
        ])?;
    lookup(tx.db(), host.id)?.ok_or_else(|| StoreError::Corrupt("a host that was just added is not there".to_owned()))
}

/// Adds the host that stands for the control plane's own agent. There is at most one.
///
/// # Errors
/// [`StoreError`]; a second one is a conflict.
pub fn insert_own(tx: &mut WriteTx<'_>, id: HostId, name: &str) -> Result<HostId, StoreError> {
    let slug = free_slug(tx.db(), &slug_of(name))?;
    tx.db()
        .prepare_cached("INSERT INTO hosts (id, name, slug, tags, created_at, own) VALUES (?1, ?2, ?3, '[]', ?4, 1)")?
        .execute(params![id.to_string(), name, slug, tx.now().unix_ms()])?;
    Ok(id)
}

/// Gives a host's agent another token; the one before opens nothing any more.
///
/// # Errors
/// [`StoreError`].
pub fn set_token(tx: &mut WriteTx<'_>, id: HostId, hash: [u8; 32]) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE hosts SET token_hash = ?2, revoked_at = NULL WHERE id = ?1")?
        .execute(params![id.to_string(), hash])?;
    Ok(())
}

fn free_slug(db: &Connection, wanted: &str) -> Result<String, StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM hosts WHERE slug = ?1")?;
    if !taken.exists([wanted])? {
        return Ok(wanted.to_owned());
    }
    for n in 2u32.. {
        let slug = format!("{wanted}-{n}");
        if !taken.exists([&slug])? {
            return Ok(slug);
        }
    }
    Err(StoreError::Corrupt("no free slug".to_owned()))
}

/// A host that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: HostId) -> Result<Option<Host>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?1 AND removed_at IS NULL"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// The host that stands for the control plane's own agent, if it has ever had one.
///
/// # Errors
/// [`StoreError`].
pub fn own(db: &Connection) -> Result<Option<Host>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE own = 1 AND removed_at IS NULL"))?;
    Ok(statement.query_row([], from_row).optional()?)
}

/// The hosts that a person may mean: the one of that id or slug, else all of that name. Removed ones are none of them.
///
/// # Errors
/// [`StoreError`].
pub fn called(db: &Connection, text: &str) -> Result<Vec<Host>, StoreError> {
    let id = text.parse::<HostId>().map_or_else(|_| text.to_owned(), |id| id.to_string());
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE removed_at IS NULL AND (id = ?1 OR slug = ?2 OR name = ?2) ORDER BY id = ?1 DESC, slug = ?2 DESC"
    ))?;
    let mut found: Vec<Host> = statement.query_map([&id, text], from_row)?.collect::<Result<_, _>>()?;
    if found.first().is_some_and(|host| host.id.to_string() == id || host.slug == text) {
        found.truncate(1);
    }
    Ok(found)
}

/// The host whose agent bears the token of this hash.
///
/// # Errors
/// [`StoreError`].
pub fn find_by_token(db: &Connection, hash: [u8; 32]) -> Result<Option<Host>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE token_hash = ?1 AND removed_at IS NULL"))?;
    Ok(statement.query_row([hash], from_row).optional()?)
}

/// Whether the token of this hash was an agent's once and was taken away: such an agent is told to stay away.
///
/// # Errors
/// [`StoreError`].
pub fn was_revoked(db: &Connection, hash: [u8; 32]) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached("SELECT 1 FROM revoked_tokens WHERE hash = ?1")?;
    Ok(statement.exists([hash])?)
}

/// Which hosts to list.
#[derive(Debug, Clone, Default)]
pub struct HostFilter {
    /// Text in the name, slug, host name or a tag.
    pub search: Option<String>,
    /// After the host of this id in the order of names.
    pub after: Option<HostId>,
    /// At most so many; 0 for all.
    pub limit: u32,
}

/// The fleet: hosts that were not removed, by name. The control plane's own is not among them ([`own`]).
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, filter: &HostFilter) -> Result<Vec<Host>, StoreError> {
    let search = filter.search.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let pattern =
        search.map(|text| format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")));
    let limit = if filter.limit == 0 { -1 } else { i64::from(filter.limit) };
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE removed_at IS NULL AND own = 0
           AND (?1 IS NULL OR name LIKE ?1 ESCAPE '\\' OR slug LIKE ?1 ESCAPE '\\' OR hostname LIKE ?1 ESCAPE '\\' OR tags LIKE ?1 ESCAPE '\\')
           AND (?2 IS NULL OR (name COLLATE NOCASE, id) > (SELECT name COLLATE NOCASE, id FROM hosts WHERE id = ?2))
         ORDER BY name COLLATE NOCASE, id LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![pattern, filter.after.map(|id| id.to_string()), limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many hosts the fleet has.
///
/// # Errors
/// [`StoreError`].
pub fn count(db: &Connection) -> Result<u64, StoreError> {
    let n: i64 = db
        .prepare_cached("SELECT count(*) FROM hosts WHERE removed_at IS NULL AND own = 0")?
        .query_row([], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// The host that came with an enrolment token, for the page that waits for it.
///
/// # Errors
/// [`StoreError`].
pub fn newest_by_enrol_token(db: &Connection, token: TokenId) -> Result<Option<Host>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE enrol_token_id = ?1 AND removed_at IS NULL ORDER BY created_at DESC LIMIT 1"
    ))?;
    Ok(statement.query_row([token.to_string()], from_row).optional()?)
}

/// Notes what the agent's `hello` says. Call it only where something differs: connecting should not cost a write.
///
/// # Errors
/// [`StoreError`].
pub fn set_facts(tx: &mut WriteTx<'_>, id: HostId, facts: &Facts) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "UPDATE hosts SET os = ?2, arch = ?3, hostname = ?4, agent_version = ?5, restic_version = ?6, boot_id = ?7 WHERE id = ?1",
        )?
        .execute(params![
            id.to_string(),
            facts.os,
            facts.arch,
            facts.hostname,
            facts.agent_version,
            facts.restic_version,
            facts.boot_id
        ])?;
    Ok(())
}

/// When a host's agent was last heard, as written down (every half minute at most); `None`: never. Removed hosts too.
///
/// # Errors
/// [`StoreError`].
pub fn last_seen(db: &Connection, id: HostId) -> Result<Option<Timestamp>, StoreError> {
    let mut statement = db.prepare_cached("SELECT last_seen_at FROM hosts WHERE id = ?1")?;
    let seen: Option<Option<i64>> = statement.query_row([id.to_string()], |row| row.get(0)).optional()?;
    Ok(seen.flatten().map(Timestamp::from_unix_ms))
}

/// Notes signs of life, many at once.
///
/// # Errors
/// [`StoreError`].
pub fn seen(tx: &mut WriteTx<'_>, hosts: &[(HostId, Timestamp)]) -> Result<(), StoreError> {
    let mut statement = tx.db().prepare_cached("UPDATE hosts SET last_seen_at = ?2 WHERE id = ?1")?;
    for (id, at) in hosts {
        statement.execute(params![id.to_string(), at.unix_ms()])?;
    }
    Ok(())
}

/// Changes name and tags. Returns whether there is such a host.
///
/// # Errors
/// [`StoreError`].
pub fn update(tx: &mut WriteTx<'_>, id: HostId, name: &str, tags: &[String]) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached("UPDATE hosts SET name = ?2, tags = ?3 WHERE id = ?1 AND removed_at IS NULL")?
        .execute(params![id.to_string(), name, to_json(&tags)?])?;
    // A tag may bring the host under a plan, or take it out.
    tx.publish(Event::Schedules);
    Ok(changed > 0)
}

/// Takes an agent's identity away: its token opens nothing any more, and its connection is closed. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn revoke(tx: &mut WriteTx<'_>, id: HostId) -> Result<bool, StoreError> {
    let key = id.to_string();
    tx.db()
        .prepare_cached("INSERT OR IGNORE INTO revoked_tokens (hash) SELECT token_hash FROM hosts WHERE id = ?1 AND token_hash IS NOT NULL")?
        .execute([&key])?;
    let changed = tx
        .db()
        .prepare_cached("UPDATE hosts SET token_hash = NULL, revoked_at = ?2 WHERE id = ?1 AND token_hash IS NOT NULL")?
        .execute(params![key, tx.now().unix_ms()])?;
    if changed > 0 {
        tx.publish(Event::HostRevoked(id));
    }
    Ok(changed > 0)
}

/// Removes a host from all lists and takes its identity away. Its jobs stay. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: HostId) -> Result<bool, StoreError> {
    revoke(tx, id)?;
    tx.db().prepare_cached("DELETE FROM plan_hosts WHERE host_id = ?1")?.execute([id.to_string()])?;
    let changed = tx
        .db()
        .prepare_cached("UPDATE hosts SET removed_at = ?2 WHERE id = ?1 AND removed_at IS NULL")?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    Ok(changed > 0)
}

/// How a host's agent and this server agree on what is due when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScheduleState {
    /// Version of the set that the agent is to have; 0 while it never needed one.
    pub version: u64,
    /// Digest of that set.
    pub digest: Option<[u8; 32]>,
    /// Version that the agent said it has.
    pub acked: u64,
    /// Entries of it that the agent cannot follow.
    pub rejected: Vec<ScheduleRejection>,
    /// Entries that the agent was given without an order: they do not run while this server is away.
    pub unarmed: Vec<ScheduleRejection>,
}

impl ScheduleState {
    /// Whether the agent follows another set than it is to.
    #[must_use]
    pub fn drifts(&self) -> bool {
        self.version != self.acked
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            version: row.get::<_, i64>("schedule_version")?.unsigned_abs(),
            digest: row.get("schedule_digest")?,
            acked: row.get::<_, i64>("schedule_acked")?.unsigned_abs(),
            rejected: json(row, "schedule_rejected")?,
            unarmed: json(row, "schedule_unarmed")?,
        })
    }
}

/// Slug, tags and agreement of a host that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn schedule_state(db: &Connection, id: HostId) -> Result<Option<(String, Vec<String>, ScheduleState)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT slug, tags, schedule_version, schedule_digest, schedule_acked, schedule_rejected, schedule_unarmed
         FROM hosts WHERE id = ?1 AND removed_at IS NULL",
    )?;
    let row = statement
        .query_row([id.to_string()], |row| Ok((row.get("slug")?, json(row, "tags")?, ScheduleState::from_row(row)?)));
    Ok(row.optional()?)
}

/// Hosts whose agent follows another set than it is to, or could not follow all of it.
///
/// # Errors
/// [`StoreError`].
pub fn schedule_drift(db: &Connection) -> Result<Vec<(HostId, ScheduleState)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, schedule_version, schedule_digest, schedule_acked, schedule_rejected, schedule_unarmed FROM hosts
         WHERE removed_at IS NULL AND (schedule_version <> schedule_acked OR schedule_rejected <> '[]' OR schedule_unarmed <> '[]')",
    )?;
    let rows = statement.query_map([], |row| Ok((parsed(row, "id")?, ScheduleState::from_row(row)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives a host's set a new version: above the last, and above what the agent says it has, which is more only where this store was put back to an
/// earlier day. Returns the version.
///
/// # Errors
/// [`StoreError`].
pub fn renew_schedule(
    tx: &mut WriteTx<'_>,
    id: HostId,
    digest: [u8; 32],
    unarmed: &[ScheduleRejection],
) -> Result<u64, StoreError> {
    let mut statement = tx.db().prepare_cached(
        "UPDATE hosts SET schedule_version = max(schedule_version, schedule_acked) + 1, schedule_digest = ?2, schedule_unarmed = ?3
         WHERE id = ?1 RETURNING schedule_version",
    )?;
    let version: i64 = statement.query_row(params![id.to_string(), digest, to_json(&unarmed)?], |row| row.get(0))?;
    Ok(version.unsigned_abs())
}

/// Notes which version a host's agent has, and what of it it cannot follow.
///
/// # Errors
/// [`StoreError`].
pub fn note_schedule_ack(
    tx: &mut WriteTx<'_>,
    id: HostId,
    version: u64,
    rejected: &[ScheduleRejection],
) -> Result<(), StoreError> {
    // Far above any version that there will be, far below where adding one would overflow.
    let version = i64::try_from(version).unwrap_or(i64::MAX).min(1 << 48);
    tx.db()
        .prepare_cached("UPDATE hosts SET schedule_acked = ?2, schedule_rejected = ?3 WHERE id = ?1")?
        .execute(params![id.to_string(), version, to_json(&rejected)?])?;
    Ok(())
}
