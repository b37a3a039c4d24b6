"""What is not about anybody's things: health, metrics, the meaning of problems, the front door."""

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from api.dependencies import CurrentExposition, CurrentLedger, CurrentStore
from api.problems import PROBLEMS, Slug, failures, problem_response
from api.readiness import check

router = APIRouter(tags=["service"])


@router.get("/", include_in_schema=False)
def front_door() -> Response:
    return RedirectResponse("/docs")


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process lives; says nothing about what it depends on."""
    return {"status": "alive"}


@router.get("/readyz", responses=failures(Slug.UNAVAILABLE))
def readyz(ledger: CurrentLedger, store: CurrentStore) -> Response:
    """The database answers, its schema is current, and the artefact store takes files.

    A storage service that is away is shown, and takes nothing out of service.
    """
    checks = check(ledger, store)
    shown: dict[str, Any] = {name: result.to_json() for name, result in checks.items()}
    failed = ", ".join(name for name, each in checks.items() if each.needed and not each.ok)
    if not failed:
        return JSONResponse({"status": "ready", "checks": shown})
    return problem_response(
        Slug.UNAVAILABLE, f"Not ready: {failed}.", instance="/readyz", extra={"checks": shown}
    )


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(exposition: CurrentExposition) -> Response:
    """For Prometheus: requests of this process, and the queues; also while the database is away."""
    return Response(exposition.page(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/problems/{slug}", responses=failures(Slug.INVALID_PARAMETER))
def explain_problem(slug: Slug) -> dict[str, Any]:
    """What a problem's `type` means."""
    row = PROBLEMS[slug]
    return {
        "type": f"/problems/{slug}",
        "status": row.status,
        "title": row.title,
        "meaning": row.meaning,
    }
