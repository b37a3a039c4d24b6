"""Reading a JSON body strictly: UTF-8, no NaN, no key twice, bounded depth and width, in time."""

import json
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, Final

import anyio
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.problems import Refusal, Slug

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 50_000
MAX_INTEGER: Final = 2**63
BODY_SECONDS: Final = 30.0


class StrictJsonRoute(APIRoute):
    """A route whose body, if it takes one, is read by `parse` and must be declared as JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            if takes_body:
                request = _JsonRequest(request.scope, request.receive)
                await _read_in_time(request)
                await _require_json(request)
            return await handle(request)

        return strict


def parse(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        Refusal: `invalid-json`, with what and where.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise _refuse(f"The body is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise _refuse(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except RecursionError:
        raise _refuse(f"The body nests deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise _refuse(f"The body is not acceptable JSON: {error}.") from None
    _check_shape(value, escapes=b"\\u" in body)
    return value


class _JsonRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


async def _read_in_time(request: Request) -> None:
    """A body that trickles in must not hold a connection for ever."""
    try:
        with anyio.fail_after(BODY_SECONDS):
            await request.body()
    except TimeoutError:
        raise Refusal(
            Slug.REQUEST_TIMEOUT, f"The body did not arrive within {BODY_SECONDS:.0f} s."
        ) from None


async def _require_json(request: Request) -> None:
    header = request.headers.get("content-type")
    if header is None and not await request.body():
        return
    message = Message()
    message["content-type"] = header or ""
    subtype = message.get_content_subtype()
    charset = str(message.get_param("charset") or "utf-8").lower()
    if (
        header is None
        or message.get_content_maintype() != "application"
        or not (subtype == "json" or subtype.endswith("+json"))
        or charset not in ("utf-8", "utf8", "us-ascii")
    ):
        shown = "no Content-Type" if header is None else f"Content-Type `{header[:100]}`"
        raise Refusal(
            Slug.UNSUPPORTED_MEDIA_TYPE, f"The body has {shown}; send `application/json` in UTF-8."
        )


def _check_shape(value: Any, *, escapes: bool) -> None:
    """Refuse what no spec needs and what costs us: depth, width, huge integers, NUL, surrogates."""
    level, depth, seen = [value], 0, 0
    while level:
        depth += 1
        seen += len(level)
        if depth > MAX_DEPTH:
            raise _refuse(f"The body nests deeper than {MAX_DEPTH} levels.")
        if seen > MAX_VALUES:
            raise _refuse(f"The body holds more than {MAX_VALUES} values.")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if escapes:
                    below.extend(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str):
                if escapes:
                    _check_text(item)
            elif isinstance(item, int) and not -MAX_INTEGER <= item < MAX_INTEGER:
                raise _refuse("The body holds an integer of more than 64 bits.")
        level = below


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _refuse("The body holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refuse("The body holds half of a surrogate pair.") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:100]!r} appears twice in one object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _refuse(detail: str) -> Refusal:
    return Refusal(Slug.INVALID_JSON, detail)
