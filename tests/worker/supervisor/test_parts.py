"""Lease, tail, log snapshots, run folders, memory kills: the parts, without a ledger."""

import os
from pathlib import Path

import pytest

from kdcore.spec import FailureKind
from worker.artifacts import FolderStore
from worker.supervisor.attempt import trainer_environment
from worker.supervisor.failing import AttemptFailed
from worker.supervisor.lease import Lease, LeaseLost
from worker.supervisor.logfile import PUBLISHED_BYTES, LogSnapshots, last_lines
from worker.supervisor.oom import oom_kills
from worker.supervisor.runs import strip, sweep
from worker.supervisor.tail import BATCH_LINES, LINE_BYTES_MAX, EventTail

WARNING = b'{"type":"warning","at":"2026-01-02T03:04:05Z","code":"c","message":"m%d"}\n'


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_lasts_from_when_the_request_was_sent() -> None:
    clock = Clock()
    lease = Lease(fence_seconds=20, sent_at=90.0, clock=clock)
    lease.check()
    clock.now = 110.1
    with pytest.raises(LeaseLost, match=r"20\.1 s"):
        lease.check()
    lease.confirm(100.0)
    lease.check()
    lease.confirm(95.0)  # an older answer that comes later takes nothing back
    clock.now = 120.0
    lease.check()


def test_a_refused_lease_is_not_mended() -> None:
    lease = Lease(fence_seconds=20, sent_at=100.0, clock=Clock())
    lease.lose("attempt 1 no longer holds it")
    lease.confirm(100.0)
    with pytest.raises(LeaseLost, match="no longer holds"):
        lease.check()


def test_a_tail_hands_out_complete_lines_until_they_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.next() is None
    path.write_bytes(WARNING % 1 + (WARNING % 2)[:-5])
    first = tail.next()
    assert first is not None
    assert len(first.events) == 1
    with path.open("ab") as file:
        file.write((WARNING % 2)[-5:])
    assert tail.next() is first  # as it was: the ledger may have it already
    tail.take(first)
    second = tail.next()
    assert second is not None
    assert [event.model_dump()["message"] for event in second.events] == ["m2"]
    tail.take(second)
    assert tail.next() is None
    assert second.upto == tail.size() == path.stat().st_size


def test_a_tail_hands_out_every_line_once_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(WARNING % number for number in range(3 * BATCH_LINES + 1)))
    tail, seen = EventTail(path), []
    while (batch := tail.next()) is not None:
        assert len(batch.events) <= BATCH_LINES
        seen += [event.model_dump()["message"] for event in batch.events]
        tail.take(batch)
    assert seen == [f"m{number}" for number in range(3 * BATCH_LINES + 1)]


@pytest.mark.parametrize(
    "garbage",
    [b"what\n", b"\n", b"{}\n", b"a\rb\n", b'{"type":"metric"}\n', b"\xff\n", b"x" * (2 << 20)],
)
def test_a_garbled_line_comes_after_those_before_it(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(WARNING % 1 + garbage)
    tail = EventTail(path)
    batch = tail.next()
    assert batch is not None
    tail.take(batch)
    with pytest.raises(AttemptFailed) as caught:
        tail.next()
    assert caught.value.failure.kind is FailureKind.TRAINER_GARBLED
    with pytest.raises(AttemptFailed):
        tail.next()
    assert len(garbage) < 100 or len(garbage) > LINE_BYTES_MAX


def test_snapshots_of_a_growing_log_stay_few(tmp_path: Path) -> None:
    snapshots = LogSnapshots(tmp_path, FolderStore(tmp_path / "store"))
    log = tmp_path / "log.txt"
    taken, stored, now = 0, 0, 0.0
    for _ in range(2000):
        with log.open("ab") as file:
            file.write(b"x" * 100)
        now += 1.0
        if snapshots.due(now):
            ref = snapshots.take(now)
            assert ref is not None
            taken, stored = taken + 1, stored + ref.size
    assert taken < 60
    assert not snapshots.due(now + 1) or log.stat().st_size != 200_000


def test_of_a_long_log_the_end_is_published(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    (tmp_path / "log.txt").write_bytes(b"start" + bytes(PUBLISHED_BYTES) + b"end")
    ref = LogSnapshots(tmp_path, store).take(0.0)
    assert ref is not None
    assert ref.size == PUBLISHED_BYTES
    with store.open(ref) as file:
        assert file.read()[-3:] == b"end"


def test_last_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(
        b"\n".join(b"line %d" % number for number in range(99)) + b"\xff"
    )
    assert last_lines(tmp_path / "log").splitlines()[-2] == "line 97"
    assert len(last_lines(tmp_path / "log").splitlines()) == 20


def test_memory_kills_are_read_from_either_kind_of_cgroup(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert oom_kills(root=tmp_path, own=own) is None
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 2\n")
    assert oom_kills(root=tmp_path, own=own) == 2
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/memory.events").write_text("oom 9\noom_kill 1\n")
    assert oom_kills(root=tmp_path, own=own) == 1
    own.write_text("7:cpu,memory:/c\n1:name=systemd:/d\n")
    (tmp_path / "memory/c").mkdir(parents=True)
    (tmp_path / "memory/c/memory.oom_control").write_text("under_oom 0\noom_kill 5\n")
    assert oom_kills(root=tmp_path, own=own) == 5
    assert oom_kills(root=tmp_path, own=tmp_path / "none") is None


def test_a_trainer_is_not_told_our_secrets() -> None:
    ours = {"KD_DATABASE_URL": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "PATH": "/bin"}
    theirs = trainer_environment(ours, slots=1)
    assert "secret" not in theirs.values()
    assert theirs["PATH"] == "/bin"
    assert int(theirs["OMP_NUM_THREADS"]) >= 1
    assert trainer_environment({"OMP_NUM_THREADS": "7"}, slots=1)["OMP_NUM_THREADS"] == "7"


def test_old_runs_are_swept_and_active_ones_are_not(tmp_path: Path) -> None:
    old, active, fresh = (tmp_path / job / "a1" for job in ("old", "active", "fresh"))
    for run in (old, active, fresh):
        (run / "inputs").mkdir(parents=True)
        (run / "log.txt").touch()
        os.utime(run / "log.txt", (0, 0))
        os.utime(run, (0, 0))
    (fresh / "events.jsonl").touch()
    os.utime(fresh, (0, 0))
    assert sweep(tmp_path, active={active}, keep_seconds=60) == [old]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["active", "fresh"]


def test_strip_does_not_follow_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    run = tmp_path / "run"
    (run / "inputs").mkdir(parents=True)
    (run / "inputs/link").symlink_to(kept / "file")
    (run / "folder").symlink_to(kept)
    (run / "log.txt").touch()
    strip(run)
    assert [path.name for path in run.iterdir()] == ["log.txt"]
    assert (kept / "file").exists()
