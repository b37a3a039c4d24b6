"""A trainer that trains nothing: ``python toy_trainer.py PAUSE RUN``, PAUSE in seconds a step.

It reads steps, checkpoints and seed from the spec, keeps to the run-directory contract, and imports so
little that ten of them start in a second. Its "weights" are a chain of digests, one a step, so that a run
that was killed and resumed can be compared with one that was not (`weights`).

The seed is the character, see `CHARACTERS`.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

EXIT_INTERRUPTED: Final = 75
CHARACTERS: Final = {13: "poison", 37: "crashes once", 61: "deaf", 87: "wrong"}
"""By the seed modulo 100. Poison crashes at step 3 of every attempt, what is wrong exits with status 1,
the deaf ignore SIGTERM."""

_asked_to_stop = False


def weights(seed: int, steps: int) -> str:
    """What an undisturbed run ends with."""
    chain = ""
    for step in range(1, steps + 1):
        chain = _next(chain, step, seed)
    return chain


def character(seed: int) -> str:
    return CHARACTERS.get(seed % 100, "good")


def main(pause: float, run: Path) -> int:
    spec = json.loads((run / "spec.json").read_text())
    if spec["kind"] == "compare":
        return _compare(run, spec)
    signal.signal(signal.SIGTERM, _note_term)
    who = character(spec["seed"])
    if who == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    every, steps = spec["train"]["checkpoint_every"], spec["train"]["steps"]
    step, chain = _resume(run)
    with (run / "events.jsonl").open("a") as events:
        while step < steps:
            step += 1
            _misbehave(who, step, attempt=run.name)
            chain = _next(chain, step, spec["seed"])
            _say(events, type="progress", stage="training", step=step, steps=steps)
            _say(events, type="metric", step=step, values={"train/loss": 1 / step})
            if step % every == 0 or _asked_to_stop:
                _say(events, type="checkpoint", step=step, path=_save(run, step, chain))
            if _asked_to_stop:
                _leave(run, status="interrupted", step=step)
                return EXIT_INTERRUPTED
            time.sleep(pause)
    (run / "model").mkdir()
    (run / "model/model.safetensors").write_text(chain)
    (run / "model/model.json").write_text("{}")
    files = ["model/model.safetensors", "model/model.json"]
    _leave(run, status="succeeded", step=step, metrics={"val/miou": 0.5}, files=files)
    return 0


def _misbehave(who: str, step: int, *, attempt: str) -> None:
    if step != 3:
        return
    if who == "poison" or (who == "crashes once" and attempt == "a1"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if who == "wrong":
        sys.exit("this one is wrong")


def _note_term(*_: object) -> None:
    global _asked_to_stop  # noqa: PLW0603 (a handler has nowhere else to say it)
    _asked_to_stop = True


def _next(chain: str, step: int, seed: int) -> str:
    return hashlib.sha256(f"{chain}{step}{seed}".encode()).hexdigest()


def _resume(run: Path) -> tuple[int, str]:
    manifests = sorted((run / "checkpoints").glob("step-*/manifest.json"))
    if not manifests:
        return 0, ""
    state = json.loads((manifests[-1].parent / "state.pt").read_text())
    return state["step"], state["weights"]


def _say(events: Any, **event: Any) -> None:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    at = f"{second}.{nanoseconds // 1000:06d}Z"
    events.write(json.dumps({"at": at, **event}) + "\n")
    events.flush()


def _save(run: Path, step: int, chain: str) -> str:
    path = f"checkpoints/step-{step:08d}"
    (run / path).mkdir(parents=True)
    state = json.dumps({"step": step, "weights": chain}).encode()
    (run / path / "state.pt").write_bytes(state)
    entry = {"sha256": hashlib.sha256(state).hexdigest(), "size": len(state)}
    manifest = run / path / "manifest.json"
    tmp = manifest.with_suffix(".tmp")
    tmp.write_text(json.dumps({"step": step, "files": {"state.pt": entry}}))
    tmp.rename(manifest)
    return path


def _compare(run: Path, spec: dict[str, Any]) -> int:
    """The "verdict" is what each contestant weighs."""
    weighed = {
        contestant["name"]: (run / contestant["path"] / "model.safetensors").read_text()
        for contestant in spec["contestants"]
    }
    (run / "report").mkdir()
    (run / "report/verdict.json").write_text(json.dumps({"weights": weighed}))
    _leave(run, status="succeeded", files=["report/verdict.json"])
    return 0


def _leave(run: Path, **outcome: Any) -> None:
    tmp = run / "outcome.tmp"
    tmp.write_text(json.dumps(outcome))
    tmp.rename(run / "outcome.json")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2])))
