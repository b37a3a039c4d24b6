"""The MLflow server: answers, lets us in, and is of the version that our client is made for."""

from collections.abc import Iterable, Iterator
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from worker.doctor.findings import Finding, error, ok, skipped, warning
from worker.doctor.numbers import release
from worker.doctor.settings import DoctorSettings

WAIT_SECONDS: Final = 5.0
REFUSALS: Final = {
    401: "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    403: "Start the MLflow server with this host and port among its --allowed-hosts.",
    404: "Correct KD_MLFLOW_URL: there is something else than an MLflow server.",
}


def check_mlflow(settings: DoctorSettings) -> Iterable[Finding]:
    if settings.mlflow_url is None:
        yield skipped("KD_MLFLOW_URL is not set: metrics stay in the ledger")
        return
    base = settings.mlflow_url.rstrip("/")
    if not base.startswith(("http://", "https://")):
        yield error(f"{base} is no http address", "Set KD_MLFLOW_URL=http://HOST:5000.")
        return
    try:
        _get(f"{base}/health")
        found = _get(f"{base}/version")
    except HTTPError as refused:
        remedy = REFUSALS.get(refused.code, "Its log says why.")
        yield error(f"{base} answers {refused.code} {refused.reason}", remedy)
    except (OSError, HTTPException) as failed:
        reason = failed.reason if isinstance(failed, URLError) else failed
        yield error(
            f"{base} does not answer: {reason}",
            "Start the MLflow server. Trainings go on meanwhile, and no metric is lost.",
        )
    else:
        yield from _judge(base, found)


def _judge(base: str, found: str) -> Iterator[Finding]:
    yield ok(f"MLflow {found} answers at {base}")
    try:
        ours = version("mlflow-skinny")
    except PackageNotFoundError:
        yield error(
            "the MLflow client is not installed here", "Install the dependency group `worker`."
        )
        return
    if release(found)[:2] != release(ours)[:2]:
        yield warning(
            f"the server is MLflow {found}, the client here {ours}",
            "Run both from the same requirements.lock.",
        )


def _get(url: str) -> str:
    with urlopen(url, timeout=WAIT_SECONDS) as answer:  # noqa: S310 (http, looked at above)
        content: bytes = answer.read(1000)
    return content.decode(errors="replace").strip()
