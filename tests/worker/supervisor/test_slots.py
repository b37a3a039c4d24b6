"""What a worker has and what is taken of it."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.worker.ledger import making
from worker.ledger.jobs import Claim, Offer
from worker.settings import WorkerSettings
from worker.supervisor.machine import gpu_ids, memory_bytes
from worker.supervisor.slots import Slots

GIB = 1 << 30


def test_what_is_taken_is_not_offered(tmp_path: Path) -> None:
    slots = Slots(settings(tmp_path, cpu_slots=1, gpus="0,1,2", memory_gib=8, labels="a b"))
    assert len(slots) == 4
    assert slots.offer() == Offer(1, 3, 3, 8 * GIB, ("a", "b"))
    on_cpu = slots.take(claim(memory_bytes=GIB))
    large = slots.take(claim(gpus=2, memory_bytes=2 * GIB))
    assert (on_cpu.gpus, large.gpus) == ((), ("0", "1"))
    assert slots.offer() == Offer(0, 1, 3, 5 * GIB, ("a", "b"))
    last = slots.take(claim(gpus=1))
    assert last.gpus == ("2",)
    assert slots.offer().empty
    slots.give_back(large)
    assert slots.take(claim(gpus=1)).gpus == ("0",)


def test_where_no_gpus_are_dealt_out_a_trainer_sees_what_there_is(tmp_path: Path) -> None:
    assert Slots(settings(tmp_path)).take(claim()).gpus is None


def test_memory_is_that_of_the_container_if_that_is_less(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal:       16384 kB\nMemFree:  1 kB\n")
    assert memory_bytes(meminfo=meminfo, limits=[limit]) == 16 << 20
    limit.write_text("max\n")
    assert memory_bytes(meminfo=meminfo, limits=[limit]) == 16 << 20
    limit.write_text("1048576\n")
    assert memory_bytes(meminfo=meminfo, limits=[limit]) == 1 << 20
    assert memory_bytes(meminfo=tmp_path / "none", limits=[]) is None


def test_gpus_are_named_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_ids(()) == ()
    assert gpu_ids(("3", "GPU-ab")) == ("3", "GPU-ab")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 4")
    assert gpu_ids(("auto",)) == ("1", "4")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_ids(("auto",)) == ()
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 0\necho 1\n")
    smi.chmod(0o755)
    assert gpu_ids(("auto",)) == ("0", "1")
    smi.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert gpu_ids(("auto",)) == ()


def settings(folder: Path, **changes: Any) -> WorkerSettings:
    return WorkerSettings(
        database_url=SecretStr("postgresql+psycopg://"),
        work_dir=folder,
        artifacts_dir=folder,
        **changes,
    )


def claim(**changes: Any) -> Claim:
    return Claim(
        job_id=uuid4(),
        attempt=1,
        owner=making.OWNER,
        kind="fit",
        spec={},
        manifest=making.manifest(),
        inputs={},
        checkpoint=None,
        **changes,
    )
