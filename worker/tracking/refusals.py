"""What the tracking server says for ever, and what it may not say the next time."""

from typing import Final

from mlflow.exceptions import MlflowException, RestException

REFUSALS: Final = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})


def is_refusal(error: MlflowException) -> bool:
    """The server understood and refuses: the run was deleted there, for example."""
    return isinstance(error, RestException) and error.error_code in REFUSALS


def is_about_one(error: MlflowException) -> bool:
    """The server is there, and its answer is about this one run; without one it may be away."""
    return isinstance(error, RestException)


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
