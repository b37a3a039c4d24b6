"""``python -m worker``: a supervisor until SIGTERM or SIGINT, then a checkpoint for every run."""

import signal
import sys

from worker.log import configure
from worker.process import WorkerProcess
from worker.settings import WorkerSettings

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
LOOK_SECONDS = 0.5


def main() -> int:
    """Exit status: 0 after a signal, 1 when the supervisor ended by itself."""
    # Blocked in every thread and awaited here: a handler could interrupt one that holds a lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    settings = WorkerSettings()
    configure(settings.log_format)
    process = WorkerProcess(settings)
    process.start()
    asked = _wait_for_signal(process)
    process.stop()
    return 0 if asked else 1


def _wait_for_signal(process: WorkerProcess) -> bool:
    while process.is_alive():
        if signal.sigtimedwait(STOP_SIGNALS, LOOK_SECONDS) is not None:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
