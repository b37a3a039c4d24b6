"""Images a second and input stall, on a clock of our own."""

from collections.abc import Iterator

import pytest
import torch

from kdcore.data.batches import Batch
from kdcore.train.speed import Speed

BATCH = Batch(torch.zeros(4, 3, 1, 1, dtype=torch.uint8), torch.zeros(4, 1, 1), 4)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stream(clock: Clock, *, steps: int, seconds: float) -> Iterator[Batch]:
    for _ in range(steps):
        clock.now += seconds
        yield BATCH


def train(speed: Speed, clock: Clock, *, steps: int, waited: float, worked: float) -> None:
    for _ in speed.timed(stream(clock, steps=steps, seconds=waited)):
        clock.now += worked
        speed.stepped(4)
        clock.now += 100  # an evaluation


def test_waiting_is_a_share_of_the_steps_and_nothing_else() -> None:
    clock = Clock()
    speed = Speed(clock)
    assert speed.overall() == {}
    train(speed, clock, steps=3, waited=1, worked=3)
    assert speed.report() == {"images_per_second": 1.0, "input_stall": 0.25}
    train(speed, clock, steps=3, waited=0, worked=4)
    assert speed.overall() == {"images_per_second": 1.0, "input_stall": 0.125}
    assert speed.report() == {"images_per_second": 1.0, "input_stall": 0.0}
    assert speed.report() == {}
    assert speed.overall()["input_stall"] == pytest.approx(0.125)
