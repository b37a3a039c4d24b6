"""Celery's consumer, but for what it does about errors that nobody foresaw."""

from typing import Any

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
    """Whatever happens to it, it connects anew: bytes that are no message are an example.

    Celery's own ends the worker then, and with it all that runs there.
    """

    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connection_errors = (*self.connection_errors, Exception)
