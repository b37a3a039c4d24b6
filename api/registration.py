"""Registering a dataset: validate its files, store them, then make the revision known."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

import structlog

from api.problems import Refusal, Slug
from api.roots import resolve_root, stays_below_one
from api.scanning import Scanned, scan
from api.settings import Settings
from api.thumbnails import store_thumbnails
from kdcore.spec import DatasetSource
from kdcore.spec.dataset import FileEntry
from worker.artifacts import ArtifactStore
from worker.ledger import datasets, thumbnails
from worker.ledger.datasets import Revision
from worker.ledger.session import Ledger

log = structlog.get_logger()
PUTS: Final = 8


class Registrar:
    """One for each process; at most ``settings.scans`` registrations run at a time."""

    def __init__(self, settings: Settings, ledger: Ledger, store: ArtifactStore) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._slots = threading.BoundedSemaphore(settings.scans)

    def register(self, source: DatasetSource, *, owner: str) -> tuple[Revision, bool]:
        """The revision that holds exactly these files, and whether it is new.

        Raises:
            Refusal: the root is not allowed, files are bad, or too many scans run already.
        """
        root = resolve_root(source.root, self._settings.dataset_roots)
        source = source.model_copy(update={"root": str(root)})
        if not self._slots.acquire(blocking=False):
            raise Refusal(Slug.BUSY, "Other datasets are being validated; try again.")
        try:
            with self._scan(source) as scanned:
                self._store_files(scanned)
                pictures = store_thumbnails(scanned, self._store, each=self._settings.thumbnails)
        finally:
            self._slots.release()
        # Files first: a revision that is known always has its content.
        with self._ledger.unit_of_work() as session:
            revision, created = datasets.register(
                session, owner=owner, source=source, manifest=scanned.manifest
            )
            thumbnails.keep(session, revision_id=revision.id, thumbnails=pictures)
        log.info(
            "dataset.registered", dataset=source.name, revision=revision.number, created=created
        )
        return revision, created

    def _scan(self, source: DatasetSource) -> AbstractContextManager[Scanned]:
        settings = self._settings
        return scan(
            source,
            settings.scanner,
            seconds=settings.scan_seconds,
            thumbnails=settings.thumbnails,
        )

    def _store_files(self, scanned: Scanned) -> None:
        # Several at once: for many small files the way takes longer than the bytes.
        with ThreadPoolExecutor(PUTS, "put") as pool:
            for _ in pool.map(partial(self._store_file, scanned), scanned.manifest.files()):
                pass

    def _store_file(self, scanned: Scanned, entry: FileEntry) -> None:
        roots = [scanned.root] if scanned.converted else self._settings.dataset_roots
        path = scanned.root / entry.path
        try:
            # A link may have been put in its place since the scan.
            allowed = stays_below_one(path, roots)
            found = self._store.put(path) if allowed else None
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            found = None
        if found is None or (found.sha256, found.size) != (entry.sha256, entry.size):
            raise Refusal(
                Slug.DATASET_CHANGED, f"{entry.path} changed while it was being registered."
            )
