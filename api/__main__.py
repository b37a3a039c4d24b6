"""``python -m api``: serve the API until it is told to stop."""

import contextlib
import sys

import uvicorn
from pydantic import ValidationError

from api.app import create_app
from api.settings import Settings
from worker.log import configure
from worker.observing import tracing

KEEP_ALIVE_SECONDS = 15
"""Longer than clients keep an idle connection (httpx: 5 s), so that it is they who close it."""

SHUTDOWN_SECONDS = 5
"""Answers that are still being sent are cut after this."""


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        # pydantic's own text shows the input, which may hold a password.
        for item in error.errors(include_input=False, include_url=False):
            field = "_".join(str(part).upper() for part in item["loc"])
            sys.stderr.write(f"KD_{field}: {item['msg']}\n" if field else f"{item['msg']}\n")
        return 2
    configure(settings.log_format)
    tracing.configure("stillhouse-api")
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.api_host,
            port=settings.api_port,
            # Its lines go through our log, and requests have lines of our own.
            log_config=None,
            log_level="info",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    app.state.stopping = lambda: server.should_exit
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
