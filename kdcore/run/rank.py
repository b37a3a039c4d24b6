"""One of the processes that train one run together; `kdcore.run.ranks` starts them.

::

    python -m kdcore.run.rank RUN FOLDER RANK COUNT PARENT [--profile]

They meet through a file in FOLDER, and each leaves its outcome there. A rank dies with its PARENT.
"""

import ctypes
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist

from kdcore.files import write_text
from kdcore.ranks import Ranks
from kdcore.run.ending import exit_status, outcome_of, termination
from kdcore.run.events import EventLog, SilentLog
from kdcore.run.fit import run_fit
from kdcore.run.memory import keep_freed_memory
from kdcore.run.reading import read_run
from kdcore.spec.job import FitJob
from kdcore.spec.outcome import Outcome

PROFILE_OPTION = "--profile"
_PR_SET_PDEATHSIG = 1
_PATIENCE = timedelta(days=1)
"""While one rank evaluates the others wait; who hangs is seen by the events that do not come."""


def outcome_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def main(arguments: list[str]) -> NoReturn:
    run, folder = Path(arguments[0]), Path(arguments[1])
    ranks, parent = Ranks(int(arguments[2]), int(arguments[3])), int(arguments[4])
    _die_with(parent)
    keep_freed_memory()
    outcome = outcome_of(
        lambda: _train(run, folder, ranks, profile=PROFILE_OPTION in arguments[5:])
    )
    write_text(outcome_file(folder, ranks.rank), outcome.model_dump_json())
    sys.exit(exit_status(outcome))


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent of this rank is gone")  # it went before the request above


def _train(run: Path, folder: Path, ranks: Ranks, *, profile: bool) -> Outcome:
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", ranks.rank)
        torch.cuda.set_device(device)
    job, manifest = read_run(run, gpus=ranks.count)
    assert isinstance(job, FitJob), "comparisons have one process"
    log = EventLog(run) if ranks.first else SilentLog()
    with termination() as stop:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=(folder / "meeting").absolute().as_uri(),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=_PATIENCE,
        )
        try:
            return run_fit(
                run, job, manifest,
                log=log, stop_requested=stop.is_set, device=device, profile=profile, ranks=ranks,
            )  # fmt: skip
        finally:
            log.close()
            dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
