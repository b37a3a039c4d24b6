"""A trainer that does what a script says: ``python scripted_trainer.py SCRIPT RUN``.

SCRIPT is a JSON object. The "training" is a chain of digests, one a step, so that a run that was
killed and resumed can be compared with one that was not. Steps count from 1.

* ``steps``, ``every``: how many, and a checkpoint after each so many
* ``pause``: seconds a step
* ``at``: ``{"ATTEMPT": {"STEP": ACTION}}``, or ``"*"`` for every attempt. ACTION is ``kill``,
  ``segfault``, ``hang``, ``garbage``, ``exit CODE``, ``wait PATH`` (until the file is there),
  ``spawn`` (a child in a session of its own that ignores everything)
* ``on_term``: ``checkpoint`` (default), ``ignore``
* ``outcome``: ``true`` (default), ``false``, or the text to leave instead
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

EXIT_INTERRUPTED = 75
asked_to_stop = Event()


def main(script: dict[str, Any], run: Path) -> int:
    if script.get("on_term") == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, note_term)
    attempt = run.name.removeprefix("a")
    actions = {**script.get("at", {}).get("*", {}), **script.get("at", {}).get(attempt, {})}
    spec = json.loads((run / "spec.json").read_text())
    if spec["kind"] == "compare":
        compare(run, spec)
        return 0
    step, weights = resume(run)
    print(f"attempt {attempt} starts after step {step}", flush=True)
    print(f"it sees the GPUs {os.environ.get('CUDA_VISIBLE_DEVICES')}", flush=True)
    with (run / "events.jsonl").open("a") as events:
        while step < script["steps"]:
            step += 1
            weights = hashlib.sha256(f"{weights}{step}{spec['seed']}".encode()).hexdigest()
            act(actions.get(str(step)), run, events)
            say(events, type="progress", stage="training", step=step, steps=script["steps"])
            say(events, type="metric", step=step, values={"train/loss": 1 / step})
            if step % script.get("every", 1000) == 0 or asked_to_stop.is_set():
                path = save(run, step, weights)
                say(events, type="checkpoint", step=step, path=path)
            if asked_to_stop.is_set():
                leave(run, status="interrupted", step=step)
                return EXIT_INTERRUPTED
            time.sleep(script.get("pause", 0.0))
    outcome = script.get("outcome", True)
    if isinstance(outcome, str):
        (run / "outcome.json").write_text(outcome)
    elif outcome:
        succeed(run, step, weights)
    return 0


def note_term(*_: object) -> None:
    asked_to_stop.set()


def resume(run: Path) -> tuple[int, str]:
    folders = sorted((run / "checkpoints").glob("step-*/manifest.json"), reverse=True)
    if not folders:
        return 0, ""
    state = json.loads((folders[0].parent / "state.pt").read_text())
    return state["step"], state["weights"]


def act(action: str | None, run: Path, events: Any) -> None:
    name, _, argument = (action or "").partition(" ")
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif name == "hang":
        while True:
            signal.pause()
    elif name == "garbage":
        events.write("this is not an event\n")
        events.flush()
        while True:
            signal.pause()
    elif name == "exit":
        print("Traceback: it broke", flush=True)
        sys.exit(int(argument))
    elif name == "wait":
        while not Path(argument).exists() and not asked_to_stop.is_set():
            time.sleep(0.01)
    elif name == "spawn":
        child = subprocess.Popen(
            [sys.executable, "-c", "import signal\nwhile True: signal.pause()"],
            start_new_session=True,
        )
        (run / "pids").write_text(f"{os.getpid()} {child.pid}")


def say(events: Any, **event: Any) -> None:
    at = datetime.now(UTC).isoformat()
    events.write(json.dumps({"at": at, **event}) + "\n")
    events.flush()


def save(run: Path, step: int, weights: str) -> str:
    path = f"checkpoints/step-{step:08d}"
    folder = run / path
    folder.mkdir(parents=True)
    state = json.dumps({"step": step, "weights": weights}).encode()
    (folder / "state.pt").write_bytes(state)
    entry = {"sha256": hashlib.sha256(state).hexdigest(), "size": len(state)}
    (folder / "manifest.json").write_text(json.dumps({"step": step, "files": {"state.pt": entry}}))
    return path


def succeed(run: Path, step: int, weights: str) -> None:
    (run / "model").mkdir()
    (run / "model/model.safetensors").write_text(weights)
    (run / "model/model.json").write_text("{}")
    files = ["model/model.safetensors", "model/model.json"]
    leave(run, status="succeeded", step=step, metrics={"val/miou": 0.5}, files=files)


def compare(run: Path, spec: dict[str, Any]) -> None:
    """The "verdict" is what each contestant weighs."""
    weights = {
        contestant["name"]: (run / contestant["path"] / "model.safetensors").read_text()
        for contestant in spec["contestants"]
    }
    (run / "report").mkdir()
    (run / "report/verdict.json").write_text(json.dumps({"weights": weights}))
    leave(run, status="succeeded", files=["report/verdict.json"])


def leave(run: Path, **outcome: Any) -> None:
    tmp = run / "outcome.tmp"
    tmp.write_text(json.dumps(outcome))
    tmp.rename(run / "outcome.json")


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), Path(sys.argv[2])))
