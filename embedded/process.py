"""A process of the stack: started under a keeper, its output written to a log and shown."""

import collections
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded.account import Account
from embedded.errors import ServiceDied

KEEPER = Path(__file__).with_name("keeper.py")
LOG_BYTES_MAX = 10 * 2**20

Sink = Callable[[str, str], None]
"""Gets (name of the process, one line without its end)."""


@dataclass(frozen=True)
class Ending:
    """How a process is stopped; seconds.

    ``orphan_grace`` is what it gets when its owner was killed: 0 is SIGKILL at once.
    """

    signal: int = 15
    grace: float = 10.0
    orphan_grace: float = 0.0


class Kept:
    """A child that cannot outlive this process, whatever ends this process."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        ending: Ending = Ending(),
        sink: Sink | None = None,
        account: Account | None = None,
    ) -> None:
        """``account`` is as whom it runs, for a root who starts it."""
        self.name = name
        self.log = log
        self._ending = ending
        _rotate(log)
        options = [
            f"--signal={ending.signal}",
            f"--grace={ending.grace}",
            f"--orphan-grace={ending.orphan_grace}",
        ]
        if account:
            options.append(f"--user={account.uid}:{account.gid}")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment),
            # Ctrl-C at the terminal is for the owner alone, who then stops all in order.
            start_new_session=True,
        )
        self._pump = threading.Thread(
            target=self._relay, args=(sink,), name=f"log-{name}", daemon=True
        )
        self._pump.start()

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises ServiceDied if it ended."""
        if self.status is not None:
            raise ServiceDied(self.name, self.status, self.log, self.tail())

    def ask_to_stop(self) -> None:
        leash = self._process.stdin
        if leash and not leash.closed:
            # Unbuffered, or closing it would try once more to write to what has ended by itself.
            with contextlib.suppress(BrokenPipeError):
                os.write(leash.fileno(), b"stop\n")

    def wait(self) -> int:
        """Until it ended and its output is written; returns the exit status.

        After `ask_to_stop` that takes the grace at most, for then the keeper kills it.
        """
        status = self._process.wait()
        self._pump.join(timeout=5.0)
        if self._process.stdin:
            self._process.stdin.close()
        return status

    def stop(self) -> int:
        self.ask_to_stop()
        return self.wait()

    def kill(self) -> None:
        """At once, with all its descendants."""
        self._process.terminate()

    def tail(self, lines: int = 20) -> str:
        self._pump.join(timeout=1.0)
        with self.log.open(errors="replace") as file:
            return "".join(collections.deque(file, maxlen=lines))

    def _relay(self, sink: Sink | None) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output, self.log.open("ab") as log:
            for line in output:
                log.write(line)
                log.flush()
                if sink:
                    sink(self.name, line.decode(errors="replace").rstrip("\r\n"))


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(f"{log.name}.1"))
    log.touch()
