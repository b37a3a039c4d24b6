"""A client that submits at a rate, whatever happens, and keeps each answer."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from tests.worker.ledger import making

Json = dict[str, Any]
ANSWER_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.2
IDLE_SECONDS: Final = 5.0
"""A connection that was idle for longer may be closed by the API at any moment."""

EXPERIMENTS: Final = "/v1/experiments"


@dataclass(frozen=True)
class Request:
    """A submission under an Idempotency-Key; cancelled some seconds after it was accepted, or not."""

    key: str
    body: Json
    cancel_after: float | None = None


@dataclass(frozen=True)
class Answer:
    """``status`` 0 is none at all. ``seconds`` count from the moment the request was due."""

    at: float
    status: int
    seconds: float
    retry_after: bool = False


@dataclass
class Client:
    """`submit` returns when the API has accepted every request; until then each is sent again, for
    ``patience_seconds`` at most.

    ``accepted``: what each key was told, all experiments if there were several. ``cancelled``: those
    of which a cancel was sent, whether or not it was answered.
    """

    port: int
    patience_seconds: float = 600.0
    accepted: dict[str, set[UUID]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    cancelled: set[UUID] = field(default_factory=set)
    _idle: list["_Connection"] = field(default_factory=list)

    def submit(self, requests: Sequence[Request], *, rate: float) -> None:
        """``rate`` requests a second, each sent when it is due and not when another is answered."""
        asyncio.run(self._submit(requests, rate))

    def cancel(self, key: str) -> None:
        """The experiments that ``key`` was told."""
        asyncio.run(self._cancel_all(self.accepted[key]))

    async def _submit(self, requests: Sequence[Request], rate: float) -> None:
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for index, request in enumerate(requests):
                due = started + index / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                tasks.create_task(self._insist(request, due))
        await self._hang_up()

    async def _cancel_all(self, experiments: set[UUID]) -> None:
        for experiment in experiments:
            await self._cancel(experiment)
        await self._hang_up()

    async def _hang_up(self) -> None:
        """No connection outlives the event loop that it was made in."""
        while self._idle:
            await self._idle.pop().close()

    async def _insist(self, request: Request, due: float) -> None:
        headers = {"Idempotency-Key": request.key}
        deadline = due + self.patience_seconds
        while time.monotonic() < deadline:
            status, body = await self._post(EXPERIMENTS, headers, request.body, due)
            if status == 201:
                experiment = UUID(json.loads(body)["id"])
                self.accepted.setdefault(request.key, set()).add(experiment)
                if request.cancel_after is not None:
                    await asyncio.sleep(request.cancel_after)
                    await self._cancel(experiment)
                return
            if 400 <= status < 500:
                return  # asking again would not mend it; the judge sees the answer
            await asyncio.sleep(RETRY_SECONDS)
            due = time.monotonic()

    async def _cancel(self, experiment: UUID) -> None:
        self.cancelled.add(experiment)
        await self._post(f"{EXPERIMENTS}/{experiment}/cancel", {}, None, time.monotonic())

    async def _post(
        self, path: str, headers: dict[str, str], body: Json | None, due: float
    ) -> tuple[int, bytes]:
        connection = await self._connection()
        at = time.time()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, found, content = await connection.post(path, headers, body)
        except (OSError, EOFError, TimeoutError):
            await connection.close()
            self.answers.append(Answer(at, 0, time.monotonic() - due))
            return 0, b""
        self._idle.append(connection)
        seconds = time.monotonic() - due
        self.answers.append(Answer(at, status, seconds, "retry-after" in found))
        return status, content

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.used_at < IDLE_SECONDS:
                return connection
            await connection.close()
        return _Connection(self.port)


class _Connection:
    """One kept-alive HTTP/1.1 connection; plain sockets, for a client must cost less than the API."""

    def __init__(self, port: int) -> None:
        self.used_at = 0.0
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(
        self, path: str, headers: dict[str, str], body: Json | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Raises OSError, EOFError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        head = {
            "Host": f"127.0.0.1:{self._port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **headers,
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        answered = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in answered[1:])
        }
        length = int(found.get("content-length", "0"))
        self.used_at = time.monotonic()
        return int(answered[0].split()[1]), found, await reader.readexactly(length)

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def toys(
    count: int, *, steps: int = 20, every: int = 5, rng: random.Random | None = None, first: int = 0
) -> list[Request]:
    """Experiments of two jobs each, a fit and its verdict. With ``rng`` some are cancelled."""
    train = {**making.TRAIN, "steps": steps, "checkpoint_every": every}
    requests = []
    for seed in range(first, first + count):
        body = {
            "kind": "training",
            "name": f"toy-{seed}",
            "dataset": "nuclei",
            "model": making.UNET,
            "train": train,
            "seeds": [seed],
        }
        cancelled = rng is not None and rng.random() < CANCELLED
        after = rng.uniform(0.0, 10.0) if rng is not None and cancelled else None
        requests.append(Request(f"key-{seed}", body, after))
    return requests


CANCELLED: Final = 0.02
