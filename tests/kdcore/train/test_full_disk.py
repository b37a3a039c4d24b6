"""A run on a file system that is really full: it says so, loses nothing, and goes on later."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kdcore.run.directory import read_outcome, run_directory
from kdcore.spec.outcome import FailureKind
from kdcore.spec.rundir import EVENTS
from kdcore.train.checkpoint import load_checkpoint
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.train.test_resume import assert_bit_equal

DISK_MIB = 48
CHECKPOINTED = b'"type":"checkpoint"'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB in memory; gone again whatever happens."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a file system needs Linux and root")
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs"]
    mounted = subprocess.run(
        ["mount", *options, folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process that still holds it must not keep it mounted.
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 2**20], ids=["nothing left", "less than a checkpoint left"])
def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(
    lay_out: LayOut, fit_spec: FitSpec, disk: Path, left: int
) -> None:
    spec = {**fit_spec, "train": {**fit_spec["train"], "steps": 30}}
    undisturbed, run = lay_out("undisturbed", spec), lay_out(str(disk / "run"), spec)
    assert run_directory(undisturbed).status == "succeeded"

    log = disk.with_name("run.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kdcore", "run", str(run)], stdout=output, stderr=output
        )
        try:
            pause_at_checkpoint(run, process)
            fill(disk / "ballast", left)
            process.send_signal(signal.SIGCONT)
            assert process.wait(timeout=60) == 1
        finally:
            process.kill()
            process.wait()

    told = log.read_text()
    assert json.loads(told[told.index("{\n") :])["kind"] == FailureKind.DISK_FULL
    ended = read_outcome(run)
    if left:
        assert ended is not None, "there is room for an outcome, and it is written"
        assert ended.failure is not None
        assert (ended.status, ended.failure.kind) == ("failed", FailureKind.DISK_FULL)
    assert not list(run.rglob("*.partial"))
    state = load_checkpoint(run, device=torch.device("cpu"))
    assert state is not None
    assert 0 < state["step"] < 30

    (disk / "ballast").unlink()
    assert run_directory(run).status == "succeeded"
    assert_bit_equal(undisturbed, run)


def pause_at_checkpoint(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Stop the process (SIGSTOP) once it has written a checkpoint of its training."""
    events = run / EVENTS
    while process.poll() is None:
        if events.exists() and events.read_bytes().count(CHECKPOINTED) > 1:
            process.send_signal(signal.SIGSTOP)
            return
        time.sleep(0.005)
    pytest.fail("the run ended before it had written a checkpoint")


def fill(path: Path, left: int) -> None:
    """Until the file system has no byte to give; then give ``left`` back."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
        file.truncate(file.tell() - left)
