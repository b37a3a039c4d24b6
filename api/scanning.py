"""Runs the scanner, which reads untrusted images, as a child process of its own."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import ValidationError

from api.problems import FieldError, Refusal, Slug
from kdcore.spec import DatasetManifest, DatasetSource

EXIT_INVALID: Final = 2
OUTPUT_BYTES: Final = 256 * 1024 * 1024

log = structlog.get_logger()

_SECRET_PREFIXES: Final = ("KD_", "PG", "AWS_", "MLFLOW_", "OTEL_")


@dataclass(frozen=True)
class Scanned:
    """``root`` is where the paths of the manifest start: the source's, or ours if ``converted``.

    ``thumbnails`` holds the small pictures that were asked for, at `thumbnail_path`.
    """

    manifest: DatasetManifest
    root: Path
    converted: bool
    thumbnails: Path


@contextmanager
def scan(
    source: DatasetSource, command: Sequence[str], *, seconds: float, thumbnails: int = 0
) -> Iterator[Scanned]:
    """Validate every file of ``source``; make small pictures of ``thumbnails`` samples of a split.

    Those, and the files that its layout is converted to, go with the context.

    Raises:
        Refusal: `invalid-dataset` with every bad file; `scan-failed` when the scanner crashed,
            wrote nonsense or took longer than ``seconds``.
    """
    with tempfile.TemporaryDirectory(prefix="scan-") as folder:
        given, out = Path(folder, "source.json"), Path(folder, "manifest.json")
        given.write_text(json.dumps(source.to_json()), encoding="utf-8")
        called = [*command, str(given), "--out", str(out)]
        root = Path(source.root)
        if source.layout.converts:
            root = Path(folder, "converted")
            called += ["--converted", str(root)]
        pictures = Path(folder, "thumbnails")
        if thumbnails:
            called += ["--thumbnails", str(pictures), "--thumbnails-each", str(thumbnails)]
        status = _run(called, folder, seconds=seconds)
        answer = _read(out) if status in (0, EXIT_INVALID) else None
        manifest = _manifest(source, status, answer)
        yield Scanned(manifest, root, source.layout.converts, pictures)


def _manifest(source: DatasetSource, status: int, answer: Any) -> DatasetManifest:
    if status == EXIT_INVALID and isinstance(answer, dict):
        raise _invalid(answer.get("errors"))
    try:
        if status == 0:
            return DatasetManifest.model_validate(answer)
    except ValidationError as error:
        log.warning("dataset.scan_garbled", dataset=source.name, errors=error.error_count())
    log.error("dataset.scan_failed", dataset=source.name, exit_status=status)
    raise Refusal(
        Slug.SCAN_FAILED,
        f"The scanner of the dataset ended with status {status} and no verdict on the files.",
    )


def _run(command: list[str], folder: str, *, seconds: float) -> int:
    # Its own session: a decoder's children die with it. Nothing that holds credentials.
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(_SECRET_PREFIXES)
    }
    with Path(folder, "log.txt").open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        try:
            return child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            log.warning("dataset.scan_timed_out", seconds=seconds)
            raise Refusal(
                Slug.SCAN_FAILED, f"The files could not be validated within {seconds:.0f} s."
            ) from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > OUTPUT_BYTES:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _invalid(errors: Any) -> Refusal:
    listed = [
        FieldError(file=str(entry.get("file")), reason=str(entry.get("reason")))
        for entry in (errors if isinstance(errors, list) else [])
        if isinstance(entry, dict)
    ]
    count = f"{len(listed)} file{'s' if len(listed) != 1 else ''}"
    return Refusal(Slug.INVALID_DATASET, f"The dataset is refused for {count}.", errors=listed)
