"""Trainings in this process have one thread, as those of kdcore's tests have."""

from tests.kdcore.conftest import one_thread

__all__ = ["one_thread"]
