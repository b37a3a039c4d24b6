"""What a dataset looks like: small pictures of samples, their masks over them."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.bodies.base import PageBody
from api.bodies.datasets import ThumbnailBody
from api.dependencies import (
    CurrentLedger,
    CurrentOwner,
    CurrentStore,
    Cursor,
    Limit,
    Number,
    ThingName,
)
from api.downloads import file_responses, serve
from api.problems import Slug, failures
from worker.ledger import thumbnails

router = APIRouter(prefix="/datasets/{name}/revisions/{number}/thumbnails", tags=["datasets"])

Split = Literal["train", "val", "test", "unlabelled"]
CACHED: Final = {"Cache-Control": "private, max-age=86400, immutable"}
"""A revision never changes, and neither do its pictures."""


@router.get(
    "",
    response_model=PageBody[ThumbnailBody],
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER, Slug.INVALID_REFERENCE),
)
def list_thumbnails(
    name: ThingName,
    number: Number,
    ledger: CurrentLedger,
    owner: CurrentOwner,
    split: Annotated[Split | None, Query(description="Samples of this split only")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageBody[ThumbnailBody]:
    """By split, in the order of its samples. Empty for a revision that was registered without."""
    with ledger.unit_of_work() as session:
        page = thumbnails.list_thumbnails(
            session,
            owner=owner,
            dataset=name,
            number=number,
            split=split,
            cursor=cursor,
            limit=limit,
        )
    items = [ThumbnailBody.of(item, f"{name}/revisions/{number}") for item in page.items]
    return PageBody(items=items, next_cursor=page.next_cursor)


@router.head("/{split}/{sample:path}", include_in_schema=False)
@router.get(
    "/{split}/{sample:path}",
    response_class=Response,
    responses=file_responses(Slug.INVALID_REFERENCE, media_type="image/webp"),
)
def get_thumbnail(
    name: ThingName,
    number: Number,
    split: Split,
    sample: Annotated[str, Path(max_length=1024)],
    request: Request,
    ledger: CurrentLedger,
    store: CurrentStore,
    owner: CurrentOwner,
) -> Response:
    """At most 192 pixels wide and high; `ETag` is its sha256."""
    with ledger.unit_of_work() as session:
        found = thumbnails.get_thumbnail(
            session, owner=owner, dataset=name, number=number, split=split, sample=sample
        )
    return serve(store, found.file, f"{sample}.webp", request, headers=CACHED)
