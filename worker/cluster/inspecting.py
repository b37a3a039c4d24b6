"""``celery -A worker.celery_app inspect slots``: what the workers hold, for people."""

from typing import Any

from celery.worker.control import inspect_command

from worker.cluster.inbox import inbox


def register_commands() -> None:
    inspect_command(name="slots")(slots)


def slots(state: Any, **_: object) -> dict[str, Any]:  # noqa: ARG001 (how Celery calls it)
    """Slots of the worker and the attempts that hold them."""
    return report()


def report() -> dict[str, Any]:
    """The same for ``inspect stats``."""
    supervisor = inbox.supervisor
    if supervisor is None:
        return {}
    return {
        "worker": supervisor.name,
        "queues": list(supervisor.queues),
        "slots": len(supervisor.slots),
        "runs": [
            {"job": str(claim.job_id), "attempt": claim.attempt, "kind": claim.kind}
            for claim in supervisor.claims()
        ],
    }
