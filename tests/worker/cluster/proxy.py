"""A TCP proxy in front of a server: it can cut connections off, and swallow what passes."""

import socket
import struct
from contextlib import suppress
from threading import Event, Lock, Thread

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER that makes `close` send an RST."""


class Proxy:
    """``silent``: bytes are taken and go nowhere, connections stay open."""

    def __init__(self, target_port: int) -> None:
        self.silent = Event()
        self._target = ("127.0.0.1", target_port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = Lock()
        Thread(target=self._accept, daemon=True).start()

    def reset_all(self) -> int:
        """Every connection ends with an RST; how many there were."""
        with self._lock:
            ended, self._open = self._open, set()
        for one in ended:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                one.shutdown(socket.SHUT_RD)  # wakes whoever reads
            one.close()
        return len(ended)

    def close(self) -> None:
        self._server.close()
        self.reset_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.silent.is_set():
                    sink.sendall(data)
        for one in (source, sink):
            with self._lock:
                self._open.discard(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
