"""Triggers by which the database itself notes what must never happen, at the moment it happens.

They know nothing of how the product fences: each looks at the row of the job as the writing transaction
sees it. A transaction that holds the job's lock sees the truth; one that went round the lock sees what was
committed last, which is later than what it believes.
"""

from typing import Final

import psycopg
from sqlalchemy import make_url

AUDIT: Final = """
CREATE TABLE audit (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    invariant text NOT NULL,
    what text NOT NULL
);

CREATE FUNCTION audit_fence() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job jobs%ROWTYPE;
    written jsonb := to_jsonb(NEW);
    attempt int := coalesce(written->>'attempt', written->>'number')::int;
BEGIN
    SELECT * INTO job FROM jobs WHERE id = NEW.job_id;
    IF job.attempt <> attempt OR (TG_ARGV[0] = 'while running' AND job.phase <> 'running') THEN
        INSERT INTO audit (invariant, what) VALUES ('I3', format(
            'attempt %s of job %s wrote to %s while attempt %s was %s',
            attempt, job.id, TG_TABLE_NAME, job.attempt, job.phase));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION audit_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (invariant, what) VALUES ('I7', format(
        'job %s went from %s to %s', OLD.id, OLD.phase, NEW.phase));
    RETURN NEW;
END $$;

CREATE TRIGGER audit_artifacts BEFORE INSERT OR UPDATE ON artifacts
    FOR EACH ROW EXECUTE FUNCTION audit_fence('while running');
CREATE TRIGGER audit_relayed BEFORE UPDATE OF relayed ON attempts
    FOR EACH ROW EXECUTE FUNCTION audit_fence('while running');
CREATE TRIGGER audit_said BEFORE INSERT ON events
    FOR EACH ROW WHEN (NEW.attempt IS NOT NULL AND NEW.type NOT LIKE 'job.%')
    EXECUTE FUNCTION audit_fence('while running');
CREATE TRIGGER audit_moved BEFORE INSERT ON events
    FOR EACH ROW WHEN (NEW.attempt IS NOT NULL AND NEW.type LIKE 'job.%')
    EXECUTE FUNCTION audit_fence('in any phase');
CREATE TRIGGER audit_terminal BEFORE UPDATE ON jobs
    FOR EACH ROW WHEN (OLD.phase IN ('succeeded', 'failed', 'cancelled') AND (
        NEW.phase <> OLD.phase OR NEW.attempt <> OLD.attempt
        OR NEW.result IS DISTINCT FROM OLD.result OR NEW.finished_at <> OLD.finished_at))
    EXECUTE FUNCTION audit_end();
"""


def install(url: str) -> None:
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo) as connection:
        connection.execute(AUDIT)
