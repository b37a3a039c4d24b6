"""Between client and MLflow server: loses answers, or is slow."""

import http.client
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Self
from urllib.parse import urlsplit

HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


class Proxy:
    """``loses(method, path)`` says whether the server gets the request and nobody its answer."""

    def __init__(
        self,
        target: str,
        *,
        loses: Callable[[str, str], bool] = lambda method, path: False,
        bytes_per_second: float | None = None,
    ) -> None:
        address = urlsplit(target)
        assert address.hostname is not None
        self.target = (address.hostname, address.port)
        self.loses = loses
        self.bytes_per_second = bytes_per_second
        self.requests: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class EachOnce:
    """Loses the first answer to each kind of writing request."""

    def __init__(self) -> None:
        self.lost: set[tuple[str, str]] = set()
        self._lock = Lock()

    def __call__(self, method: str, path: str) -> bool:
        kind = (method, urlsplit(path).path)
        with self._lock:
            if method == "GET" or "search" in path or kind in self.lost:
                return False
            self.lost.add(kind)
            return True


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.requests.append((self.command, self.path))
            if proxy.bytes_per_second is not None:
                time.sleep(len(body) / proxy.bytes_per_second)
            status, headers, answer = self.ask(body)
            if proxy.loses(self.command, self.path):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            try:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True  # the client did not wait for so long

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            host, port = proxy.target
            connection = http.client.HTTPConnection(host, port, timeout=60)
            try:
                headers = dict(self.headers.items()) | {"Host": f"{host}:{port}"}
                connection.request(self.command, self.path, body=body, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
