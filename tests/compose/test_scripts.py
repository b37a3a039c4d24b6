"""The shell scripts beside the images, run as they are."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
HOLD = "import os, sys; print(os.environ['KD_WORK_DIR'], flush=True); sys.stdin.read()"


def make_secrets(file: Path) -> dict[str, str]:
    subprocess.run([DOCKER / "secrets.sh", file], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


def test_secrets_are_made_once(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    made = make_secrets(file)
    assert all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in made.values())
    assert len(set(made.values())) == len(made) >= 6
    assert file.stat().st_mode & 0o077 == 0
    assert make_secrets(file) == made


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("API_PORT=9000\nMLFLOW_PASSWORD=chosen\nREDIS_PASSWORD=")
    made = make_secrets(file)
    assert made["API_PORT"] == "9000"
    assert made["MLFLOW_PASSWORD"] == "chosen"
    assert len(made["REDIS_PASSWORD"]) == 48


class Seats:
    """Commands on seats below one folder, each with a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: list[subprocess.Popen[str]] = []

    def take(self, *, first: str = "") -> tuple[subprocess.Popen[str], Path]:
        """A process that holds a seat, having run the Python line ``first``; and the seat."""
        process = subprocess.Popen(
            [DOCKER / "seat.sh", sys.executable, "-c", first + HOLD],
            env={"PATH": "/usr/bin:/bin", "KD_SEATS": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.held.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    def free(self) -> None:
        for process in self.held:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def seats(tmp_path: Path) -> Iterator[Seats]:
    assert shutil.which("flock"), "util-linux, which every Debian has"
    seats = Seats(tmp_path / "runs")
    yield seats
    seats.free()


def test_no_two_workers_share_a_seat(seats: Seats) -> None:
    taken = [seats.take()[1] for _ in range(3)]
    assert taken == [seats.folder / number for number in "012"]


def test_a_killed_workers_seat_is_taken_over_with_what_lies_there(seats: Seats) -> None:
    first, seat = seats.take()
    (seat / "runs").mkdir()
    (seat / "tmp/left").touch()
    first.kill()
    first.wait()
    assert seats.take()[1] == seat
    assert (seat / "runs").is_dir()
    assert not (seat / "tmp/left").exists()


def test_a_child_does_not_hold_the_seat_of_its_dead_worker(seats: Seats) -> None:
    """A trainer that takes a moment to die must not cost the next worker its folder."""
    worker, seat = seats.take(first="import subprocess; subprocess.Popen(['sleep', '60']); ")
    worker.kill()
    worker.wait()
    assert seats.take()[1] == seat
