-- Schedules, job expiry, and what is needed to keep one moment from becoming two jobs.

ALTER TABLE jobs ADD COLUMN scheduled_at INTEGER;           -- the moment of its schedule, without jitter
ALTER TABLE jobs ADD COLUMN ran_alone INTEGER NOT NULL DEFAULT 0 CHECK (ran_alone IN (0, 1));     -- by its agent, while this server was away
ALTER TABLE jobs ADD COLUMN expires_at INTEGER;             -- a job that no agent has taken by then is given up
ALTER TABLE jobs ADD COLUMN log_removed_at INTEGER;         -- its lines were removed by the retention of logs
-- At most one job per moment of a schedule, ever.
CREATE UNIQUE INDEX jobs_by_moment ON jobs (schedule_id, scheduled_at) WHERE schedule_id IS NOT NULL;
CREATE INDEX jobs_by_rerun ON jobs (rerun_of) WHERE rerun_of IS NOT NULL;

ALTER TABLE plans ADD COLUMN schedule TEXT;                 -- JSON, see domain/schedule.rs; NULL where it runs by hand only

-- Schedules that stand alone. Those of plans are not here: they follow from the plan and the hosts that it covers.
CREATE TABLE schedules (
    id         TEXT PRIMARY KEY,
    host_id    TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    plan_id    TEXT REFERENCES plans (id),
    repo_id    TEXT REFERENCES repos (id),
    params     TEXT NOT NULL DEFAULT '{}',
    cron       TEXT NOT NULL,
    timezone   TEXT NOT NULL,
    jitter_s   INTEGER NOT NULL DEFAULT 0,
    catch_up   TEXT NOT NULL DEFAULT 'once' CHECK (catch_up IN ('once', 'skip')),
    enabled    INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,            -- moments before this are not its own
    removed_at INTEGER
) STRICT;
CREATE INDEX schedules_by_host ON schedules (host_id) WHERE removed_at IS NULL;

-- The last moment that this server has dealt with, for schedules that it ticks itself.
CREATE TABLE schedule_marks (
    schedule_id TEXT PRIMARY KEY,
    until       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The set that a host's agent is to have, by version and digest; the version that it said it has; what it refused of it.
ALTER TABLE hosts ADD COLUMN schedule_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN schedule_digest BLOB;
ALTER TABLE hosts ADD COLUMN schedule_acked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN schedule_rejected TEXT NOT NULL DEFAULT '[]';
-- Entries that were sent without an order, each with the reason: they do not run while this server is away.
ALTER TABLE hosts ADD COLUMN schedule_unarmed TEXT NOT NULL DEFAULT '[]';

-- Since when a repository is known to exist: a job on it went well. Until then a backup that may create it has it to itself: two that create it at once
-- leave two keys and one configuration, and restic opens neither.
ALTER TABLE repos ADD COLUMN known_at INTEGER;
UPDATE repos SET known_at = created_at
WHERE EXISTS (SELECT 1 FROM jobs WHERE jobs.repo_id = repos.id AND jobs.status IN ('succeeded', 'warning'));
