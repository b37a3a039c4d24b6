"""The table of goals: which ratios there are, from which blocks, and what has to be reached."""

import pytest

from benchmarks.speed.ceilings import Ceilings, floor_seconds
from benchmarks.speed.goals import Goal, goals
from benchmarks.speed.loss_alone import LossAlone
from benchmarks.speed.measure import Case, Measured
from benchmarks.speed.process import Prepared
from benchmarks.speed.workload import ArmName, Workload

CEILINGS = Ceilings(gemm_fp32=1e13, gemm_bf16=1e14, copy=1e12)


def case(workload: Workload, **seconds: float) -> Case:
    """Three blocks of two steps for each arm, the second twice as slow for all of them."""
    names: dict[str, ArmName] = {name: name for name in ("A", "A2", "TD", "B", "Bcache")}  # type: ignore[misc]
    return Case(
        workload,
        {
            names[name]: Measured(
                Prepared(1, 1, 1, peak_bytes=100 if name == "A" else 90, settings={}),
                [[step, step], [2 * step, 2 * step], [step, step]],
            )
            for name, step in seconds.items()
        },
    )


def table(device: str, *cases: Case, losses: LossAlone | None = None) -> dict[str, Goal]:
    """By the start of the row's name."""
    of_losses = {} if losses is None else {cases[0].workload: losses}
    rows = goals(device, cases, ceilings=CEILINGS, losses=of_losses)
    return {row.name.partition(";")[0]: row for row in rows}


def test_on_a_cpu() -> None:
    found = table("cpu", case(Workload("sf"), A=2.4, A2=1.5, TD=1.6, B=1.0, Bcache=0.5))
    ours = found["B / A"]
    assert (ours.number, ours.limit, ours.passed) == (4, 2.3, True)
    assert (ours.ratio, ours.low, ours.high) == pytest.approx((2.4, 2.4, 2.4))
    for printed, ratio in (("B / A2", 1.5), ("B / TD", 1.6), ("Bcache / B", 2.0)):
        assert found[printed].ratio == pytest.approx(ratio)
        assert found[printed].passed is None
    memory = found["peak memory, B to A"]
    assert memory.ratio == pytest.approx(0.9)
    assert memory.passed


def test_missed() -> None:
    assert table("cpu", case(Workload("cnn"), A=1.9, B=1.0))["B / A"].passed is False


@pytest.mark.parametrize(
    "other",
    [
        Workload("sf", size=256),
        Workload("sf", models="tiny"),
        Workload("sf", classes=150),
        Workload("sf", source="disk"),
    ],
)
def test_a_goal_is_of_its_own_form_alone(other: Workload) -> None:
    found = table("cpu", case(other, A=1.0, B=1.0))["B / A"]
    assert found.ratio == pytest.approx(1)
    assert found.passed is None


def test_fp32_has_a_goal_of_its_own() -> None:
    found = table("cpu", case(Workload("sf", precision="fp32"), A=1.5, B=1.0))["B / A"]
    assert (found.number, found.limit, found.passed) == (5, 1.4, True)


def test_on_a_gpu_peers_have_their_best_batch() -> None:
    small = case(Workload("sf", batch=8), A=0.8, A2=0.2, B=0.1, Bcache=0.05)
    large = case(Workload("sf", batch=32), A2=0.4, TD=0.32, B=0.2)
    found = table("cuda", small, large)
    plain = found["B / A"]
    assert (plain.number, plain.ratio, plain.passed) == (1, pytest.approx(8), True)
    assert found["B / A2"].limit is None
    competent = found["B / A2, each at its best batch"]
    assert (competent.ours, competent.peer) == ("160 img/s at 32", "80 img/s at 32")
    assert (competent.number, competent.ratio, competent.passed) == (1, pytest.approx(2), True)
    theirs = found["B / TD, each at its best batch"]
    assert (theirs.number, theirs.ratio, theirs.passed) == (3, pytest.approx(1.6), False)
    assert found["Bcache / B"].passed is True


def test_the_floor() -> None:
    # Products: 77 and 75 GFLOP at 1e14 a second. Bytes: 1.23, 1.38 and 0.003 GB at 1e12 a second.
    assert floor_seconds("sf", CEILINGS) == pytest.approx(0.00123 + 0.00138 + 0.000003)
    slow = Ceilings(gemm_fp32=1, gemm_bf16=1e12, copy=1e12)
    assert floor_seconds("sf", slow) == pytest.approx(0.077 + 0.075 + 0.000003)
    found = table("cuda", case(Workload("sf", batch=8), B=0.04))["share of the floor"]
    assert found.ratio == pytest.approx(8 * 0.002613 / 0.04)
    assert found.passed is True


def test_losses_alone_and_their_share_of_the_step() -> None:
    one = case(Workload("sf", batch=8), B=0.1)
    found = table("cuda", one, losses=LossAlone(plain=0.021, ours=0.001))
    assert found["losses alone, plain / ours"].ratio == pytest.approx(21)
    assert found["losses alone, plain / ours"].passed is True
    share = found["losses' share of the step"]
    assert (share.number, share.ratio, share.passed) == (6, pytest.approx(0.01), True)


def test_input_stall() -> None:
    memory, disk = (
        case(Workload("sf", batch=8, source=source), B=seconds)
        for source, seconds in (("memory", 0.09), ("disk", 0.1))
    )  # type: ignore[arg-type]
    found = table("cuda", memory, disk)["input stall of B"]
    assert (found.number, found.ratio, found.passed) == (9, pytest.approx(0.1), False)
