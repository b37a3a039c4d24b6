"""A TCP proxy of one service that can fail: refuse, cut, and lose answers."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

BLOCK_BYTES = 65_536


class TcpProxy:
    """A context manager; ``url`` is where it listens. Its attributes may be set at any time.

    * ``down``: new connections are closed at once (`cut` ends those that stand)
    * ``up_bytes``: what clients sent so far; at ``down_after`` of them everything is cut and down
    * ``lose_answer_to``: the answer to the next request that contains these bytes never arrives
    """

    def __init__(self, service: str) -> None:
        address = urlsplit(service)
        assert address.hostname is not None
        self._target = (address.hostname, address.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.down = False
        self.up_bytes = 0
        self.down_after: int | None = None
        self.lose_answer_to: bytes | None = None
        self.lost = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down = True
        # A blocked accept is not ended by close alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection that stands."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _end(*pair)

    def fail(self) -> None:
        self.down = True
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            try:
                service = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            pair = (client, service)
            with self._lock:
                self._pairs.add(pair)
            loses = threading.Event()
            threading.Thread(target=self._up, args=(pair, loses), daemon=True).start()
            threading.Thread(target=self._back, args=(pair, loses), daemon=True).start()

    def _up(self, pair: tuple[socket.socket, socket.socket], loses: threading.Event) -> None:
        client, service = pair
        with suppress(OSError):
            while block := client.recv(BLOCK_BYTES):
                self.up_bytes += len(block)
                if self.down_after is not None and self.up_bytes >= self.down_after:
                    self.down_after = None
                    self.fail()
                    break
                if self.lose_answer_to is not None and self.lose_answer_to in block:
                    self.lose_answer_to = None
                    loses.set()
                service.sendall(block)
        self._over(pair)

    def _back(self, pair: tuple[socket.socket, socket.socket], loses: threading.Event) -> None:
        client, service = pair
        with suppress(OSError):
            while block := service.recv(BLOCK_BYTES):
                if loses.is_set():
                    self.lost += 1
                    break
                client.sendall(block)
        self._over(pair)

    def _over(self, pair: tuple[socket.socket, socket.socket]) -> None:
        _end(*pair)
        with self._lock:
            self._pairs.discard(pair)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
