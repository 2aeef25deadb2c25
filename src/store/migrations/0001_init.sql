-- All times are Unix milliseconds; all ids are ULIDs in upper case; lists and objects are JSON.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE COLLATE NOCASE,
    role          TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    password_hash TEXT NOT NULL,
    disabled      INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    hash       BLOB PRIMARY KEY,          -- SHA-256 of the cookie's secret
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE api_tokens (
    id           TEXT PRIMARY KEY,
    hash         BLOB NOT NULL UNIQUE,    -- SHA-256 of the token
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label        TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;
CREATE INDEX api_tokens_by_user ON api_tokens (user_id);

CREATE TABLE enrol_tokens (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,      -- SHA-256 of the token
    host_name  TEXT,
    tags       TEXT NOT NULL DEFAULT '[]',
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE hosts (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    slug           TEXT NOT NULL UNIQUE,
    tags           TEXT NOT NULL DEFAULT '[]',
    os             TEXT,
    arch           TEXT,
    hostname       TEXT,
    agent_version  TEXT,
    restic_version TEXT,
    boot_id        TEXT,
    token_hash     BLOB UNIQUE,           -- SHA-256 of the agent's token; NULL once revoked or removed
    enrol_token_id TEXT,                  -- the enrolment token that it came with
    last_seen_at   INTEGER,
    created_at     INTEGER NOT NULL,
    revoked_at     INTEGER,
    removed_at     INTEGER
) STRICT;
CREATE INDEX hosts_by_name ON hosts (name COLLATE NOCASE) WHERE removed_at IS NULL;

-- Hashes of agent tokens that were taken away: their bearers are told so, instead of "unknown".
CREATE TABLE revoked_tokens (
    hash BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE repos (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    url         TEXT NOT NULL,
    username    TEXT,
    append_only INTEGER NOT NULL CHECK (append_only IN (0, 1)),
    init        INTEGER NOT NULL CHECK (init IN (0, 1)),
    tls_ca_pem  TEXT,
    secrets     BLOB NOT NULL,            -- sealed, see vault.rs
    secrets_set TEXT NOT NULL,            -- names of the secrets, for display
    created_at  INTEGER NOT NULL,
    removed_at  INTEGER
) STRICT;
CREATE UNIQUE INDEX repos_by_name ON repos (name COLLATE NOCASE) WHERE removed_at IS NULL;

CREATE TABLE plans (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    repo_id    TEXT NOT NULL REFERENCES repos (id),
    tags       TEXT NOT NULL DEFAULT '[]',
    paths      TEXT NOT NULL,
    excludes   TEXT NOT NULL DEFAULT '[]',
    options    TEXT NOT NULL DEFAULT '{}',
    retention  TEXT NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX plans_by_name ON plans (name COLLATE NOCASE) WHERE removed_at IS NULL;
CREATE INDEX plans_by_repo ON plans (repo_id);

CREATE TABLE plan_hosts (
    plan_id TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    PRIMARY KEY (plan_id, host_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX plan_hosts_by_host ON plan_hosts (host_id);

-- `no` is the upper half of the keys in log_chunks; AUTOINCREMENT, so that no number is ever given twice.
CREATE TABLE jobs (
    no                  INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT NOT NULL UNIQUE,
    host_id             TEXT NOT NULL REFERENCES hosts (id),
    kind                TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'queued'
                        CHECK (status IN ('queued', 'running', 'succeeded', 'warning', 'failed', 'cancelled', 'lost')),
    actor_kind          TEXT NOT NULL CHECK (actor_kind IN ('user', 'token', 'schedule', 'system')),
    actor_id            TEXT NOT NULL DEFAULT '',
    actor_name          TEXT NOT NULL DEFAULT '',
    schedule_id         TEXT,
    plan_id             TEXT REFERENCES plans (id),
    repo_id             TEXT REFERENCES repos (id),
    input               TEXT NOT NULL DEFAULT '{}',
    rerun_of            TEXT,
    timeout_s           INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    dispatched_at       INTEGER,
    accepted_at         INTEGER,
    started_at          INTEGER,
    finished_at         INTEGER,
    cancel_requested_at INTEGER,
    exit_code           INTEGER,
    error               TEXT,
    summary             TEXT,
    log_lines           INTEGER NOT NULL DEFAULT 0,
    log_bytes           INTEGER NOT NULL DEFAULT 0,   -- of text, without line breaks
    log_truncated       INTEGER NOT NULL DEFAULT 0 CHECK (log_truncated IN (0, 1)),
    log_sealed          INTEGER NOT NULL DEFAULT 0 CHECK (log_sealed IN (0, 1))
) STRICT;
CREATE INDEX jobs_by_host ON jobs (host_id, no);
CREATE INDEX jobs_by_plan_host ON jobs (plan_id, host_id, no);
-- SQLite takes a partial index only where a query has its condition word for word: queries on open jobs say `status IN ('queued', 'running')`.
CREATE INDEX jobs_open ON jobs (host_id, no) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_unsealed ON jobs (no) WHERE log_sealed = 0;
CREATE INDEX jobs_by_finish ON jobs (finished_at);

-- A rowid table on purpose: blobs in a WITHOUT ROWID table spill to overflow pages and cost three times the space.
-- The key is `jobs.no << 32 | seq of the chunk's first line`.
CREATE TABLE log_chunks (
    id   INTEGER PRIMARY KEY,
    n    INTEGER NOT NULL,                -- lines in it
    data BLOB NOT NULL                    -- see store/log_chunk.rs
) STRICT;

CREATE TABLE audit (
    no         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id   TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    action     TEXT NOT NULL,             -- such as job.create, host.revoke, login.failed
    object     TEXT NOT NULL DEFAULT '',  -- id of what it was done to
    detail     TEXT NOT NULL DEFAULT ''   -- for people; never a secret
) STRICT;
