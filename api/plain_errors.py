"""Turns the plain-text errors of middleware and file responses into problems."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import PROBLEMS, Slug, problem_response

_BY_STATUS: Final[dict[int, tuple[Slug, str]]] = {
    400: (Slug.INVALID_HOST, "The Host header names no host of this server."),
    413: (Slug.CONTENT_TOO_LARGE, "The body is larger than this server takes."),
}


class PlainErrorsToProblems:
    """Starlette's host check and body limit answer in plain text; a client of ours parses problems.

    Stands outside of both. Every other answer passes untouched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replaced = False

        async def convert(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                if message["status"] in _BY_STATUS and headers.get("content-type", "").startswith(
                    "text/plain"
                ):
                    replaced = True
                    slug, detail = _BY_STATUS[message["status"]]
                    response = problem_response(slug, detail, instance=scope["path"])
                    await response(scope, receive, send)
                    return
            await send(message)

        await self.app(scope, receive, convert)


class CommonHeaders:
    """Headers that every answer carries: no guessing of media types, no leaking of addresses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        await self.app(scope, receive, add)


assert all(PROBLEMS[slug].status == status for status, (slug, _) in _BY_STATUS.items())
