"""A worker whose consumer goes deaf while a file is there: ``deaf_worker.py FILE``.

It shows what celery #8030 and #10205 describe: connected, its event loop turning, and no queue
read. The file goes with the first start, so the process that comes after it hears.
"""

import sys
from pathlib import Path

from celery import signals
from kombu.transport.redis import Channel


def main(marker: Path) -> None:
    if marker.exists():
        marker.unlink()
        signals.worker_ready.connect(go_deaf, weak=False)
    from celery.bin.celery import celery

    command = ["-q", "-A", "worker.celery_app", "worker", "-l", "INFO", "-n", "deaf@%h"]
    celery.main(args=[*command, "--without-gossip", "--without-mingle"])


def go_deaf(**_: object) -> None:
    Channel._brpop_start = lambda *_, **__: None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
