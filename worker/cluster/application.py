"""The Celery application: two tasks, a bootstep, a command, and what beat carries along."""

from typing import Any

from celery import Celery, signals

from worker.cluster import inbox, logs
from worker.cluster.configuration import TASKS, TICK, WAKE, configuration
from worker.cluster.dispatcher import start_dispatcher
from worker.cluster.inspecting import register_commands
from worker.cluster.step import SupervisorStep
from worker.settings import BrokerSettings


def make_application(settings: BrokerSettings) -> Any:
    """Connects to nothing yet."""
    application = Celery("stillhouse")
    broker_url = settings.broker_url.get_secret_value()
    application.conf.update(configuration(broker_url, settings.queues))
    application.task(name=WAKE)(inbox.wake)
    application.task(name=TICK)(inbox.tick)
    application.finalize()
    _keep_known_tasks(application)
    application.steps["worker"].add(SupervisorStep)
    register_commands()
    _connect_signals(application, settings)
    return application


def _keep_known_tasks(application: Any) -> None:
    """Celery brings tasks of its own, such as one that runs others by their names."""
    for name in set(application.tasks) - TASKS:
        application.tasks.unregister(name)


def _connect_signals(application: Any, settings: BrokerSettings) -> None:
    def on_logging(loglevel: int | None = None, **_: object) -> None:
        logs.configure(settings.log_format, loglevel)

    def on_beat(**_: object) -> None:
        start_dispatcher(application)

    signals.setup_logging.connect(on_logging, weak=False)
    signals.beat_init.connect(on_beat, weak=False)
