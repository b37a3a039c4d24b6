"""The one place where transactions begin and end."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import create_engine, func, make_url, select, text
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from worker.ledger.errors import InvalidReference, LedgerUnavailable
from worker.ledger.transitions import CHANNEL

CONNECT_SECONDS = 3
POOL_WAIT_SECONDS = 5.0
SESSION_OPTIONS = {
    "timezone": "UTC",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    # The server's side of `KEEPALIVE`: the locks of a host that vanished are free as soon.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A host that vanished is noticed within about ten seconds, well inside a lease."""


class Ledger:
    """The connections to one database; thread-safe, one for each process."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        """``url`` starts with ``postgresql+psycopg://``. Nothing is connected yet."""
        self._arguments = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "stillhouse",
            "options": " ".join(f"-c {name}={value}" for name, value in SESSION_OPTIONS.items()),
            **KEEPALIVE,
        }
        self._engine = create_engine(
            url,
            connect_args=self._arguments,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
        )
        self._sessions = sessionmaker(self._engine, expire_on_commit=False, autoflush=False)
        self._conninfo = (
            make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        )

    @contextmanager
    def unit_of_work(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises LedgerUnavailable when Postgres is away, restarts or is too busy; a value that
        Postgres cannot hold, such as a NUL character, is an InvalidReference.
        """
        with _translated(), self._sessions() as session:
            yield session
            session.commit()

    def ping(self) -> None:
        """Returns when the database answers; raises LedgerUnavailable when it does not."""
        with self.unit_of_work() as session:
            session.execute(text("SELECT 1"))

    @contextmanager
    def listen(self) -> Iterator["Listener"]:
        """A connection of its own that hears of jobs becoming queued from here on."""
        with (
            _translated(),
            psycopg.connect(
                self._conninfo,
                autocommit=True,
                **self._arguments,  # type: ignore[arg-type]
            ) as connection,
        ):
            connection.execute(f"LISTEN {CHANNEL}")
            yield Listener(connection)

    @contextmanager
    def alone(self, purpose: str) -> Iterator[bool]:
        """Whether no other process is in this block for ``purpose``; it never waits for one.

        The right ends with the block, or with this connection.
        """
        with _translated(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            key = func.hashtext(purpose)
            held = connection.scalar(select(func.pg_try_advisory_lock(key)))
            try:
                yield bool(held)
            finally:
                if held:
                    connection.execute(select(func.pg_advisory_unlock(key)))

    def close(self) -> None:
        self._engine.dispose()


class Listener:
    """A hint, not a promise: what is missed is found by polling."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def wait(self, timeout: float) -> set[str]:
        """Queues that got a job; empty when ``timeout`` seconds passed without one."""
        with _translated():
            notes = self._connection.notifies(timeout=timeout, stop_after=1)
            return {note.payload for note in notes}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError) as error:
        raise LedgerUnavailable("the database does not answer") from error
    except DataError as error:
        raise InvalidReference("a value cannot be stored") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise LedgerUnavailable("the connection to the database was lost") from error
        raise
