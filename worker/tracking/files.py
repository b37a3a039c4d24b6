"""A job's files on the tracking server: copies of the small ones, links to where the others are."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import structlog
from mlflow.exceptions import MlflowException
from requests import HTTPError

from worker.artifacts import ArtifactCorrupt, ArtifactError, ArtifactMissing, ArtifactStore
from worker.ledger.files import FileRef
from worker.ledger.projection import PendingRun
from worker.ledger.views import ArtifactView
from worker.tracking.names import accepted_name
from worker.tracking.refusals import first_line, is_refusal
from worker.tracking.runs import Runs

log = structlog.get_logger()
COPIED_BYTES_MAX: Final = 10 << 20
COPIED_FILES_MAX: Final = 100
LINKS_MAX: Final = 50
LINK_PREFIX: Final = "stillhouse.file."
WAITED_OUT: Final = frozenset({401, 403, 408, 429, *range(500, 600)})
"""HTTP statuses that an operator or time may change."""


class FilesWait(Exception):
    """Neither sent nor refused: the store, or that of the server, may be back the next time."""


@dataclass(frozen=True)
class Files:
    """``address`` is that of ``store``, a URL: ``file:///…`` or ``s3://bucket/prefix``."""

    runs: Runs
    store: ArtifactStore
    address: str

    def show(self, run_id: str, run: PendingRun, files: Iterable[ArtifactView]) -> dict[str, str]:
        """Sends copies; the tags that are links to the rest. Raises FilesWait, MlflowException.

        What is refused for ever is linked to as well.
        """
        files = list(files)
        copied = _small(files) if self.runs.takes_files(run_id) else []
        sent = {file.path for file in copied if self._send(run_id, run, file)}
        return self.link(file for file in files if file.path not in sent)

    def link(self, files: Iterable[ArtifactView]) -> dict[str, str]:
        """Tags, at most `LINKS_MAX`, that say where the files are."""
        return {
            accepted_name(f"{LINK_PREFIX}{file.path}"): self._address(file)
            for file in list(files)[:LINKS_MAX]
        }

    def _send(self, run_id: str, run: PendingRun, file: ArtifactView) -> bool:
        path = PurePosixPath(file.path)
        folder = "" if path.parent == PurePosixPath() else str(path.parent)
        try:
            with tempfile.TemporaryDirectory(prefix="stillhouse-") as scratch:
                local = Path(scratch, path.name)
                self.store.fetch(FileRef(file.sha256, file.size), local)
                self.runs.log_file(run_id, local, folder)
        except (MlflowException, ArtifactError, OSError) as error:
            if not _is_final(error):
                raise FilesWait(f"{file.path}: {first_line(error)}") from error
            log.warning("tracking.file_refused", job=str(run.id), reason=first_line(error))
            return False
        return True

    def _address(self, file: ArtifactView) -> str:
        return f"{self.address.rstrip('/')}/sha256/{file.sha256[:2]}/{file.sha256}"


def _small(files: Iterable[ArtifactView]) -> list[ArtifactView]:
    return [file for file in files if file.size <= COPIED_BYTES_MAX][:COPIED_FILES_MAX]


def _is_final(error: MlflowException | ArtifactError | OSError) -> bool:
    match error:
        case MlflowException():
            return is_refusal(error)
        case HTTPError() if error.response is not None:
            return error.response.status_code not in WAITED_OUT
        case _:
            return isinstance(error, ArtifactMissing | ArtifactCorrupt)
