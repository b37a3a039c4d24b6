"""Celery's settings: what follows from messages that are mere hints, and from Redis as it fails."""

from collections.abc import Sequence
from typing import Any, Final

from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

WAKE: Final = "worker.wake"
"""``wake(job_id)``: there may be a job to claim."""
TICK: Final = "worker.tick"
"""``tick()``: there may be maintenance to do."""
TASKS: Final = frozenset({WAKE, TICK})

TICKS: Final = "worker.ticks"
"""The queue of ticks, which every worker consumes; all other queues are those of jobs."""
TICK_SECONDS: Final = 5.0

BROKER_AWAY: Final = (OperationalError, RedisError, OSError)
"""What sending raises when the broker does not answer."""

TRANSPORT: Final[dict[str, Any]] = {
    # A command that gets no answer fails, instead of holding the consumer for ever: celery #8030.
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
    # Connections that proxies have dropped in silence (#10205, #10302) are noticed in
    # 1 + 2 × this, those of `celery inspect` as well.
    "health_check_interval": 10,
}

SETTINGS: Final[dict[str, Any]] = {
    # The known tasks, as JSON, and nothing else.
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    # The ledger decides: acknowledged at once, never tried again, no result kept.
    "task_acks_late": False,
    "task_ignore_result": True,
    "result_expires": None,
    "task_publish_retry": False,
    "task_default_queue": TICKS,
    # A hint takes microseconds and must reach the supervisor of this very process.
    "worker_pool": "solo",
    "worker_concurrency": 1,
    "worker_prefetch_multiplier": 1,
    # Redis may be away for as long as it likes, also at the start.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "broker_transport_options": TRANSPORT,
    "worker_consumer": "worker.cluster.consumer:Consumer",
    # Any number of beats: they keep no state, and a tick is claimed in the ledger.
    "beat_scheduler": "celery.beat:Scheduler",
    "beat_schedule": {"tick": {"task": TICK, "schedule": TICK_SECONDS}},
    "beat_max_loop_interval": TICK_SECONDS,
    "beat_enable_remote_control": True,
    "worker_redirect_stdouts": False,
}


def configuration(broker_url: str, queues: Sequence[str]) -> dict[str, Any]:
    """``queues`` are those of the jobs this worker runs, unless ``-Q`` names others."""
    return {
        **SETTINGS,
        "broker_url": broker_url,
        "task_queues": [queue(name) for name in (*queues, TICKS)],
    }


def queue(name: str, *, expires: float | None = None) -> Queue:
    """With an exchange of its own: what several share, Celery binds to all of them."""
    exchange = Exchange(name)  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name, expires=expires)  # type: ignore[no-untyped-call]
