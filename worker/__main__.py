"""``python -m worker``: a supervisor until SIGTERM or SIGINT, then a checkpoint for every run."""

import signal
import sys
from threading import Event, Thread

from worker.artifacts import ArtifactStore, FolderStore
from worker.ledger.session import Ledger
from worker.log import configure
from worker.settings import WorkerSettings
from worker.supervisor.machine import gpu_ids
from worker.supervisor.supervisor import Supervisor
from worker.tracking.environment import prepare

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
LOOK_SECONDS = 0.5


def main() -> int:
    """Exit status: 0 after a signal, 1 when the supervisor ended by itself."""
    # Blocked in every thread and awaited here: a handler could interrupt one that holds a lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    settings = WorkerSettings()
    configure(settings.log_format)
    slots = settings.cpu_slots + len(gpu_ids(settings.gpus))
    ledger = Ledger(settings.database_url.get_secret_value(), pool_size=5 + 2 * slots)
    store = FolderStore(settings.artifacts_dir)
    supervisor = Supervisor(settings, ledger=ledger, store=store)
    thread = Thread(target=supervisor.run, name="supervisor")
    # Before anything is claimed: an address that is none ends the process here.
    stopped = _start_tracking(settings, ledger, store)
    thread.start()
    try:
        asked = _wait_for_signal(thread)
        supervisor.stop()
        thread.join()
    finally:
        stopped.set()
    ledger.close()
    return 0 if asked else 1


def _wait_for_signal(thread: Thread) -> bool:
    while thread.is_alive():
        if signal.sigtimedwait(STOP_SIGNALS, LOOK_SECONDS) is not None:
            return True
    return False


def _start_tracking(settings: WorkerSettings, ledger: Ledger, store: ArtifactStore) -> Event:
    """Set the event to stop it. Without an MLflow server nothing is started."""
    stopped = Event()
    if settings.mlflow_url is not None:
        # Importing MLflow takes a second and 100 MB: only where it is used, and only then.
        prepare()
        from worker.tracking.projector import Projector

        projector = Projector(
            settings.mlflow_url, settings.mlflow_experiment, ledger=ledger, store=store
        )
        Thread(target=projector.run, args=(stopped,), name="tracking", daemon=True).start()
    return stopped


if __name__ == "__main__":
    sys.exit(main())
