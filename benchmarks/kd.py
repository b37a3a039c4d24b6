"""How fast a distillation trains: ours against the plain loop, a competent one, and torchdistill.

    python -m benchmarks.kd                                  on a CPU, 512×512, batch 2
    python -m benchmarks.kd --size 256 --batch 4 --pair sf   a smaller form
    python -m benchmarks.kd --device cuda --all              on a GPU, under 9 minutes

What is measured and how to read it: docs/benchmarks.md.
"""

import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.speed import plan
from benchmarks.speed.ceilings import measure_ceilings
from benchmarks.speed.gate import check
from benchmarks.speed.loss_alone import time_losses
from benchmarks.speed.machine import describe
from benchmarks.speed.measure import measure
from benchmarks.speed.process import in_process
from benchmarks.speed.report import Result, to_json, to_markdown
from benchmarks.speed.scene import make_scene


def main(arguments: list[str]) -> int:
    """Exit status: 1 where ours computes something else than the plain loop, or an arm failed."""
    given = plan.parse(arguments)
    deadline = time.monotonic() + 60 * given.minutes
    device = torch.device(given.device)
    result = Result(
        command=f"python -m benchmarks.kd {shlex.join(_without_out(arguments))}".strip(),
        device=device.type,
        machine=in_process(describe, device, given.threads),
        form=plan.form(given),
        ceilings=in_process(measure_ceilings, device, given.threads, small=given.models == "tiny"),
    )
    longest = 0.0
    for item in plan.planned(given):
        started = time.monotonic()
        if started + longest > deadline:
            result.left_out.append(str(item.workload))
        else:
            _add(result, item, device, threads=given.threads, deadline=deadline)
            longest = max(longest, time.monotonic() - started)
        _write(result, given.out, f"kd-{given.device}-{given.size}-{result.machine['date']}")
    print(to_markdown(result))
    failed = any(case.failed for case in result.cases)
    return 0 if result.correct and not failed else 1


def _add(
    result: Result, item: plan.Planned, device: torch.device, *, threads: int, deadline: float
) -> None:
    """The case, and before it what is checked once for its pair."""
    workload = item.workload
    print(f"{workload}: {', '.join(item.arms)}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="stillhouse-benchmark-") as folder:
        if item.checked:
            still = make_scene(Path(folder) / "gate", workload.for_gate())
            result.gates[workload] = in_process(check, still, device, threads)
        scene = make_scene(Path(folder) / "scene", workload)
        if item.checked:
            result.losses[workload] = in_process(time_losses, scene, device, threads)
        result.cases.append(
            measure(
                scene, item.arms, result.form, device=device, threads=threads, deadline=deadline
            )
        )


def _write(result: Result, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(to_json(result), indent=1) + "\n")
    (folder / f"{name}.md").write_text(to_markdown(result))


def _without_out(arguments: list[str]) -> list[str]:
    """A path says nothing about the measurement, and may name a machine."""
    if "--out" not in arguments:
        return arguments
    place = arguments.index("--out")
    return arguments[:place] + arguments[place + 2 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
