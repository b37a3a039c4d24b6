"""`python -m embedded up`: everything runs until Ctrl-C, its logs side by side."""

import sys
import threading
import time
from datetime import UTC, datetime

from honcho.printer import Message, Printer

from embedded.errors import Stopped
from embedded.process import Sink
from embedded.signals import stop_event
from embedded.stack import Stack
from embedded.state import State

COLOURS = {"postgres": "34", "migrate": "37", "mlflow": "36", "api": "32", "worker": "33"}


def up() -> None:
    """Returns after an orderly end; raises EmbeddedError if it could not start or a part died."""
    state = State.from_environment()
    stopping = stop_event()
    sink = side_by_side()
    with state.lock():
        started = time.monotonic()
        sink("stillhouse", f"starting; state is kept in {state.folder}")
        try:
            with Stack(state, stopping, sink=sink) as stack:
                stack.start()
                stack.wait_ready("mlflow")
                seconds = time.monotonic() - started
                for line in _welcome(stack, seconds):
                    sink("stillhouse", line)
                stack.watch()
        except Stopped:
            pass
        sink("stillhouse", "stopped")


def side_by_side() -> Sink:
    """Lines of all processes on standard output, each under its name and colour."""
    printer = Printer(sys.stdout, width=len("stillhouse"))
    lock = threading.Lock()

    def show(name: str, line: str) -> None:
        message = Message("line", line, datetime.now(tz=UTC).astimezone(), name, COLOURS.get(name))
        # A reader that went away (`make up | head`) is no reason to stop draining the pipes.
        with lock:
            try:
                printer.write(message)
            except BrokenPipeError:
                return

    return show


def _welcome(stack: Stack, seconds: float) -> list[str]:
    return [
        f"ready in {seconds:.0f} s",
        f"  API     {stack.running.api}/docs",
        f"  MLflow  {stack.running.mlflow}",
        f"  state   {stack.state.folder}",
        "Ctrl-C stops all of it; started again it goes on where it was",
    ]
