"""Every failure of the API as one table of problem types (RFC 9457), and the way to answer so.

A problem's ``type`` is the relative reference ``/problems/{slug}``; following it gives the row's
meaning. Slugs are stable: clients may branch on them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE: Final = "application/problem+json"


class Slug(StrEnum):
    BAD_REQUEST = "bad-request"
    INVALID_JSON = "invalid-json"
    INVALID_HOST = "invalid-host"
    CROSS_ORIGIN = "cross-origin"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    REQUEST_TIMEOUT = "request-timeout"
    NOT_ALLOWED_NOW = "not-allowed-now"
    DATASET_CHANGED = "dataset-changed"
    CONTENT_GONE = "content-gone"
    CONTENT_TOO_LARGE = "content-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    INVALID_SPEC = "invalid-spec"
    INVALID_PARAMETER = "invalid-parameter"
    INVALID_REFERENCE = "invalid-reference"
    INVALID_DATASET = "invalid-dataset"
    SCAN_FAILED = "scan-failed"
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch"
    INTERNAL_ERROR = "internal-error"
    UNAVAILABLE = "unavailable"
    BUSY = "busy"
    STORAGE_FULL = "storage-full"


@dataclass(frozen=True)
class ProblemType:
    status: int
    title: str
    meaning: str


PROBLEMS: Final[dict[Slug, ProblemType]] = {
    Slug.BAD_REQUEST: ProblemType(400, "Bad request", "The request cannot be understood."),
    Slug.INVALID_JSON: ProblemType(
        400, "Not acceptable JSON", "The body is not JSON, or deeper or wider than any spec."
    ),
    Slug.INVALID_HOST: ProblemType(
        400, "Unknown host", "The Host header names no host of this server; see KD_API_HOSTS."
    ),
    Slug.CROSS_ORIGIN: ProblemType(
        403, "Cross origin", "A web page of another origin may not change anything here."
    ),
    Slug.NOT_FOUND: ProblemType(404, "Not found", "There is no such thing, or it is not yours."),
    Slug.METHOD_NOT_ALLOWED: ProblemType(
        405, "Method not allowed", "The Allow header lists what this resource answers to."
    ),
    Slug.REQUEST_TIMEOUT: ProblemType(408, "Request too slow", "The body did not arrive in time."),
    Slug.NOT_ALLOWED_NOW: ProblemType(
        409, "Not allowed now", "The state of the thing forbids the action."
    ),
    Slug.DATASET_CHANGED: ProblemType(
        409, "Dataset changed", "A file changed after its validation; register again."
    ),
    Slug.CONTENT_GONE: ProblemType(410, "Content gone", "The file is known but no longer stored."),
    Slug.CONTENT_TOO_LARGE: ProblemType(413, "Body too large", "No spec needs this many bytes."),
    Slug.UNSUPPORTED_MEDIA_TYPE: ProblemType(
        415, "Not JSON", "Bodies are `Content-Type: application/json`."
    ),
    Slug.RANGE_NOT_SATISFIABLE: ProblemType(
        416, "Range not satisfiable", "The asked range lies outside the file."
    ),
    Slug.INVALID_SPEC: ProblemType(
        422, "Invalid spec", "Each entry of `errors` names a field of the body and what is wrong."
    ),
    Slug.INVALID_PARAMETER: ProblemType(
        422, "Invalid parameter", "A path, query or header parameter is out of its bounds."
    ),
    Slug.INVALID_REFERENCE: ProblemType(
        422, "Invalid reference", "The request names a dataset or model that cannot be used."
    ),
    Slug.INVALID_DATASET: ProblemType(
        422, "Invalid dataset", "Each entry of `errors` names a file and the reason it is refused."
    ),
    Slug.SCAN_FAILED: ProblemType(
        422, "Dataset not readable", "The validation of the files crashed or took too long."
    ),
    Slug.IDEMPOTENCY_MISMATCH: ProblemType(
        422, "Idempotency-Key used already", "The key belongs to a request with another body."
    ),
    Slug.INTERNAL_ERROR: ProblemType(
        500, "Internal error", "A fault of the server; its log holds the details."
    ),
    Slug.UNAVAILABLE: ProblemType(
        503, "Temporarily unavailable", "A service behind the API does not answer; try again."
    ),
    Slug.BUSY: ProblemType(503, "Busy", "Too many dataset validations run; try again."),
    Slug.STORAGE_FULL: ProblemType(507, "Storage full", "The artefact store has no space left."),
}

RETRY_AFTER_SECONDS: Final = "2"
ERRORS_LISTED: Final = 200


class FieldError(BaseModel):
    """What is wrong with one field of the request, or with one file of a dataset."""

    location: Literal["body", "query", "path", "header"] | None = None
    pointer: str | None = Field(default=None, description="JSON pointer into the body as sent")
    field: str | None = Field(default=None, description="The same as a dotted path")
    detail: str | None = None
    remedy: str | None = None
    file: str | None = Field(default=None, description="Dataset file, relative to its root")
    reason: str | None = Field(default=None, description="Why the file is refused")


class Problem(BaseModel):
    """RFC 9457 problem details; `type` is stable, everything else is for people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`/problems/{slug}`")
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldError] | None = None


class Refusal(HTTPException):
    """Raise it to answer with a problem. ``extra`` becomes members of the problem."""

    def __init__(
        self,
        slug: Slug,
        detail: str,
        *,
        errors: Iterable[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(PROBLEMS[slug].status, detail, headers)
        self.slug = slug
        self.errors = None if errors is None else list(errors)
        self.extra = dict(extra or {})


def problem_response(
    slug: Slug,
    detail: str,
    *,
    instance: str | None = None,
    errors: list[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The answer for ``slug``; 503 and 507 carry Retry-After, 408 and 500 end the connection."""
    row = PROBLEMS[slug]
    body = Problem(
        type=f"/problems/{slug}",
        title=row.title,
        status=row.status,
        detail=detail,
        instance=instance,
        errors=errors,
        **(extra or {}),
    )
    retry = {"Retry-After": RETRY_AFTER_SECONDS} if row.status in (503, 507) else {}
    # A sender that is too slow is not waited for. One that sends too much is, because a connection
    # that is cut in the middle loses the answer too. After a fault the server closes by itself.
    close = {"Connection": "close"} if row.status in (408, 500) else {}
    return JSONResponse(
        body.model_dump(mode="json", exclude_none=True),
        row.status,
        headers={"Cache-Control": "no-store", **retry, **close, **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def failures(*slugs: Slug) -> dict[int | str, dict[str, Any]]:
    """OpenAPI ``responses`` of a route: the named problems and those that every route may have."""
    declared: dict[int | str, dict[str, Any]] = {}
    every = (Slug.INVALID_HOST, Slug.INTERNAL_ERROR, Slug.UNAVAILABLE)
    for slug in sorted({*slugs, *every}, key=lambda slug: (PROBLEMS[slug].status, slug)):
        row = PROBLEMS[slug]
        line = f"`/problems/{slug}`: {row.meaning}"
        entry = declared.setdefault(row.status, {"model": Problem, "description": line})
        if entry["description"] != line:
            entry["description"] += f"\n\n{line}"
    return declared
