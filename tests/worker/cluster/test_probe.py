"""When a consumer counts as deaf."""

from redis.exceptions import ConnectionError as BrokerGone

from worker.cluster.probe import UNANSWERED_MAX, Probe


class World:
    def __init__(self) -> None:
        self.sent = self.received = 0
        self.broker_is_there = True

    def send(self) -> None:
        if not self.broker_is_there:
            raise BrokerGone
        self.sent += 1


def looks(probe: Probe, count: int) -> list[bool]:
    return [probe.is_deaf() for _ in range(count)]


def test_deaf_is_who_misses_one_more_than_the_limit() -> None:
    world = World()
    probe = Probe(world.send, lambda: world.received)
    assert looks(probe, UNANSWERED_MAX) == [False] * UNANSWERED_MAX
    assert probe.is_deaf()


def test_any_message_shows_life() -> None:
    world = World()
    probe = Probe(world.send, lambda: world.received)
    for _ in range(3 * UNANSWERED_MAX):
        assert not probe.is_deaf()
        if world.sent % UNANSWERED_MAX == 0:
            world.received += 1


def test_a_broker_that_is_away_is_no_fault_of_the_consumer() -> None:
    world = World()
    probe = Probe(world.send, lambda: world.received)
    looks(probe, UNANSWERED_MAX)
    world.broker_is_there = False
    assert not any(looks(probe, 10))
    world.broker_is_there = True
    assert looks(probe, UNANSWERED_MAX + 1) == [False] * UNANSWERED_MAX + [True]


def test_who_hears_again_is_well() -> None:
    world = World()
    probe = Probe(world.send, lambda: world.received)
    assert looks(probe, UNANSWERED_MAX + 1)[-1]
    world.received += 1
    assert not probe.is_deaf()
