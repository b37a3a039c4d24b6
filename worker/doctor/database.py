"""Postgres: reachable, new enough, on the right schema, and writing to its disk."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from worker.doctor.findings import Finding, error, ok, skipped, warning
from worker.doctor.numbers import release
from worker.doctor.settings import DoctorSettings
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.migrate import expected_heads, found_heads
from worker.ledger.session import Ledger

OLDEST_MAJOR: Final = 16
SKEW_WARNING_SECONDS: Final = 2.0
SKEW_ERROR_SECONDS: Final = 60.0
SCHEME: Final = "postgresql+psycopg://"
ADDRESS: Final = f"{SCHEME}USER:PASSWORD@HOST:5432/stillhouse"

DURABILITY: Final = ("fsync", "full_page_writes", "synchronous_commit")
REFUSALS: Final = {
    "password authentication failed": "Correct user and password in KD_DATABASE_URL.",
    "does not exist": "Create the role and its database, or correct KD_DATABASE_URL.",
    "too many clients": "Raise max_connections of Postgres, or run fewer workers.",
    "could not translate host name": "Correct the host in KD_DATABASE_URL, or mend name service.",
}
UNREACHABLE: Final = "Start Postgres; check host, port and firewall of KD_DATABASE_URL."


def check_database(settings: DoctorSettings) -> Iterable[Finding]:
    if settings.database_url is None:
        yield error("KD_DATABASE_URL is not set", f"Set it: {ADDRESS}")
        return
    started = monotonic()
    try:
        with _session(settings.database_url.get_secret_value()) as session:
            yield from _look(session, started)
    except ArgumentError:
        yield error("KD_DATABASE_URL is no address of a database", f"Its form is {ADDRESS}")
    except LedgerUnavailable as unavailable:
        reason = _reason(unavailable)
        remedy = next((told for part, told in REFUSALS.items() if part in reason), UNREACHABLE)
        yield error(f"the database does not answer: {reason}", remedy)


def check_clock(settings: DoctorSettings) -> Iterable[Finding]:
    """Leases do not depend on it; signatures of S3, times in the log and in the MLflow UI do."""
    if settings.database_url is None:
        return [skipped("compared with the database's, which is not set")]
    try:
        with _session(settings.database_url.get_secret_value()) as session:
            session.execute(text("SELECT 1"))  # connecting is not part of what is measured
            before = time()
            theirs = session.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
            after = time()
    except (ArgumentError, LedgerUnavailable):
        return [skipped("compared with the database's, which does not answer")]
    assert theirs is not None
    return [_skew(theirs - (before + after) / 2, (after - before) / 2)]


def _skew(ahead: float, uncertainty: float) -> Finding:
    """``ahead``: seconds by which the database's clock is ahead of ours."""
    apart = max(0.0, abs(ahead) - uncertainty)
    if apart < SKEW_WARNING_SECONDS:
        return ok(f"within {apart + uncertainty:.3f} s of the database's clock")
    direction = "behind" if ahead > 0 else "ahead of"
    message = f"this machine's clock is {apart:.1f} s {direction} the database's"
    remedy = "Run a time service (chrony, systemd-timesyncd) on both machines."
    return (error if apart > SKEW_ERROR_SECONDS else warning)(message, remedy)


def _look(session: Session, started: float) -> Iterator[Finding]:
    version: str = session.scalar(text("SHOW server_version")) or ""
    milliseconds = 1000 * (monotonic() - started)
    yield ok(f"Postgres {version} answers; connecting took {milliseconds:.0f} ms")
    if release(version)[:1] < (OLDEST_MAJOR,):
        yield warning(
            f"Postgres {version} is older than what Stillhouse is tested with",
            f"Upgrade to Postgres {OLDEST_MAJOR} or newer.",
        )
    for name in DURABILITY:
        if session.scalar(text(f"SHOW {name}")) == "off":
            yield error(
                f"{name} is off: a power cut can lose jobs that were accepted, or the database",
                f"Set {name} = on in postgresql.conf and restart Postgres.",
            )
    yield _schema(found_heads(session), expected_heads())


def _schema(found: set[str], expected: Iterable[str]) -> Finding:
    wanted = set(expected)
    if found == wanted:
        return ok(f"the schema is current ({', '.join(sorted(found))})")
    standing = ", ".join(sorted(found)) or "empty"
    return error(
        f"the schema is {standing}, this version needs {', '.join(sorted(wanted))}",
        "Run python -m worker.ledger.migrate with this version; if the schema is newer than the "
        "code, run the newer code.",
    )


@contextmanager
def _session(url: str) -> Iterator[Session]:
    """Raises ArgumentError, LedgerUnavailable."""
    if not url.startswith(SCHEME):
        raise ArgumentError("not an address of Postgres")
    ledger = Ledger(url, pool_size=1)
    try:
        with ledger.unit_of_work() as session:
            yield session
    finally:
        ledger.close()


def _reason(unavailable: LedgerUnavailable) -> str:
    """The driver's own words, which name host and user and never the password."""
    cause = getattr(unavailable.__cause__, "orig", None) or unavailable.__cause__
    lines = str(cause or unavailable.message).strip().splitlines()
    return lines[-1].strip() if lines else unavailable.message
