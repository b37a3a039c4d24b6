"""Every request in the log and in the metrics, under an id that its answer carries too."""

import re
from time import perf_counter
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import REQUEST_SECONDS

log = structlog.get_logger()

REQUEST_ID: Final = "X-Request-Id"
ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds, for ever; a line each would hide the others."""


class Observed:
    """The outermost of the application's middleware.

    The id is bound and not unbound: the task that serves the request ends with it, and what logs
    an unforeseen exception stands outside of here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=id)
        answered = False

        async def observe(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                MutableHeaders(raw=message["headers"])[REQUEST_ID] = id
                _note(scope, message["status"], perf_counter() - started)
            await send(message)

        try:
            await self.app(scope, receive, observe)
        except Exception:
            if not answered:
                _note(scope, 500, perf_counter() - started)
            raise


def _note(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in METHODS else "other"
    REQUEST_SECONDS.labels(method, _template(scope), str(status)).observe(seconds)
    if scope["path"] not in PROBES or status >= 500:
        log.info(
            "request.answered",
            method=method,
            path=quote(scope["path"]),
            status=status,
            seconds=round(seconds, 4),
            client=(scope.get("client") or [None])[0],
            **_ids(scope),
        )


def _request_id(scope: Scope) -> str:
    """What the client calls it, if that can stand in a log line; else an id of our own."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if ACCEPTED_ID.fullmatch(given) else uuid4().hex


def _template(scope: Scope) -> str:
    """The route with names for its parameters: there are as many as routes, whatever is asked."""
    form: str | None = getattr(scope.get("route"), "path_format", None)
    if form is None:
        return "unmatched"
    # A route knows its path without the prefix of the router that includes it.
    asked = form.format(**scope.get("path_params", {}))
    path: str = scope["path"]
    return path.removesuffix(asked) + form if path.endswith(asked) else form


def _ids(scope: Scope) -> dict[str, Any]:
    """Of the job, the experiment, … that the path names."""
    return {
        name.removesuffix("_id"): quote(value)
        for name, value in scope.get("path_params", {}).items()
        if name.endswith("_id")
    }
