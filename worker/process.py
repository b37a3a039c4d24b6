"""What a worker process consists of, whether it runs by itself or below Celery."""

from threading import Thread

from worker.artifacts import ArtifactStore
from worker.ledger.session import Ledger
from worker.settings import WorkerSettings
from worker.supervisor.machine import gpu_ids
from worker.supervisor.supervisor import Supervisor
from worker.tracking.start import start_tracking


class WorkerProcess:
    """Ledger, store, supervisor and projector: `start` once, `stop` once."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        slots = settings.cpu_slots + len(gpu_ids(settings.gpus))
        self._ledger = Ledger(settings.database_url.get_secret_value(), pool_size=5 + 2 * slots)
        self._store: ArtifactStore = settings.open_store()
        self.supervisor = Supervisor(settings, ledger=self._ledger, store=self._store)
        self._thread = Thread(target=self.supervisor.run, name="supervisor")

    def start(self) -> None:
        # Before anything is claimed: an address that is none ends the process here.
        self._stop_tracking = start_tracking(self._settings, ledger=self._ledger, store=self._store)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the supervisor runs; by itself it ends only through a fault."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Have every trainer write a checkpoint and leave; returns when the ledger knows."""
        try:
            self.supervisor.stop()
            self._thread.join()
        finally:
            self._stop_tracking()
        self._ledger.close()
