"""A power cut: what was not synced is gone, in the folder of a store.

The disk here is as forgetful as POSIX allows: bytes that no `fsync` of their file followed are lost, and
so is a name whose folder was not synced after it was made. Postgres' own files are left alone.
"""

import os
import shutil

from tests.chaos.cluster import Cluster


def cut(cluster: Cluster) -> list[str]:
    """SIGKILL for API and workers, then the disk forgets; the names of what it forgot."""
    cluster.api.kill()
    for worker in cluster.workers:
        cluster.kill_worker(worker)
    synced = set(cluster.journal.read_text().splitlines())
    forgotten = []
    # The two top folders of a store are made once, long before: the walk begins in them.
    for path in sorted((cluster.store.root / "sha256").rglob("*"), reverse=True):
        if path in cluster.given:
            continue
        found, folder = path.stat(), path.parent.stat()
        if f"entry {folder.st_ino} {found.st_ino} {path.name}" not in synced:
            forgotten.append(path.name)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.is_file() and _state(found) not in synced:
            forgotten.append(path.name)
            path.write_bytes(b"")
    return forgotten


def _state(found: os.stat_result) -> str:
    return f"file {found.st_ino} {found.st_size} {found.st_mtime_ns}"
