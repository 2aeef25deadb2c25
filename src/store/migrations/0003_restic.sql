-- Every restic operation: the index of snapshots, cached folders, retention's verdicts, health of repositories, alerts.

-- The control plane's own agent: at most one row. It is not enrolled, not counted among the fleet, and can't be removed.
ALTER TABLE hosts ADD COLUMN own INTEGER NOT NULL DEFAULT 0 CHECK (own IN (0, 1));
CREATE UNIQUE INDEX hosts_own ON hosts (own) WHERE own = 1;

ALTER TABLE plans ADD COLUMN hooks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE plans ADD COLUMN second_repo_id TEXT REFERENCES repos (id);     -- each backup is copied there

ALTER TABLE repos ADD COLUMN maintenance_host_id TEXT REFERENCES hosts (id); -- forget, prune, tag, repair run there; NULL: on the control plane's own agent
ALTER TABLE repos ADD COLUMN size_limit INTEGER;            -- bytes that it may grow to, as its owner says
ALTER TABLE repos ADD COLUMN check_days INTEGER;            -- all data is to be read within so many days
ALTER TABLE repos ADD COLUMN check_part INTEGER NOT NULL DEFAULT 0;     -- the part n of n/t that was read last
ALTER TABLE repos ADD COLUMN indexed_at INTEGER;            -- the last whole list of its snapshots
ALTER TABLE repos ADD COLUMN index_stale_at INTEGER;        -- since when the index is known to be behind
ALTER TABLE repos ADD COLUMN imported INTEGER NOT NULL DEFAULT 0 CHECK (imported IN (0, 1));

-- What each repository holds. A row stays when its snapshot is gone: what was seen when is what forged times are held against.
CREATE TABLE snapshots (
    no            INTEGER PRIMARY KEY,
    repo_id       TEXT NOT NULL REFERENCES repos (id),
    id            TEXT NOT NULL,              -- full, 64 hexadecimal digits
    time          INTEGER NOT NULL,           -- a claim of who made it
    hostname      TEXT NOT NULL,
    host_id       TEXT REFERENCES hosts (id), -- whose it is, by slug or by a person's word
    username      TEXT NOT NULL DEFAULT '',
    paths         TEXT NOT NULL,
    tags          TEXT NOT NULL DEFAULT '[]',
    tree          TEXT NOT NULL DEFAULT '',
    parent        TEXT,
    original      TEXT,
    program       TEXT NOT NULL DEFAULT '',
    files         INTEGER,
    bytes         INTEGER,
    added         INTEGER,
    job_id        TEXT,                       -- the backup that made it
    plan_id       TEXT REFERENCES plans (id),
    first_seen_at INTEGER NOT NULL,
    gone_at       INTEGER,
    gone_by       TEXT,                       -- the job that removed it; NULL where nobody here did
    pinned_at     INTEGER,
    pinned_by     TEXT,
    pin_reason    TEXT,
    UNIQUE (repo_id, id)
) STRICT;
CREATE INDEX snapshots_by_time ON snapshots (repo_id, time, no) WHERE gone_at IS NULL;
CREATE INDEX snapshots_by_host ON snapshots (host_id, time, no) WHERE gone_at IS NULL;
CREATE INDEX snapshots_by_hostname ON snapshots (repo_id, hostname, time) WHERE gone_at IS NULL;
CREATE INDEX snapshots_by_id ON snapshots (id);    -- what a copy in another repository was made from

-- The first whole list of a repository: what was seen up to then is taken as it stands, for nobody here knows how it came.
ALTER TABLE repos ADD COLUMN listed_since INTEGER;
CREATE TRIGGER repos_first_listed AFTER UPDATE OF indexed_at ON repos WHEN new.indexed_at IS NOT NULL AND new.listed_since IS NULL
BEGIN
    UPDATE repos SET listed_since = new.indexed_at WHERE id = new.id;
END;

-- Host names in a repository that stand for an enrolled host, by a person's word.
CREATE TABLE snapshot_hosts (
    repo_id  TEXT NOT NULL REFERENCES repos (id),
    hostname TEXT NOT NULL,
    host_id  TEXT NOT NULL REFERENCES hosts (id),
    PRIMARY KEY (repo_id, hostname)
) STRICT, WITHOUT ROWID;

-- Folders of snapshots that were looked into. Contents never change; rows go by `used_at` when there are too many.
CREATE TABLE tree_folders (
    no          INTEGER PRIMARY KEY AUTOINCREMENT,
    snapshot_no INTEGER NOT NULL REFERENCES snapshots (no),
    path        TEXT NOT NULL,                -- from '/', without a slash at its end but for the root
    job_id      TEXT NOT NULL,                -- the listing
    entries     INTEGER,                      -- NULL until all are there
    used_at     INTEGER NOT NULL,
    UNIQUE (snapshot_no, path)
) STRICT;
CREATE INDEX tree_folders_by_use ON tree_folders (used_at);
CREATE TABLE tree_nodes (
    folder_no INTEGER NOT NULL REFERENCES tree_folders (no) ON DELETE CASCADE,
    sort      INTEGER NOT NULL,               -- 0 folders, 1 everything else
    name      TEXT NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('dir', 'file', 'symlink', 'other')),
    size      INTEGER,
    mtime     INTEGER,
    mode      TEXT NOT NULL DEFAULT '',
    owner     TEXT NOT NULL DEFAULT '',       -- user:group
    twin      INTEGER NOT NULL DEFAULT 0,     -- counts entries that are shown under the same name: bytes that are no UTF-8 all become U+FFFD
    PRIMARY KEY (folder_no, sort, name, twin)
) STRICT, WITHOUT ROWID;

-- Its end is on disk, and what it listed is not in the index yet.
ALTER TABLE jobs ADD COLUMN records_due INTEGER NOT NULL DEFAULT 0 CHECK (records_due IN (0, 1));
CREATE INDEX jobs_records_due ON jobs (no) WHERE records_due = 1;

-- What the guard said to each forget that asked it.
CREATE TABLE verdicts (
    job_id      TEXT PRIMARY KEY,
    repo_id     TEXT NOT NULL REFERENCES repos (id),
    at          INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('allowed', 'stopped', 'approved', 'dismissed')),
    dry         INTEGER NOT NULL DEFAULT 0 CHECK (dry IN (0, 1)),   -- of a dry run: nobody needs to decide
    rules       TEXT NOT NULL DEFAULT '',     -- the keep rules at that time, in words
    findings    TEXT NOT NULL DEFAULT '[]',   -- why it was stopped, each with the snapshots that it is about
    remove      TEXT NOT NULL DEFAULT '[]',   -- ids that may go
    waiting     TEXT NOT NULL DEFAULT '[]',   -- ids that go with a person's word only
    held        TEXT NOT NULL DEFAULT '[]',   -- those that stay all the same, each with its reason
    decided_at  INTEGER,
    decided_by  TEXT,
    reason      TEXT
) STRICT;
CREATE INDEX verdicts_by_repo ON verdicts (repo_id, at);

-- How each snapshot fared in each forget: the rule that keeps it, or that nothing does.
CREATE TABLE fates (
    job_id      TEXT NOT NULL REFERENCES verdicts (job_id) ON DELETE CASCADE,
    snapshot_id TEXT NOT NULL,
    time        INTEGER NOT NULL,
    hostname    TEXT NOT NULL,
    paths       TEXT NOT NULL,
    fate        TEXT NOT NULL CHECK (fate IN ('kept', 'removed', 'held', 'waiting')),
    reason      TEXT NOT NULL,
    PRIMARY KEY (job_id, snapshot_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX fates_by_time ON fates (job_id, fate, time, snapshot_id);

-- Sizes over time, one row per measurement.
CREATE TABLE repo_sizes (
    repo_id      TEXT NOT NULL REFERENCES repos (id),
    at           INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,            -- as stored
    uncompressed INTEGER,
    restore_size INTEGER,                     -- what a restore of all would write
    snapshots    INTEGER NOT NULL,
    blobs        INTEGER,
    job_id       TEXT NOT NULL,
    PRIMARY KEY (repo_id, at)
) STRICT, WITHOUT ROWID;

-- Locks as last seen.
CREATE TABLE repo_locks (
    repo_id    TEXT NOT NULL REFERENCES repos (id),
    id         TEXT NOT NULL,
    time       INTEGER,
    exclusive  INTEGER NOT NULL CHECK (exclusive IN (0, 1)),
    hostname   TEXT NOT NULL,
    username   TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    host_id    TEXT REFERENCES hosts (id),    -- the enrolled host of that name
    alive      INTEGER CHECK (alive IN (0, 1)), -- by that host's own agent
    alive_at   INTEGER,
    seen_at    INTEGER NOT NULL,
    PRIMARY KEY (repo_id, id)
) STRICT, WITHOUT ROWID;

-- What stands between a person and peace of mind. One row per thing at a time: raised once, cleared once.
CREATE TABLE alerts (
    no         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,                 -- stale_lock, not_append_only, forget_stopped, damaged, nearly_full, tamper_failed, …
    subject    TEXT NOT NULL,                 -- id of what it is about; with `kind` the key while it is open
    title      TEXT NOT NULL,
    detail     TEXT NOT NULL DEFAULT '',
    link       TEXT NOT NULL DEFAULT '',      -- the page where something can be done
    raised_at  INTEGER NOT NULL,
    cleared_at INTEGER,
    cleared_by TEXT
) STRICT;
CREATE UNIQUE INDEX alerts_open ON alerts (kind, subject) WHERE cleared_at IS NULL;
CREATE INDEX jobs_by_repo_kind ON jobs (repo_id, kind, no);

-- How each kind of work fared last in a repository on each host.
CREATE TABLE repo_marks (
    repo_id     TEXT NOT NULL REFERENCES repos (id),
    kind        TEXT NOT NULL,
    host_id     TEXT NOT NULL REFERENCES hosts (id),
    good_at     INTEGER,                      -- the last that went well
    good_job    TEXT,
    last_at     INTEGER NOT NULL,             -- the last that ended, however
    last_job    TEXT NOT NULL,
    last_status TEXT NOT NULL,
    PRIMARY KEY (repo_id, kind, host_id)
) STRICT, WITHOUT ROWID;
INSERT INTO repo_marks (repo_id, kind, host_id, last_at, last_job, last_status)
    SELECT repo_id, kind, host_id, max(finished_at), id, status FROM jobs
    WHERE repo_id IS NOT NULL AND finished_at IS NOT NULL AND status <> 'lost' GROUP BY repo_id, kind, host_id;
UPDATE repo_marks SET (good_at, good_job) = (
    SELECT finished_at, id FROM jobs j WHERE j.repo_id = repo_marks.repo_id AND j.kind = repo_marks.kind AND j.host_id = repo_marks.host_id
       AND status IN ('succeeded', 'warning') ORDER BY no DESC LIMIT 1);
ALTER TABLE repos ADD COLUMN damage_job_id TEXT;            -- the check that found damage which no later one has cleared

-- Ends that the health of repositories has yet to take in.
ALTER TABLE jobs ADD COLUMN examined_at INTEGER;
UPDATE jobs SET examined_at = 0 WHERE status NOT IN ('queued', 'running', 'lost');
CREATE INDEX jobs_unexamined ON jobs (no)
    WHERE examined_at IS NULL AND repo_id IS NOT NULL AND status NOT IN ('queued', 'running', 'lost');
