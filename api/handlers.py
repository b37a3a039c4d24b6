"""From exceptions to problems. `STATUS_OF` alone gives a domain error its status."""

from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.observed import REQUEST_ID
from api.problems import ERRORS_LISTED, FieldError, Refusal, Slug, problem_response
from api.remedies import remedy
from api.spec_schemas import body_schema
from kdcore.spec.pointers import dotted, locate, pointer
from worker.artifacts import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    StorageFull,
    StorageUnavailable,
)
from worker.ledger.errors import (
    IdempotencyMismatch,
    InvalidReference,
    LedgerError,
    LedgerUnavailable,
    NotAllowedNow,
    NotFound,
)

STATUS_OF: Final[dict[type[Exception], Slug]] = {
    NotFound: Slug.NOT_FOUND,
    InvalidReference: Slug.INVALID_REFERENCE,
    IdempotencyMismatch: Slug.IDEMPOTENCY_MISMATCH,
    NotAllowedNow: Slug.NOT_ALLOWED_NOW,
    LedgerUnavailable: Slug.UNAVAILABLE,
    ArtifactMissing: Slug.CONTENT_GONE,
    ArtifactCorrupt: Slug.CONTENT_GONE,
    StorageFull: Slug.STORAGE_FULL,
    StorageUnavailable: Slug.UNAVAILABLE,
}
"""A domain error that is not here is a fault of ours: 500."""

_HTTP: Final[dict[int, Slug]] = {
    400: Slug.BAD_REQUEST,
    404: Slug.NOT_FOUND,
    405: Slug.METHOD_NOT_ALLOWED,
    413: Slug.CONTENT_TOO_LARGE,
    415: Slug.UNSUPPORTED_MEDIA_TYPE,
    416: Slug.RANGE_NOT_SATISFIABLE,
}

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(LedgerError, _domain)
    app.add_exception_handler(ArtifactError, _domain)
    app.add_exception_handler(Exception, _fault)


def _http(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    if isinstance(error, Refusal):
        return problem_response(
            error.slug,
            error.detail,
            instance=request.url.path,
            errors=error.errors,
            headers=error.headers,
            extra=error.extra,
        )
    slug = _HTTP.get(error.status_code, Slug.INTERNAL_ERROR)
    detail = {
        Slug.NOT_FOUND: "There is no such resource.",
        Slug.METHOD_NOT_ALLOWED: f"{request.method} is not possible here.",
        Slug.CONTENT_TOO_LARGE: "The body is larger than this server takes.",
    }.get(slug, str(error.detail))
    return problem_response(slug, detail, instance=request.url.path, headers=error.headers)


def _validation(request: Request, error: Exception) -> Response:
    """Errors of the body come with pointers into it; those of parameters with their name."""
    error = cast(RequestValidationError, error)
    raw = error.errors()
    body = [{**item, "loc": item["loc"][1:]} for item in raw if item["loc"][0] == "body"]
    if not body:
        parameters = [_parameter_error(item) for item in raw]
        detail = "; ".join(f"{item.field}: {item.detail}" for item in parameters[:3])
        return problem_response(
            Slug.INVALID_PARAMETER, detail, instance=request.url.path, errors=parameters
        )
    errors = _body_errors(request, body, error.body)
    shown = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    where = f"{shown.field}: " if shown.field else ""
    return problem_response(
        Slug.INVALID_SPEC,
        f"{where}{shown.detail}{more}",
        instance=request.url.path,
        errors=errors[:ERRORS_LISTED],
    )


def _body_errors(
    request: Request, raw: Sequence[dict[str, Any]], document: Any
) -> list[FieldError]:
    route = cast(APIRoute, request.scope["route"])
    schema = body_schema(route.path)
    return [
        FieldError(
            location="body",
            pointer=pointer(item.path),
            field=dotted(item.path),
            detail=item.message,
            remedy=remedy(item, schema, document),
        )
        for item in locate(raw, document)
    ]


def _parameter_error(item: dict[str, Any]) -> FieldError:
    location = cast(Literal["query", "path", "header"], item["loc"][0])
    return FieldError(location=location, field=str(item["loc"][-1]), detail=item["msg"])


def _domain(request: Request, error: Exception) -> Response:
    slug = next((STATUS_OF[cls] for cls in type(error).__mro__ if cls in STATUS_OF), None)
    if slug is None:
        return _fault(request, error)
    if slug is Slug.UNAVAILABLE:
        advice = getattr(error, "remedy", None)
        log.warning("request.unavailable", path=request.url.path, error=repr(error), remedy=advice)
    elif slug in (Slug.CONTENT_GONE, Slug.STORAGE_FULL):
        log.error("request.storage_failed", path=request.url.path, error=repr(error))
    # A store's message names folders of the server.
    storage = "The artefact store cannot serve this content."
    detail = error.message if isinstance(error, LedgerError) else storage
    field = getattr(error, "field", None)
    errors = None if field is None else [_reference_error(request, field, detail)]
    return problem_response(slug, detail, instance=request.url.path, errors=errors)


def _reference_error(request: Request, field: str, message: str) -> FieldError:
    if field in request.query_params:
        return FieldError(location="query", field=field, detail=message)
    path = tuple(field.split("."))
    return FieldError(location="body", pointer=pointer(path), field=field, detail=message)


def _fault(request: Request, error: Exception) -> Response:
    log.error("request.failed", path=request.url.path, error=type(error).__name__)
    return problem_response(
        Slug.INTERNAL_ERROR,
        "The server failed to answer this request; its log says why, under the request's id.",
        instance=request.url.path,
        headers={REQUEST_ID: request.state.request_id},
    )
