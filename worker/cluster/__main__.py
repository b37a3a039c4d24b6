"""``python -m worker.cluster worker|beat [OPTION...]``: Celery's own commands, as we run them.

``celery -A worker.celery_app worker`` does the same; here it needs no options.
"""

import os
import sys
from typing import Final, NoReturn

COMMANDS: Final[dict[str, list[str]]] = {
    # Workers have nothing to tell each other: which of them runs a job, the ledger decides.
    "worker": ["worker", "--loglevel=INFO", "--without-gossip", "--without-mingle"],
    "beat": ["beat", "--loglevel=INFO"],
}


def main(arguments: list[str]) -> NoReturn:
    """Becomes Celery, or ends with a word about how to call it."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        sys.exit(f"usage: {__doc__}")
    celery = ["-m", "celery", "--quiet", "--app", "worker.celery_app"]
    os.execv(sys.executable, [sys.executable, *celery, *command, *arguments[1:]])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
