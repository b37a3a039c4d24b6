"""Asking a check, and servers that always say the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from worker.doctor.findings import Finding, Level
from worker.doctor.settings import DoctorSettings

SECRET = "hunter2"


def found(
    check: Callable[[DoctorSettings], Any], **settings: Any
) -> tuple[dict[Level, str], dict[Level, str | None]]:
    """Messages and remedies by their level; the last of each level. None holds the secret."""
    findings: list[Finding] = list(check(DoctorSettings(**settings)))
    assert findings
    assert SECRET not in str(findings)
    for finding in findings:
        assert (finding.remedy is None) == (finding.level in (Level.OK, Level.SKIPPED))
    return (
        {finding.level: finding.message for finding in findings},
        {finding.level: finding.remedy for finding in findings},
    )


@contextmanager
def answering(status: int, body: bytes, *, kind: str = "text/plain") -> Iterator[str]:
    """The address of a server that always says the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
