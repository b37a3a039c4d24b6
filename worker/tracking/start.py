"""The projector in a thread of the worker process."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from worker.artifacts import ArtifactStore
from worker.ledger.session import Ledger
from worker.settings import WorkerSettings
from worker.tracking.environment import prepare

JOIN_SECONDS: Final = 5.0


def start_tracking(
    settings: WorkerSettings, *, ledger: Ledger, store: ArtifactStore
) -> Callable[[], None]:
    """Call what is returned to stop it. Without an MLflow server nothing is started.

    Raises `mlflow.exceptions.MlflowException` when ``KD_MLFLOW_URL`` is no address.
    """
    if settings.mlflow_url is None:
        return lambda: None
    # Importing MLflow takes a second and 100 MB: only where it is used, and only then.
    prepare()
    from worker.tracking.projector import Projector

    stopped = Event()
    projector = Projector(
        settings.mlflow_url,
        settings.mlflow_experiment,
        ledger=ledger,
        store=store,
        address=settings.store_address,
    )
    thread = Thread(target=projector.run, args=(stopped,), name="tracking", daemon=True)
    thread.start()

    def stop() -> None:
        """A request that hangs is left to its timeout: whoever goes on finds what it did."""
        stopped.set()
        thread.join(JOIN_SECONDS)

    return stop
