"""A broker: well, badly set up, and away."""

import pytest

from tests.worker.doctor.checking import SECRET, found
from worker.doctor.broker import check_broker
from worker.doctor.findings import Level


def test_a_broker_that_is_well(redis_url: str) -> None:
    messages, _ = found(check_broker, broker_url=redis_url)
    assert messages[Level.OK].startswith("Redis ")


def test_a_broker_that_drops_messages(redis_url: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    messages, remedies = found(check_broker, broker_url=redis_url)
    assert "allkeys-lru" in messages[Level.WARNING]
    assert "noeviction" in str(remedies[Level.WARNING])


def test_a_broker_that_wants_another_password(redis_url: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        client.config_set("requirepass", "other")
    messages, remedies = found(
        check_broker, broker_url=redis_url.replace("redis://", f"redis://:{SECRET}@")
    )
    assert "refuses us" in messages[Level.ERROR]
    assert "password" in str(remedies[Level.ERROR])


@pytest.mark.parametrize(
    ("address", "level", "message"),
    [
        (None, Level.SKIPPED, "not set"),
        (f"amqp://kd:{SECRET}@rabbit", Level.ERROR, "no redis:// address"),
        (f"redis://:{SECRET}@127.0.0.1:1/0", Level.ERROR, "does not answer"),
        (f"redis://:{SECRET}@host:port/0", Level.ERROR, "cannot be read"),
    ],
)
def test_no_broker(address: str | None, level: Level, message: str) -> None:
    assert message in found(check_broker, broker_url=address)[0][level]
