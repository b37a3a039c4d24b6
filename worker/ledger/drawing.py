"""The states of a job as a page for people, drawn from the tables that the ledger obeys."""

from collections.abc import Iterator

from worker.ledger.states import (
    AFTER_FAILURE,
    FLAGS,
    FRUITLESS_LIMIT,
    TERMINAL,
    TRANSITIONS,
    AfterFailure,
    Phase,
)
from worker.ledger.transitions import EVENT_TYPES


def states_page() -> str:
    """Markdown: the state machine as a mermaid diagram, then what follows from each failure."""
    return "\n".join([*_diagram(), "", *_failures()]) + "\n"


def _diagram() -> Iterator[str]:
    yield "# States of a job"
    yield ""
    yield "Drawn from `worker/ledger/states.py`; `make docs` draws it again."
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    for phase in (Phase.WAITING, Phase.QUEUED):
        yield f"    [*] --> {phase}: submit"
    for (phase, action), target in TRANSITIONS.items():
        yield f"    {phase} --> {target}: {action}"
    for phase in Phase:
        if phase in TERMINAL:
            yield f"    {phase} --> [*]"
    yield "```"
    yield ""
    yield "A failed or cancelled job stays what it is. `retry` submits another in its place, which goes"
    yield "on from its last checkpoint."
    yield ""
    yield "| from | action | to | event |"
    yield "|---|---|---|---|"
    for (phase, action), target in TRANSITIONS.items():
        yield f"| {phase} | {action} | {target} | `{EVENT_TYPES[action]}` |"
    yield ""
    yield "## Flags"
    yield ""
    yield "They stand beside the phase, and the phase follows when the worker has obeyed."
    yield ""
    yield "| flag | waiting | queued | running | event |"
    yield "|---|---|---|---|---|"
    for name, flag in FLAGS.items():
        yield f"| `{name}` | {flag.waiting} | {flag.queued} | {flag.running} | {flag.events} |"


def _failures() -> Iterator[str]:
    yield "## What follows from a failed attempt"
    yield ""
    yield (
        "Failed attempts are counted since the newest published checkpoint; "
        f"{FRUITLESS_LIMIT} of any kinds together are the end."
    )
    yield ""
    yield "| failure | fault of | the job fails | delay before the next attempt |"
    yield "|---|---|---|---|"
    for kind, rule in AFTER_FAILURE.items():
        yield f"| `{kind}` | {rule.fault} | {_limit(rule)} | {_delay(rule)} |"


def _limit(rule: AfterFailure) -> str:
    match rule.limit:
        case None:
            return "never"
        case 0:
            return "at once"
        case limit:
            return f"after {limit} attempts"


def _delay(rule: AfterFailure) -> str:
    if rule.limit == 0:
        return ""
    if rule.delay_seconds == 0:
        return "none"
    return f"{rule.delay_seconds:g} s, doubled each time up to {rule.longest_delay_seconds:g} s"
