"""What can go wrong in starting and driving the stack on one machine.

::

    EmbeddedError
    ├── AlreadyRunning     another `up` holds the state folder
    ├── PostgresFailed     the database did not start, or could not be made
    ├── ServiceDied        a process of the stack ended by itself
    ├── NotReady           it runs, but does not answer
    ├── Refused            the API said no
    └── JobFailed          a job of the demo ended without a result
"""

from pathlib import Path


class EmbeddedError(Exception):
    """Its text is for the person at the terminal."""


class AlreadyRunning(EmbeddedError):
    def __init__(self, folder: Path, pid: int | None, api: str | None) -> None:
        self.pid = pid
        self.api = api
        where = f" at {api}" if api else ""
        who = f" (process {pid})" if pid else ""
        super().__init__(
            f"already running{where}{who} on the state folder {folder}; stop that one first, "
            "or name another folder with KD_STATE"
        )


class PostgresFailed(EmbeddedError):
    pass


class ServiceDied(EmbeddedError):
    def __init__(self, name: str, status: int, log: Path, tail: str) -> None:
        self.name = name
        self.status = status
        super().__init__(f"{name} ended with status {status}; the end of {log}:\n{tail}")


class NotReady(EmbeddedError):
    pass


class Refused(EmbeddedError):
    pass


class JobFailed(EmbeddedError):
    pass


class Stopped(BaseException):
    """Someone asked for the end (Ctrl-C, SIGTERM); no error."""
