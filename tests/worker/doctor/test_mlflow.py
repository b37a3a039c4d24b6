"""A tracking server: well, refusing, and away."""

import pytest

from tests.worker.doctor.checking import answering, found
from worker.doctor.findings import Level
from worker.doctor.tracking import check_mlflow


def test_an_mlflow_that_is_well() -> None:
    with answering(200, b"3.17.2") as url:
        messages, _ = found(check_mlflow, mlflow_url=f"{url}/")
    assert messages == {Level.OK: f"MLflow 3.17.2 answers at {url}"}


def test_an_mlflow_of_another_version() -> None:
    with answering(200, b"2.9.0") as url:
        messages, _ = found(check_mlflow, mlflow_url=url)
    assert "the server is MLflow 2.9.0" in messages[Level.WARNING]


@pytest.mark.parametrize(
    ("status", "remedy"), [(403, "--allowed-hosts"), (404, "KD_MLFLOW_URL"), (500, "log")]
)
def test_an_mlflow_that_refuses(status: int, remedy: str) -> None:
    with answering(status, b"no") as url:
        messages, remedies = found(check_mlflow, mlflow_url=url)
    assert f"answers {status}" in messages[Level.ERROR]
    assert remedy in str(remedies[Level.ERROR])


@pytest.mark.parametrize(
    ("address", "level"),
    [
        (None, Level.SKIPPED),
        ("file:///etc/passwd", Level.ERROR),
        ("http://127.0.0.1:1", Level.ERROR),
    ],
)
def test_no_mlflow(address: str | None, level: Level) -> None:
    assert found(check_mlflow, mlflow_url=address)[0].keys() == {level}
