"""TCP proxies that misbehave as networks do: replies lost, messages late, connections cut."""

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, Final

Upstream = Path | tuple[str, int]
"""A unix socket, or host and port."""

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Network:
    """The thread in which all proxies run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._proxies: list[Proxy] = []
        self._thread.start()

    def proxy(self, upstream: Upstream) -> "Proxy":
        proxy = Proxy(self._loop, upstream)
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        asyncio.run_coroutine_threadsafe(_let_connections_end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _let_connections_end() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Proxy:
    """One listening port of this machine that leads to ``upstream``; methods from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: Upstream) -> None:
        self.upstream = upstream
        self.loop = loop
        self.held = False
        self.word: bytes | None = None
        self.links: set[_Link] = set()
        self._open = True
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = listener.getsockname()[1]
        made = loop.create_server(lambda: _Link(self), sock=listener)
        self._server = asyncio.run_coroutine_threadsafe(made, loop).result()

    def lose_reply(self, to: bytes) -> None:
        """The next message that holds ``to`` gets through; its reply does not, the line is cut."""
        self._do(lambda: setattr(self, "word", to))

    def hold(self) -> None:
        """From now on what clients send is on its way; replies get through."""
        self._do(lambda: setattr(self, "held", True))

    def release(self) -> None:
        """What was on its way arrives, also from clients that are gone."""
        self._do(self._release)

    def waiting(self) -> int:
        """Connections of which a message is on its way."""
        return sum(bool(link.waiting) for link in list(self.links))

    def cut(self) -> None:
        """Every connection is reset."""
        self._do(self._cut)

    def shut(self) -> None:
        """Every connection is reset, and so is each new one until `reopen`."""
        self._do(lambda: (setattr(self, "_open", False), self._cut()))

    def reopen(self) -> None:
        self._do(lambda: setattr(self, "_open", True))

    def close(self) -> None:
        self._do(lambda: (self._server.close(), self._cut()))

    def lets_in(self) -> bool:
        return self._open

    def _do(self, action: Callable[[], object]) -> None:
        """In the network's thread, and done when this returns."""

        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self.loop).result()

    def _release(self) -> None:
        self.held = False
        for link in list(self.links):
            link.flush()

    def _cut(self) -> None:
        for link in list(self.links):
            link.reset()


class _Link(asyncio.Protocol):
    """A client's connection and the one that leads on to the server."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._client: Any = None
        self._server: Any = None
        self.waiting: list[bytes] = []
        self._client_left = False
        self._reply_is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = transport
        self._proxy.links.add(self)
        if self._proxy.lets_in():
            self._connecting = self._proxy.loop.create_task(self._connect())
        else:
            self.reset()

    def data_received(self, data: bytes) -> None:
        self.waiting.append(data)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_left = True
        self.flush()

    def flush(self) -> None:
        if self._proxy.held or self._server is None:
            return
        for data in self.waiting:
            if self._proxy.word is not None and self._proxy.word in data:
                self._proxy.word, self._reply_is_lost = None, True
            self._server.write(data)
        self.waiting.clear()
        if self._client_left:
            self._end()

    def answer(self, data: bytes) -> None:
        if self._reply_is_lost:
            self.reset()
        elif not self._client_left:
            self._client.write(data)

    def server_left(self) -> None:
        self._client.close()
        self._end()

    def reset(self) -> None:
        connection = self._client.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._client.abort()
        self._end()

    async def _connect(self) -> None:
        try:
            where = self._proxy.upstream
            answering = _Answers(self)
            if isinstance(where, Path):
                await self._proxy.loop.create_unix_connection(lambda: answering, str(where))
            else:
                await self._proxy.loop.create_connection(lambda: answering, *where)
        except OSError:
            self.reset()
            return
        self._server = answering.transport
        if self in self._proxy.links:
            self.flush()
        else:
            self._server.abort()  # it was cut meanwhile

    def _end(self) -> None:
        self._proxy.links.discard(self)
        if self._server is not None:
            self._server.close()


class _Answers(asyncio.Protocol):
    def __init__(self, link: _Link) -> None:
        self._link = link
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._link.answer(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.server_left()
