"""Web pages of other origins must not act through the browser of somebody who can reach the API."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Slug, problem_response

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOrigin:
    """Refuses unsafe requests that a browser marks as coming from a page of another host.

    JSON bodies need a preflight that nothing here grants; a form that posts to `…/cancel` does not.
    Clients that are no browsers send neither header.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]) -> None:
        self.app = app
        self.allowed = {host.lower().strip("[]") for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or self._is_ours(scope):
            await self.app(scope, receive, send)
            return
        response = problem_response(
            Slug.CROSS_ORIGIN, "The request comes from another origin.", instance=scope["path"]
        )
        await response(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        origin = headers.get("origin")
        return origin is None or "*" in self.allowed or self._host(origin) in self.allowed

    def _host(self, origin: str) -> str | None:
        try:
            return urlsplit(origin).hostname
        except ValueError:
            return None
