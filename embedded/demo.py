"""`python -m embedded demo`: real images in, a verdict out, everything over REST.

Starts the stack, or uses the one that runs on the state folder, and stops what it started.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from embedded.client import Api
from embedded.errors import AlreadyRunning, EmbeddedError, JobFailed, Stopped
from embedded.memory import PeakMemory
from embedded.progress import JobsProgress
from embedded.signals import stop_event
from embedded.stack import Stack
from embedded.state import Running, State
from embedded.verdict import print_verdict

POLL_SECONDS = 1.0
ATTACH_SECONDS = 60.0
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class _Session:
    """A stack to talk to; ``check`` raises when it died or the end was asked for."""

    running: Running
    stopping: threading.Event
    check: Callable[[], None]
    started_here: bool


def demo(recipe: Path, *, force: bool) -> None:
    """Raises EmbeddedError when there is no verdict, Stopped when the end was asked for."""
    console = Console()
    state = State.from_environment()
    stopping = stop_event()
    started = time.monotonic()
    experiment = _read_yaml(recipe)
    source = _dataset_source(recipe)
    with (
        _session(state, stopping, console) as session,
        Api(session.running.api) as api,
        PeakMemory(os.getpid(), session.running.pid) as memory,
    ):
        folder = _run(api, source, experiment, session, state, console, force=force)
    seconds = time.monotonic() - started
    console.print(f"\nReport    {folder / 'verdict.html'}", highlight=False, soft_wrap=True)
    hint = "  (start it again: make up)" if session.started_here else ""
    console.print(f"MLflow    {session.running.mlflow}{hint}", highlight=False, soft_wrap=True)
    console.print(
        f"Took      {seconds:.0f} s, peak memory {memory.peak / 2**30:.2f} GiB over all processes",
        highlight=False,
    )


def _run(
    api: Api,
    source: dict[str, Any],
    experiment: dict[str, Any],
    session: _Session,
    state: State,
    console: Console,
    *,
    force: bool,
) -> Path:
    """Registers, submits, watches and prints the verdict; returns the folder of the report."""
    revision = api.register_dataset(source)
    splits = [name for name in ("train", "val", "test") if name in revision["splits"]]
    images = ", ".join(f"{revision['splits'][name]['images']} {name}" for name in splits)
    console.print(
        f"dataset   {revision['dataset']}@{revision['number']}: {images}", highlight=False
    )
    # A recipe may name a dataset file, as `kd run` takes it; the service knows revisions.
    experiment = {**experiment, "dataset": f"{revision['dataset']}@{revision['number']}"}
    accepted = api.submit(experiment, idempotency_key=str(uuid.uuid4()), force=force)
    console.print(
        f"submitted {accepted['name']}: {len(accepted['jobs'])} jobs, "
        f"{session.running.api}/v1/experiments/{accepted['id']}",
        highlight=False,
        soft_wrap=True,
    )
    _require_success(api, _watch(api, accepted["id"], session, console))
    comparison = api.comparison(accepted["id"])
    console.print()
    print_verdict(comparison["verdict"], console)
    folder = state.folder / "reports" / f"{accepted['name']}-{accepted['id'][:8]}"
    for artifact in comparison["artifacts"]:
        if artifact["path"].startswith("report/"):
            name = artifact["path"].removeprefix("report/")
            api.download(comparison["job_id"], artifact["path"], folder / name)
    return folder


def _watch(api: Api, experiment_id: str, session: _Session, console: Console) -> dict[str, Any]:
    scores: dict[str, float] = {}
    final: set[str] = set()
    with JobsProgress(console) as progress:
        while True:
            session.check()
            experiment = api.experiment(experiment_id)
            for job in experiment["jobs"]:
                if job["kind"] == "fit" and job["started_at"] and job["id"] not in final:
                    score = api.newest_metric(job["id"], "val/miou")
                    if score is not None:
                        scores[job["id"]] = score
                    if job["phase"] in ENDED:
                        final.add(job["id"])
            progress.show(experiment["jobs"], scores)
            if experiment["phase"] in ENDED:
                return experiment
            session.stopping.wait(POLL_SECONDS)


def _require_success(api: Api, experiment: Mapping[str, Any]) -> None:
    if experiment["phase"] == "succeeded":
        return
    lines = [f"the experiment {experiment['phase']}"]
    for job in experiment["jobs"]:
        if job["phase"] == "failed":
            lines.append(f"{job['key']}: {job['reason']}: {job['message']}")
            failure = job["failure"] or {}
            if failure.get("remedy"):
                lines.append(f"  what helps: {failure['remedy']}")
            lines.append(api.log_tail(job["id"]))
    raise JobFailed("\n".join(lines))


@contextlib.contextmanager
def _session(state: State, stopping: threading.Event, console: Console) -> Iterator[_Session]:
    with contextlib.ExitStack() as exits:
        try:
            exits.enter_context(state.lock())
        except AlreadyRunning:
            running = _attach(state, stopping)
            console.print(f"using     {running.api}, which runs already", highlight=False)
            yield _Session(running, stopping, _raises_when_set(stopping), started_here=False)
            return
        console.print(f"starting  state in {state.folder}", highlight=False, soft_wrap=True)
        stack = exits.enter_context(Stack(state, stopping, sink=None))
        stack.start()
        yield _Session(stack.running, stopping, stack.check, started_here=True)


def _attach(state: State, stopping: threading.Event) -> Running:
    """The stack that runs already, which may still be starting."""
    deadline = time.monotonic() + ATTACH_SECONDS
    while (running := state.running()) is None:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"something holds {state.folder} but does not come up")
        if stopping.wait(0.2):
            raise Stopped
    return running


def _raises_when_set(stopping: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if stopping.is_set():
            raise Stopped

    return check


def _dataset_source(recipe: Path) -> dict[str, Any]:
    """`dataset.yaml` beside the recipe, its root made absolute."""
    file = recipe.with_name("dataset.yaml")
    source = _read_yaml(file)
    return {**source, "root": str((file.parent / source["root"]).resolve())}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise EmbeddedError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise EmbeddedError(f"{path}: not a mapping")
    return value
