-- Second copies that are due: a row for each snapshot from its backup's end until it is in the second repository.
CREATE TABLE second_copies (
    no        INTEGER PRIMARY KEY,
    plan_id   TEXT NOT NULL REFERENCES plans (id),
    host_id   TEXT NOT NULL REFERENCES hosts (id), -- whose backup made it: it copies, as long as it is there
    from_repo TEXT NOT NULL REFERENCES repos (id),
    to_repo   TEXT NOT NULL REFERENCES repos (id),
    snapshot  TEXT NOT NULL,                -- its id in the first repository; restic 0.14 told eight digits of it
    made_at   INTEGER NOT NULL,             -- the end of its backup
    tries     INTEGER NOT NULL DEFAULT 0,   -- copies that failed
    next_at   INTEGER,                      -- when it is tried by itself; NULL: with the next backup
    job_id    TEXT,                         -- the copy that is at it
    error     TEXT NOT NULL DEFAULT '',     -- of the last that failed
    UNIQUE (plan_id, host_id, from_repo, to_repo, snapshot)
) STRICT;
CREATE INDEX second_copies_by_repos ON second_copies (from_repo, to_repo, snapshot);
CREATE INDEX second_copies_due ON second_copies (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX second_copies_by_job ON second_copies (job_id) WHERE job_id IS NOT NULL;
