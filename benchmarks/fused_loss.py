"""Cross entropy and distillation at the labels' grid from logits of stride 4, against plain torch.

    python -m benchmarks.fused_loss --table benchmarks/results/fused_loss.md

Both compute value and gradient. They take turns in the order plain, ours, ours, plain; times are
medians, the ratio is the median over the turns. Memory is the peak of torch's tensors beside the inputs.
"""

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.profiler import profile

from kdcore.losses import cross_entropy, kd
from kdcore.spec.dataset import IGNORE

TEMPERATURE = 2.0
STRIDE = 4
Terms = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    terms: str
    classes: int
    size: int
    batch: int

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of student and teacher at stride 4; labels, one in twenty ignored."""
        drawn = torch.Generator().manual_seed(0)
        shape = (self.batch, self.classes, self.size // STRIDE, self.size // STRIDE)
        student, teacher = (3 * torch.randn(shape, generator=drawn) for _ in range(2))
        size = (self.batch, self.size, self.size)
        labels = torch.randint(0, self.classes, size, generator=drawn)
        labels[torch.rand(size, generator=drawn) < 0.05] = IGNORE
        return student.requires_grad_(), teacher, labels


@dataclass(frozen=True)
class Result:
    """Times in ms and peak memory in MB, plain and ours; ``values`` are the two losses."""

    case: Case
    values: tuple[float, float]
    times: tuple[float, float]
    ratio: float
    peaks: tuple[float, float]


def main(arguments: list[str]) -> None:
    given = _parse(arguments)
    results = [
        _measure(Case(terms, classes, given.size, given.batch), turns=given.turns)
        for classes in given.classes
        for terms in PLAIN
    ]
    command = f"python -m benchmarks.fused_loss {shlex.join(arguments)}".strip()
    text = to_markdown(results, command=command)
    if given.table is not None:
        given.table.parent.mkdir(parents=True, exist_ok=True)
        given.table.write_text(text)
    print(text)


def to_markdown(results: list[Result], *, command: str) -> str:
    lines = [
        "| loss | classes | values, plain and ours | | ms | | ratio | peak MB | |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.case.terms} | {one.case.classes} "
            f"| {one.values[0]:.6f} | {one.values[1]:.6f} "
            f"| {one.times[0]:.1f} | {one.times[1]:.1f} | {one.ratio:.1f} "
            f"| {one.peaks[0]:.0f} | {one.peaks[1]:.0f} |"
            for one in results
        ),
    ]
    case = results[0].case
    effort = (
        f"Labels {case.size}×{case.size}, batch {case.batch}, float32; {_processor()}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}; load of the machine {os.getloadavg()[0]:.1f}."
    )
    return "\n".join([*lines, "", f"    {command}", "", effort]) + "\n"


def _plain_ce(student: Tensor, _: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(_enlarged(student, labels), labels, ignore_index=IGNORE)


def _plain_kd(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    student, teacher = (_enlarged(x, labels) / TEMPERATURE for x in (student, teacher))
    divergence = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").sum(1)
    valid = labels != IGNORE
    return TEMPERATURE**2 * (divergence * valid).sum() / valid.sum()


def _our_ce(student: Tensor, _: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(student, labels)


def _our_kd(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return kd(student, teacher, labels, temperature=TEMPERATURE, grid="labels")


def _enlarged(logits: Tensor, labels: Tensor) -> Tensor:
    return F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)


PLAIN: dict[str, tuple[Terms, ...]] = {
    "ce": (_plain_ce,),
    "kd": (_plain_kd,),
    "ce + kd": (_plain_ce, _plain_kd),
}
OURS: dict[str, tuple[Terms, ...]] = {
    "ce": (_our_ce,),
    "kd": (_our_kd,),
    "ce + kd": (_our_ce, _our_kd),
}


def _measure(case: Case, *, turns: int) -> Result:
    inputs = case.inputs()
    plain, ours = PLAIN[case.terms], OURS[case.terms]
    values = _step(plain, *inputs), _step(ours, *inputs)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        first = _seconds(plain, *inputs)
        second = _seconds(ours, *inputs) + _seconds(ours, *inputs)
        times[0].append((first + _seconds(plain, *inputs)) / 2)
        times[1].append(second / 2)
    peaks = _peak(plain, *inputs), _peak(ours, *inputs)
    return Result(
        case,
        values,
        (1000 * median(times[0]), 1000 * median(times[1])),
        median(a / b for a, b in zip(*times, strict=True)),
        peaks,
    )


def _step(terms: tuple[Terms, ...], student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    student.grad = None
    loss = torch.stack([term(student, teacher, labels) for term in terms]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def _seconds(terms: tuple[Terms, ...], student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    started = time.perf_counter()
    _step(terms, student, teacher, labels)
    return time.perf_counter() - started


def _peak(terms: tuple[Terms, ...], student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """MB of tensors that one step has at most beside its inputs."""
    student.grad = None
    with profile(profile_memory=True) as profiled:
        _step(terms, student, teacher, labels)
    assert profiled.kineto_results is not None
    events = profiled.kineto_results.events()
    changes = sorted((one.start_ns(), one.nbytes()) for one in events if one.name() == "[memory]")
    return float(max(accumulate(size for _, size in changes))) / 1e6


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fused_loss")
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 150])
    parser.add_argument("--size", type=int, default=512, help="side of the labels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--table", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
