"""Times on the database's clock, which is the same for all workers."""

from typing import Any

from sqlalchemy import ColumnElement, Double, func


def seconds_since(moment: Any) -> ColumnElement[float]:
    """Negative for what is still to come."""
    return func.date_part("epoch", func.clock_timestamp() - moment, type_=Double)
