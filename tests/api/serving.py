"""The API in a thread of the test process, behind a real socket."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings


@contextmanager
def serve(
    settings: Settings, *, change: Callable[[FastAPI], None] = lambda _: None
) -> Iterator[httpx.Client]:
    """A client of a server that stands until the block ends; ``change`` gets the app before that."""
    # Listening before the server starts: connections wait in the backlog rather than fail.
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    app = create_app(settings)
    change(app)
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="none",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    app.state.stopping = lambda: server.should_exit
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=address, timeout=30.0, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
