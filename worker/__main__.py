"""``python -m worker``: a supervisor until SIGTERM or SIGINT, then a checkpoint for every run."""

import signal
import sys
from threading import Thread

from worker.artifacts import FolderStore
from worker.ledger.session import Ledger
from worker.log import configure
from worker.settings import WorkerSettings
from worker.supervisor.supervisor import Supervisor
from worker.tracking.start import start_tracking

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
LOOK_SECONDS = 0.5


def main() -> int:
    """Exit status: 0 after a signal, 1 when the supervisor ended by itself."""
    # Blocked in every thread and awaited here: a handler could interrupt one that holds a lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    settings = WorkerSettings()
    configure(settings.log_format)
    ledger = Ledger(settings.database_url.get_secret_value(), pool_size=5 + 2 * settings.cpu_slots)
    store = FolderStore(settings.artifacts_dir)
    supervisor = Supervisor(settings, ledger=ledger, store=store)
    thread = Thread(target=supervisor.run, name="supervisor")
    # Before anything is claimed: an address that is none ends the process here.
    stop_tracking = start_tracking(settings, ledger=ledger, store=store)
    thread.start()
    try:
        asked = _wait_for_signal(thread)
        supervisor.stop()
        thread.join()
    finally:
        stop_tracking()
    ledger.close()
    return 0 if asked else 1


def _wait_for_signal(thread: Thread) -> bool:
    while thread.is_alive():
        if signal.sigtimedwait(STOP_SIGNALS, LOOK_SECONDS) is not None:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
