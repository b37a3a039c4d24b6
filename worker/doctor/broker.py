"""Redis: reachable, keeps what it is given, and has no known hole. Without it jobs still start."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from worker.doctor.findings import Finding, error, ok, skipped, warning
from worker.doctor.numbers import release
from worker.doctor.settings import DoctorSettings

WAIT_SECONDS: Final = 3.0
MENDED: Final = {(7, 2): "7.2.11", (7, 4): "7.4.6", (8, 0): "8.0.4"}
"""The first release of each line without a known remote hole; newer lines are all right."""


def check_broker(settings: DoctorSettings) -> Iterable[Finding]:
    if settings.broker_url is None:
        return [skipped("KD_BROKER_URL is not set: workers find jobs by asking the database")]
    url = settings.broker_url.get_secret_value()
    if not url.startswith(("redis://", "rediss://")):
        return [error("KD_BROKER_URL is no redis:// address", "Set redis://:PASSWORD@HOST:6379/0.")]
    return _ask(url)


def _ask(url: str) -> Iterator[Finding]:
    # Only here: a worker without a broker does not need it.
    from redis import Redis
    from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

    try:
        with Redis.from_url(
            url, socket_connect_timeout=WAIT_SECONDS, socket_timeout=WAIT_SECONDS
        ) as client:
            client.ping()
            yield from _judge(client.info())
    except (AuthenticationError, NoPermissionError) as refused:
        yield error(f"Redis refuses us: {refused}", "Correct user and password in KD_BROKER_URL.")
    except ValueError:
        yield error("KD_BROKER_URL cannot be read", "Set redis://:PASSWORD@HOST:6379/0.")
    except RedisError as failed:
        yield error(
            f"Redis does not answer: {failed}",
            "Start Redis; check host, port and firewall of KD_BROKER_URL. Until then jobs start "
            "some seconds later.",
        )


def _judge(info: dict[str, Any]) -> Iterator[Finding]:
    version = str(info["redis_version"])
    yield ok(f"Redis {version} answers")
    number = release(version)
    floor = next((told for line, told in MENDED.items() if number[:2] <= line), None)
    if floor is not None and number < release(floor):
        yield warning(f"Redis {version} has known holes", f"Upgrade to {floor} or newer.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield warning(
            f"Redis drops messages when its memory is full (maxmemory-policy {policy})",
            "Set maxmemory-policy noeviction.",
        )
