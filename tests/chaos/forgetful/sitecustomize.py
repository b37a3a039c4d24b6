"""Keeps a journal of what was synced to disk, in every Python process that finds this on its path.

A line is ``file INODE SIZE MTIME_NS`` for a file, and ``entry FOLDER_INODE INODE NAME`` for each entry of a
folder. `tests.chaos.power` reads it when the power goes.
"""

import os
import stat

JOURNAL = os.environ.get("STILLHOUSE_SYNCED")
really_sync = os.fsync


def sync(descriptor: int) -> None:
    really_sync(descriptor)
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        with os.scandir(descriptor) as entries:
            lines = [f"entry {found.st_ino} {entry.inode()} {entry.name}" for entry in entries]
    else:
        lines = [f"file {found.st_ino} {found.st_size} {found.st_mtime_ns}"]
    # One write of one descriptor that appends: lines of several processes do not mix.
    os.write(journal, "".join(f"{line}\n" for line in lines).encode())


if JOURNAL:
    journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    os.fsync = sync
