"""What is counted, what is compared with what is free, and the batch that would fit."""

from pathlib import Path

import pytest
import torch

from kdcore.errors import OutOfMemory
from kdcore.run.preflight.free_memory import free_bytes, host_free_bytes
from kdcore.run.preflight.live_bytes import LiveBytes
from kdcore.run.preflight.memory import MemoryEstimate, check_memory, too_large
from kdcore.spec.outcome import FailureKind

NEEDED = MemoryEstimate(
    batch=8, gradients=10, optimizer=20, copies=20, samples=50, activations=800
)  # fmt: skip


def test_the_sum_of_all_parts() -> None:
    assert NEEDED.total == 900
    assert NEEDED.values() == {
        "memory/gradients": 10, "memory/optimizer": 20, "memory/copies": 20, "memory/samples": 50,
        "memory/activations": 800, "memory/needed": 900,
    }  # fmt: skip


@pytest.mark.parametrize("free", [900, 10**9, None])
def test_it_fits_or_nobody_knows(free: int | None) -> None:
    check_memory(NEEDED, free=free)


@pytest.mark.parametrize(
    ("free", "remedy"),
    [(899, "a batch of 7 fits"), (500, "a batch of 4 fits"), (200, "a batch of 1 fits"),
     (199, "no batch fits"), (0, "no batch fits")],
)  # fmt: skip
def test_it_does_not_fit(free: int, remedy: str) -> None:
    with pytest.raises(OutOfMemory) as caught:
        check_memory(NEEDED, free=free)
    assert caught.value.kind == FailureKind.OUT_OF_MEMORY
    assert caught.value.field == "train.batch"
    assert remedy in str(caught.value.remedy)


def test_where_the_device_refuses_against_the_estimate_a_smaller_batch_is_named() -> None:
    assert too_large(NEEDED, 10**9).remedy == "a batch of 7 fits"


def test_live_bytes_are_counted_once_and_let_go() -> None:
    there = torch.zeros(1000)
    live = LiveBytes()
    with live:
        one = there + 1
        views = [there[2:], one.view(10, 100), one[5:]]
        two = one * 2
        del one, views
        three = two + 1
        del two, three
        torch.zeros(10)
    assert live.peak == 8000, "two at a time; the tensor that was there does not count"


def test_live_bytes_see_what_backward_needs() -> None:
    weight = torch.ones(1000, requires_grad=True)
    live = LiveBytes()
    with live:
        loss = weight.exp().exp().sum()
        held = live.peak
        loss.backward()  # type: ignore[no-untyped-call]
    assert held == 8004
    assert 8004 <= live.peak <= 20008


def files(root: Path, **content: str) -> None:
    for name, text in content.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_tightest_limit_of_the_host_counts(tmp_path: Path) -> None:
    assert host_free_bytes(tmp_path) is None
    files(tmp_path, proc__meminfo="MemTotal: 9 kB\nMemAvailable:  4 kB\n")
    assert host_free_bytes(tmp_path) == 4096
    files(tmp_path, proc__self__cgroup="0::/above/own\n")
    group = "sys__fs__cgroup__above__"
    files(tmp_path, **{f"{group}memory_dot_max": "3000\n", f"{group}memory_dot_current": "1200\n"})
    files(tmp_path, **{f"{group}memory_dot_stat": "anon 1000\ninactive_file 200\n"})
    own = f"{group}own__"
    files(tmp_path, **{f"{own}memory_dot_max": "max\n", f"{own}memory_dot_current": "1200\n"})
    assert host_free_bytes(tmp_path) == 2000, "3000 - 1200, of which 200 are page cache"


def test_control_groups_of_the_first_version(tmp_path: Path) -> None:
    files(tmp_path, proc__self__cgroup="4:cpu,memory:/own\n2:pids:/own\n")
    own = "sys__fs__cgroup__memory__own__memory_dot_"
    files(tmp_path, **{f"{own}limit_in_bytes": "500\n", f"{own}usage_in_bytes": "100\n"})
    assert host_free_bytes(tmp_path) == 400


def test_this_host_has_memory() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20
