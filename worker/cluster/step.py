"""The bootstep that makes a Celery worker a worker of ours."""

from typing import Any, Final

from celery import bootsteps

from worker.cluster.configuration import TICK, TICKS, queue
from worker.cluster.inbox import inbox
from worker.cluster.inspecting import report
from worker.cluster.probe import Probe
from worker.cluster.watchdog import Watchdog
from worker.process import WorkerProcess
from worker.settings import ClusterWorkerSettings

OWN_QUEUE_SECONDS: Final = 300.0
"""A queue of a worker that is gone vanishes from the broker after so long."""


class SupervisorStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Starts before the consumer, which may have to wait for the broker, and stops after it.

    Both ways in which Celery stops (SIGTERM, and SIGQUIT or `REMAP_SIGTERM=SIGQUIT`) end in `stop`:
    every trainer writes a checkpoint, its job goes back to the queue, and then the process leaves.
    """

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> "SupervisorStep":
        queues = worker.app.amqp.queues
        settings = ClusterWorkerSettings()
        # What `-Q` or the settings name; ticks are for everybody.
        names = tuple(name for name in queues.consume_from if name != TICKS)
        queues.select_add(queues[TICKS])
        self._process = WorkerProcess(settings.model_copy(update={"queues": names}))
        supervisor = self._process.supervisor
        inbox.supervisor = supervisor
        self._watchdog = Watchdog(
            self._process, _probe(worker.app, supervisor.name), settings.probe_seconds
        )
        return self

    def start(self, worker: Any) -> None:  # noqa: ARG002 (how Celery calls it)
        self._process.start()
        self._watchdog.start()

    def stop(self, worker: Any) -> None:  # noqa: ARG002
        self._watchdog.stop()
        self._process.stop()

    terminate = stop

    def info(self, worker: Any) -> dict[str, Any]:  # noqa: ARG002
        return {"supervisor": report()}


def _probe(application: Any, name: str) -> Probe:
    """Ticks to a queue that only this process consumes."""
    own = queue(f"worker.{name}", expires=OWN_QUEUE_SECONDS)
    application.amqp.queues.select_add(own)

    def send() -> None:
        application.send_task(TICK, queue=own.name, ignore_result=True)

    return Probe(send, lambda: inbox.received)
