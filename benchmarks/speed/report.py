"""The result as JSON, and as Markdown to be read."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.speed.ceilings import Ceilings
from benchmarks.speed.gate import CURVE_LIMIT, GRADIENT_LIMIT, LOSS_LIMIT, Gate
from benchmarks.speed.goals import Goal, goals
from benchmarks.speed.loss_alone import LossAlone
from benchmarks.speed.measure import Case, Form
from benchmarks.speed.workload import Workload


@dataclass
class Result:
    """``left_out``: what there was no time for."""

    command: str
    device: str
    machine: dict[str, Any]
    form: Form
    ceilings: Ceilings
    cases: list[Case] = field(default_factory=list)
    gates: dict[Workload, Gate] = field(default_factory=dict)
    losses: dict[Workload, LossAlone] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def goals(self) -> list[Goal]:
        return goals(self.device, self.cases, ceilings=self.ceilings, losses=self.losses)

    @property
    def correct(self) -> bool:
        return all(gate.passed for gate in self.gates.values())


def to_json(result: Result) -> dict[str, Any]:
    return {
        "command": result.command,
        "machine": result.machine,
        "form": asdict(result.form),
        "ceilings": asdict(result.ceilings),
        "gates": [
            {"workload": asdict(workload), **asdict(gate), "passed": gate.passed}
            for workload, gate in result.gates.items()
        ],
        "cases": [_case(case) for case in result.cases],
        "losses": [
            {"workload": asdict(workload), **asdict(loss)}
            for workload, loss in result.losses.items()
        ],
        "goals": [{**asdict(goal), "passed": goal.passed} for goal in result.goals()],
        "left_out": result.left_out,
    }


def _case(case: Case) -> dict[str, Any]:
    arms = {
        name: {
            "images_per_second": case.images_per_second(name),
            "step_seconds": asdict(measured.step_seconds()),
            "prepared": asdict(measured.prepared),
            "blocks": measured.blocks,
        }
        for name, measured in case.arms.items()
    }
    return {"workload": asdict(case.workload), "arms": arms, "failed": case.failed}


def to_markdown(result: Result) -> str:
    lines = [f"    {result.command}", "", *_machine(result), ""]
    if result.gates:
        lines += [*_gates(result), ""]
    for case in result.cases:
        lines += [*_arms(case), ""]
    lines += [*_goals(result.goals()), ""]
    if result.left_out:
        lines += ["Not measured, for lack of time: " + "; ".join(result.left_out) + ".", ""]
    return "\n".join(lines)


def _machine(result: Result) -> Iterator[str]:
    machine, ceilings, form = result.machine, result.ceilings, result.form
    yield ", ".join(f"{name} {value}" for name, value in machine.items()) + "."
    yield (
        f"Ceilings: fp32 products {ceilings.gemm_fp32 / 1e9:.0f} GFLOP/s, bf16 "
        f"{ceilings.gemm_bf16 / 1e9:.0f} GFLOP/s, copy {ceilings.copy / 1e9:.1f} GB/s."
    )
    yield (
        f"Each arm in a process of its own; {form.warm_up} steps of warm-up, then in turn, forth and "
        f"back {form.cycles} times, {form.steps} steps a block after {form.settle} uncounted ones. "
        "Medians, quartiles in brackets."
    )


def _gates(result: Result) -> Iterator[str]:
    yield (
        "B against A, relative; limits in the head. Beside the gradient what fp32 is worth there: of B "
        "in its own memory format from A, and of A from A with networks in float64."
    )
    yield ""
    yield (
        f"| workload | fp32 loss ≤ {LOSS_LIMIT:g} | fp32 gradient ≤ {GRADIENT_LIMIT:g} "
        "| own format | A's rounding "
        f"| curve of 20 steps ≤ {CURVE_LIMIT:g} | pass |"
    )
    yield "|---|---|---|---|---|---|---|"
    for workload, gate in result.gates.items():
        yield (
            f"| {workload} | {gate.loss:.1e} | {gate.gradient:.1e} "
            f"| {gate.gradient_own_format:.1e} | {gate.rounding:.1e} | {gate.curve:.1e} "
            f"| {_yes(gate.passed)} |"
        )


def _arms(case: Case) -> Iterator[str]:
    yield f"{case.workload}:"
    yield ""
    yield "| arm | img/s | ms a step | peak memory | loading | first step | warm-up | settings |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, measured in case.arms.items():
        step, prepared = measured.step_seconds(), measured.prepared
        settings = ", ".join(f"{key} {value}" for key, value in prepared.settings.items())
        yield (
            f"| {name} | {case.images_per_second(name):.3g} "
            f"| {1000 * step.median:.1f} ({1000 * step.low:.1f}–{1000 * step.high:.1f}) "
            f"| {prepared.peak_bytes / 2**20:.0f} MiB | {prepared.load:.1f} s "
            f"| {prepared.first_step:.1f} s | {prepared.warm_up:.1f} s | {settings} |"
        )
    for name, why in case.failed.items():
        yield f"| {name} | failed: {why.replace('|', '/').splitlines()[0]} | | | | | | |"


def _goals(rows: Sequence[Goal]) -> Iterator[str]:
    yield "| goal | | ours | peer | ratio | limit | pass |"
    yield "|---|---|---|---|---|---|---|"
    for goal in rows:
        limit = "" if goal.limit is None else f"{'≤' if goal.at_most else '≥'} {goal.limit:g}"
        between = "" if goal.low is None else f" ({goal.low:.2f}–{goal.high:.2f})"
        yield (
            f"| {goal.number or ''} | {goal.name} | {goal.ours} | {goal.peer} "
            f"| {goal.ratio:.2f}{between} | {limit} | {_yes(goal.passed)} |"
        )


def _yes(passed: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[passed]
