"""Laying out a run directory: everything `kdcore.spec.rundir` promises a trainer."""

import errno
import json
import shutil
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from kdcore.spec import FailureKind, rundir
from kdcore.spec.dataset import FileEntry
from worker.artifacts import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    ArtifactStore,
    StorageFull,
    StorageUnavailable,
)
from worker.ledger.files import FileRef
from worker.ledger.jobs import Checkpoint, Claim
from worker.supervisor.blobs import BlobCache
from worker.supervisor.failing import AttemptFailed
from worker.supervisor.patience import aside, patience_with, patiently

log = structlog.get_logger()
FETCHES = 8


class Layout:
    """Lays out runs below ``runs``, a folder that no other supervisor uses; thread-safe."""

    def __init__(
        self,
        runs: Path,
        *,
        store: ArtifactStore,
        cache: BlobCache,
        reserve_bytes: int,
        patience_seconds: float,
    ) -> None:
        """``patience_seconds``: how long a store that is away is waited for."""
        self._runs = runs
        self._store = store
        self._cache = cache
        self._reserve_bytes = reserve_bytes
        self._patience_seconds = patience_with(store, patience_seconds)
        self._lock = threading.Lock()  # between bringing a file and linking it, nobody drops it

    def lay_out(self, run: Path, claim: Claim, *, check: Callable[[], None]) -> None:
        """Write spec, dataset, models and the last checkpoint that is whole.

        ``check`` is called between files and raises to stop. Raises AttemptFailed.
        """
        try:
            run.mkdir(parents=True)
            self._make_room(claim)
            self._bring(_inputs(claim), check)
            self._link_dataset(run, claim, check)
            self._link_models(run, claim, check)
            self._restore_checkpoint(run, claim, check)
            # Last: a directory with a spec is a directory that can be run.
            (run / rundir.SPEC).write_text(json.dumps(claim.spec, ensure_ascii=False))
        except StorageFull as error:
            raise AttemptFailed(
                FailureKind.DISK_FULL, error.message, remedy=error.remedy
            ) from error
        except StorageUnavailable as error:
            raise AttemptFailed(
                FailureKind.STORAGE_ERROR, error.message, remedy=error.remedy
            ) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = FailureKind.DISK_FULL if full else FailureKind.STORAGE_ERROR
            raise AttemptFailed(kind, f"the run directory: {error}") from error

    def _make_room(self, claim: Claim) -> None:
        restored = claim.checkpoint.files.values() if claim.checkpoint else ()
        needed = (
            self._cache.missing_bytes(_inputs(claim))
            + sum(file.size for file in restored)
            + self._reserve_bytes
        )
        if self._cache.free_bytes() < needed:
            with self._lock:
                own = {ref.sha256 for ref in _inputs(claim)}
                self._cache.drop(but=own | _linked(self._runs))
        free = self._cache.free_bytes()
        if free < needed:
            raise AttemptFailed(
                FailureKind.DISK_FULL,
                f"the run needs {needed:,} bytes on the worker's disk and {free:,} are free",
                remedy="Free space below KD_WORK_DIR, or lower KD_RESERVE_BYTES",
            )

    def _bring(self, refs: Collection[FileRef], check: Callable[[], None]) -> None:
        """Several at once: for many small files the way takes longer than the bytes.

        What fails here fails again, and is told, when the file is linked.
        """
        stopped = threading.Event()

        def bring(ref: FileRef) -> None:
            if not stopped.is_set():
                self._cache.get(ref)

        def bring_all() -> None:
            with ThreadPoolExecutor(FETCHES, "fetch") as pool:
                for _ in pool.map(bring, refs):
                    pass

        try:
            aside(bring_all, check=check)
        except ArtifactError as error:
            log.warning("store.waits", reason=error.message, remedy=error.remedy)
        finally:
            stopped.set()

    def _link_dataset(self, run: Path, claim: Claim, check: Callable[[], None]) -> None:
        folder = run / rundir.DATASET
        folder.mkdir(parents=True)
        for entry in claim.manifest.files():
            check()
            ref = _ref(entry)
            try:
                self._link(folder / entry.path, ref, check)
            except ArtifactMissing as error:
                raise AttemptFailed(
                    FailureKind.INPUT_MISSING, f"dataset file {entry.path}: {error.message}"
                ) from error
            except ArtifactCorrupt as error:
                raise AttemptFailed(
                    FailureKind.DATASET_CHANGED, f"dataset file {entry.path}: {error.message}"
                ) from error
        (run / rundir.DATASET_MANIFEST).write_text(
            json.dumps(claim.manifest.to_json(), ensure_ascii=False)
        )

    def _link_models(self, run: Path, claim: Claim, check: Callable[[], None]) -> None:
        for path, files in claim.inputs.items():
            for name, ref in files.items():
                check()
                try:
                    self._link(run / path / name, ref, check)
                except (ArtifactMissing, ArtifactCorrupt) as error:
                    raise AttemptFailed(
                        FailureKind.INPUT_MISSING, f"model file {path}/{name}: {error.message}"
                    ) from error

    def _link(self, path: Path, ref: FileRef, check: Callable[[], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._cache.holds(ref):
            self._patiently(lambda: self._cache.get(ref), check)
        with self._lock:
            path.symlink_to(self._cache.get(ref).absolute())

    def _patiently(self, action: Callable[[], object], check: Callable[[], None]) -> None:
        patiently(action, check=check, seconds=self._patience_seconds)

    def _restore_checkpoint(self, run: Path, claim: Claim, check: Callable[[], None]) -> None:
        """The newest published checkpoint, or the one before; without any, the run starts anew."""
        for checkpoint in (claim.checkpoint, claim.older_checkpoint):
            if checkpoint is None:
                return
            check()
            try:
                self._fetch_checkpoint(run, checkpoint, check)
                return
            except (ArtifactMissing, ArtifactCorrupt) as error:
                log.warning(
                    "checkpoint.unusable",
                    job=str(claim.job_id),
                    attempt=claim.attempt,
                    step=checkpoint.step,
                    reason=error.message,
                )
                shutil.rmtree(run / rundir.checkpoint_folder(checkpoint.step), ignore_errors=True)

    def _fetch_checkpoint(
        self, run: Path, checkpoint: Checkpoint, check: Callable[[], None]
    ) -> None:
        def manifest_last(item: tuple[str, FileRef]) -> bool:
            return Path(item[0]).name == rundir.CHECKPOINT_MANIFEST

        for path, ref in sorted(checkpoint.files.items(), key=manifest_last):
            self._patiently(partial(self._store.fetch, ref, run / path), check)


def _inputs(claim: Claim) -> set[FileRef]:
    models = (ref for files in claim.inputs.values() for ref in files.values())
    return {*map(_ref, claim.manifest.files()), *models}


def _ref(entry: FileEntry) -> FileRef:
    return FileRef(sha256=entry.sha256, size=entry.size)


def _linked(runs: Path) -> set[str]:
    """Digests that some run directory points to."""
    links = (path for run in runs.glob("*/a*/inputs") for path in run.rglob("*"))
    return {path.readlink().name for path in links if path.is_symlink()}
