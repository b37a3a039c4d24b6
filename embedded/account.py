"""Postgres refuses to run as root; as whom it runs then, and how that one gets to its files."""

import os
import pwd
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import PostgresFailed

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int


def postgres_account(data: Path) -> Account | None:
    """Who runs the server: None for ourselves; for root an unprivileged one.

    The owner of the data if there are any, so that a user made later changes nothing.
    """
    if os.geteuid() != 0:
        return None
    if data.exists():
        found = data.stat()
        if found.st_uid != 0:
            return Account(found.st_uid, found.st_gid)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise PostgresFailed(f"Postgres cannot run as root, and none of {CANDIDATES} exists here")


def make_reachable(folder: Path, program: Path, account: Account) -> None:
    """Hands ``folder`` to the account and opens the way to it and to the program.

    The way is opened by the search permission alone (o+x) on parents that lack it: what is inside
    them stays as closed as it was, and their contents cannot be listed.
    """
    os.chown(folder, account.uid, account.gid)
    folder.chmod(0o700)
    for path in (folder, program):
        for parent in path.parents:
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                print(f"postgres runs as uid {account.uid}: chmod o+x {parent}", file=sys.stderr)
                parent.chmod(mode | stat.S_IXOTH)
    if not _runs(program, account):
        # Installed under a strict umask: the package's own files are not readable either.
        for path in (program.parent.parent, *program.parent.parent.rglob("*")):
            extra = stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0)
            path.chmod(path.stat().st_mode | extra)
        if not _runs(program, account):
            raise PostgresFailed(f"uid {account.uid} cannot run {program}")


def _runs(program: Path, account: Account) -> bool:
    try:
        return (
            subprocess.run(
                [str(program), "--version"],
                capture_output=True,
                check=False,
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                cwd="/",
            ).returncode
            == 0
        )
    except OSError:
        return False
