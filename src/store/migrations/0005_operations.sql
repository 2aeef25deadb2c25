-- What else than its agent a host has; a host without a row has nothing else.
CREATE TABLE facets (
    host_id  TEXT PRIMARY KEY REFERENCES hosts (id),
    ssh      TEXT,                          -- JSON, domain::facet::SshFacet
    ssh_key  BLOB,                          -- sealed: the private key's text
    api      TEXT,                          -- JSON, domain::facet::ApiFacet
    api_key  BLOB,                          -- sealed: the secret key
    container TEXT,                         -- JSON, the container that commands run in
    restart  TEXT,                          -- JSON, domain::facet::Restart
    opened   INTEGER NOT NULL DEFAULT 0 CHECK (opened IN (0, 1)), -- for runbooks that are off by default
    declared TEXT UNIQUE                    -- its key in the configuration; NULL where people made it
) STRICT, WITHOUT ROWID;

-- The last check of a host's status.
CREATE TABLE statuses (
    host_id  TEXT PRIMARY KEY REFERENCES hosts (id),
    job_id   TEXT NOT NULL,                 -- the last check that ended
    at       INTEGER NOT NULL,              -- when it ended
    error    TEXT,                          -- why it failed; NULL where it did not
    figures  TEXT,                          -- JSON, domain::standing::Figures: of the last one that did not fail
    found_by TEXT,                          -- which job that was
    found_at INTEGER                        -- and when it ended
) STRICT, WITHOUT ROWID;

-- What lives on a host.
CREATE TABLE sites (
    id         TEXT PRIMARY KEY,
    host_id    TEXT NOT NULL REFERENCES hosts (id),
    name       TEXT NOT NULL,
    slug       TEXT NOT NULL,
    kind       TEXT NOT NULL,               -- the detector that found it, or 'other'
    root       TEXT,                        -- its folder there
    url        TEXT,
    container  TEXT,                        -- JSON; NULL: on the host itself
    facts      TEXT NOT NULL DEFAULT '{}',  -- JSON: more that templates may name; never a secret
    created_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX sites_by_slug ON sites (slug) WHERE removed_at IS NULL;
CREATE INDEX sites_by_host ON sites (host_id) WHERE removed_at IS NULL;

-- Questions that are asked again and again.
CREATE TABLE probes (
    no         INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    host_id    TEXT NOT NULL REFERENCES hosts (id),
    site_id    TEXT REFERENCES sites (id),
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL,               -- JSON, domain::probe::ProbeSpec
    state      TEXT NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'healthy', 'unhealthy')),
    state_at   INTEGER,                     -- since when
    asked_at   INTEGER,                     -- the last answer's time
    latency_ms INTEGER,                     -- of the last answer
    detail     TEXT NOT NULL DEFAULT '',    -- of the last answer, for people
    due_at     INTEGER,                     -- when it is asked next; NULL: it is not
    created_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;
CREATE INDEX probes_by_host ON probes (host_id) WHERE removed_at IS NULL;
CREATE INDEX probes_due ON probes (due_at) WHERE removed_at IS NULL AND due_at IS NOT NULL;

CREATE TABLE probe_answers (
    probe_no   INTEGER NOT NULL REFERENCES probes (no),
    at         INTEGER NOT NULL,
    healthy    INTEGER NOT NULL CHECK (healthy IN (0, 1)),
    latency_ms INTEGER,
    detail     TEXT NOT NULL DEFAULT '',    -- empty for what is healthy
    PRIMARY KEY (probe_no, at)
) STRICT, WITHOUT ROWID;

-- One runbook over many hosts.
CREATE TABLE waves (
    id          TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    spec        TEXT NOT NULL,              -- JSON, domain::wave::WaveSpec
    actor_kind  TEXT NOT NULL CHECK (actor_kind IN ('user', 'token', 'schedule', 'system')),
    actor_id    TEXT NOT NULL DEFAULT '',
    actor_name  TEXT NOT NULL DEFAULT '',
    secrets     BLOB,                       -- sealed answers; NULL once it is over
    status      TEXT NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'warning', 'failed', 'cancelled')),
    stop        TEXT CHECK (stop IN ('canary', 'failures', 'cancel')), -- it begins nothing more
    why         TEXT NOT NULL DEFAULT '',   -- why, in words
    tally       TEXT,                       -- JSON, domain::wave::Tally; NULL until it is over
    rerun_of    TEXT REFERENCES waves (id),
    created_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX waves_by_rerun ON waves (rerun_of) WHERE rerun_of IS NOT NULL;
CREATE INDEX waves_open ON waves (created_at) WHERE status = 'running';

CREATE TABLE wave_hosts (
    wave_id  TEXT NOT NULL REFERENCES waves (id),
    position INTEGER NOT NULL,
    host_id  TEXT NOT NULL REFERENCES hosts (id),
    job_id   TEXT REFERENCES jobs (id),     -- NULL: not started
    refused  TEXT,                          -- why no job could be made
    CHECK (job_id IS NULL OR refused IS NULL),
    PRIMARY KEY (wave_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX wave_hosts_by_job ON wave_hosts (job_id) WHERE job_id IS NOT NULL;

-- The host that a job is about, where another one runs it; the site; the answers that are secret, until its end.
ALTER TABLE jobs ADD COLUMN about_id TEXT REFERENCES hosts (id);
ALTER TABLE jobs ADD COLUMN site_id TEXT REFERENCES sites (id);
ALTER TABLE jobs ADD COLUMN secrets BLOB;
-- Of a restart: how health came back, JSON; NULL where nothing is waited for.
ALTER TABLE jobs ADD COLUMN aftermath TEXT;
CREATE INDEX jobs_in_aftermath ON jobs (no) WHERE aftermath ->> '$.state' = 'waiting';
CREATE INDEX jobs_by_about ON jobs (about_id, no) WHERE about_id IS NOT NULL;
CREATE INDEX jobs_by_site ON jobs (site_id, no) WHERE site_id IS NOT NULL;
