"""The goals, each a ratio that ours must reach; the table's rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.speed.ceilings import FLOOR_CLASSES, FLOOR_SIZE, Ceilings, floor_seconds
from benchmarks.speed.loss_alone import LossAlone
from benchmarks.speed.measure import Case
from benchmarks.speed.workload import ArmName, Pair, Workload


@dataclass(frozen=True)
class Goal:
    """``limit``: the least ratio (the most, where ``at_most``); None where none was set, or not for
    this form of the workload: then nothing passes and nothing fails.
    """

    number: int | None
    name: str
    ours: str
    peer: str
    ratio: float
    limit: float | None
    low: float | None = None
    high: float | None = None
    at_most: bool = False

    @property
    def passed(self) -> bool | None:
        if self.limit is None:
            return None
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit


_GPU_LIMITS: dict[tuple[Pair, ArmName], tuple[int, float]] = {
    ("sf", "A"): (1, 5.0),
    ("sf", "A2"): (1, 2.0),
    ("cnn", "A"): (2, 3.0),
    ("cnn", "A2"): (2, 1.7),
    ("sf", "TD"): (3, 1.8),
    ("cnn", "TD"): (3, 1.8),
}
_CPU_LIMITS: dict[tuple[Pair, ArmName], tuple[int, float]] = {
    ("sf", "A"): (4, 2.3),
    ("cnn", "A"): (4, 2.0),
}
_CPU_FP32 = (5, 1.4)
_FLOOR_LIMITS: dict[Pair, tuple[int, float]] = {"sf": (1, 0.5), "cnn": (2, 0.45)}
_REPLAY = (7, 1.6)
_LOSS = {"cpu": (6, 3.0), "cuda": (6, 20.0)}
_LOSS_SHARE = (6, 0.02)
_STALL = (9, 0.05)
_PEERS: tuple[ArmName, ...] = ("A", "A2", "TD")


def goals(
    device: str,
    cases: Sequence[Case],
    *,
    ceilings: Ceilings,
    losses: dict[Workload, LossAlone],
) -> list[Goal]:
    """One row a comparison that the cases allow."""
    rows: list[Goal] = []
    for case in cases:
        if "B" in case.arms:
            rows += _against_peers(device, case)
            rows += _of_floor(device, case, ceilings)
    rows += _best_against_best(device, cases)
    for workload, loss in losses.items():
        rows += _of_losses(device, workload, loss, cases)
    rows += _stalls(device, cases)
    return rows


def _against_peers(device: str, case: Case) -> Iterator[Goal]:
    workload = case.workload
    for peer in (peer for peer in _PEERS if peer in case.arms):
        # A2 and TD are to be at their best batch; see `_best_against_best`.
        limits = {} if device == "cuda" and peer != "A" else _limits(device, workload)
        number, limit = limits.get((workload.pair, peer), (None, None))
        yield _speed(case, "B", peer, number, limit)
    if "Bcache" in case.arms:
        on_gpu = device == "cuda" and workload.pair == "sf" and _is_the_goals(workload)
        number, limit = _REPLAY if on_gpu else (None, None)
        yield _speed(case, "Bcache", "B", number, limit)
    if "A" in case.arms:
        ours, plain = (case.arms[name].prepared.peak_bytes for name in ("B", "A"))
        yield Goal(
            None, f"peak memory, B to A; {workload}",
            f"{ours / 2**20:.0f} MiB", f"{plain / 2**20:.0f} MiB", ours / max(1, plain),
            1.0 if workload.pair != "ens" and _is_the_goals(workload) else None, at_most=True,
        )  # fmt: skip


def _speed(
    case: Case, ours: ArmName, peer: ArmName, number: int | None, limit: float | None
) -> Goal:
    ratio = case.ratio(ours, peer)
    return Goal(
        number, f"{ours} / {peer}; {case.workload}",
        _rate(case, ours), _rate(case, peer), ratio.median, limit, ratio.low, ratio.high,
    )  # fmt: skip


def _best_against_best(device: str, cases: Sequence[Case]) -> Iterator[Goal]:
    """On a GPU, each at the batch that suits it."""
    if device != "cuda":
        return
    for (pair, peer), (number, limit) in _GPU_LIMITS.items():
        ours, theirs = (_best(cases, pair, arm) for arm in ("B", peer))
        if peer == "A" or ours is None or theirs is None:
            continue
        ratio = ours.images_per_second("B") / theirs.images_per_second(peer)
        yield Goal(
            number, f"B / {peer}, each at its best batch; {pair}",
            f"{_rate(ours, 'B')} at {ours.workload.batch}",
            f"{_rate(theirs, peer)} at {theirs.workload.batch}",
            ratio, limit if _is_the_goals(ours.workload) else None,
        )  # fmt: skip


def _best(cases: Sequence[Case], pair: Pair, arm: str) -> Case | None:
    fitting = [
        case
        for case in cases
        if case.workload.pair == pair
        and case.workload.classes == FLOOR_CLASSES
        and case.workload.source == "memory"
        and arm in case.arms
    ]
    return max(fitting, key=lambda case: case.images_per_second(arm), default=None)  # type: ignore[arg-type]


def _of_floor(device: str, case: Case, ceilings: Ceilings) -> Iterator[Goal]:
    workload = case.workload
    measurable = workload.models == "published" and workload.source == "memory"
    if device != "cuda" or workload.classes != FLOOR_CLASSES or not measurable:
        return
    floor = floor_seconds(workload.pair, ceilings) * (workload.size / FLOOR_SIZE) ** 2
    ours = case.arms["B"].step_seconds().median / workload.batch
    number, limit = _FLOOR_LIMITS.get(workload.pair, (None, None))
    yield Goal(
        number, f"share of the floor; {workload}", f"{1000 * ours:.2f} ms/image",
        f"{1000 * floor:.2f} ms/image", floor / ours, limit if _is_the_goals(workload) else None,
    )  # fmt: skip


def _of_losses(
    device: str, workload: Workload, loss: LossAlone, cases: Sequence[Case]
) -> Iterator[Goal]:
    full = _is_the_goals(workload)
    number, limit = _LOSS[device]
    yield Goal(
        number, f"losses alone, plain / ours; {workload}",
        f"{1000 * loss.ours:.2f} ms", f"{1000 * loss.plain:.2f} ms",
        loss.plain / loss.ours, limit if full else None,
    )  # fmt: skip
    for case in cases:
        if device == "cuda" and case.workload == workload and "B" in case.arms:
            step = case.arms["B"].step_seconds().median
            number, limit = _LOSS_SHARE
            yield Goal(
                number, f"losses' share of the step; {workload}",
                f"{1000 * loss.ours:.2f} ms", f"{1000 * step:.2f} ms",
                loss.ours / step, limit if full else None, at_most=True,
            )  # fmt: skip


def _stalls(device: str, cases: Sequence[Case]) -> Iterator[Goal]:
    """What a step takes longer when its images come from files."""
    in_memory = {_without_source(case): case for case in cases if case.workload.source == "memory"}
    for case in cases:
        other = in_memory.get(_without_source(case))
        if case.workload.source == "memory" or other is None:
            continue
        if "B" not in case.arms or "B" not in other.arms:
            continue
        disk, memory = (one.arms["B"].step_seconds().median for one in (case, other))
        number, limit = _STALL
        yield Goal(
            number, f"input stall of B; {case.workload}",
            f"{1000 * disk:.1f} ms", f"{1000 * memory:.1f} ms", max(0.0, 1 - memory / disk),
            limit if device == "cuda" and _is_the_goals(other.workload) else None, at_most=True,
        )  # fmt: skip


def _without_source(case: Case) -> tuple[object, ...]:
    workload = case.workload
    return workload.pair, workload.batch, workload.classes, workload.size, workload.precision


def _limits(device: str, workload: Workload) -> dict[tuple[Pair, ArmName], tuple[int, float]]:
    if not _is_the_goals(workload) or workload.classes != FLOOR_CLASSES:
        return {}
    if device == "cuda":
        return _GPU_LIMITS
    if workload.precision == "fp32":
        return {("sf", "A"): _CPU_FP32}
    return _CPU_LIMITS


def _is_the_goals(workload: Workload) -> bool:
    return (
        workload.size == FLOOR_SIZE
        and workload.models == "published"
        and workload.source == "memory"
    )


def _rate(case: Case, arm: str) -> str:
    return f"{case.images_per_second(arm):.3g} img/s"  # type: ignore[arg-type]
