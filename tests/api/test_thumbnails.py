"""Thumbnails: made at registration, listed by split, served so that a browser keeps them."""

from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from api.settings import Settings
from tests import shapes
from tests.api.documents import Json, source
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from tests.api.test_datasets import REAL_SCANNER, register
from worker.ledger.datasets import Revision

LISTED = "/v1/datasets/tiny/revisions/1/thumbnails"


def listed(client: httpx.Client, **query: str | int) -> Json:
    answer = client.get(LISTED, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_split_is_shown(client: httpx.Client, folder: Path) -> None:
    register(client, source(folder))
    page = listed(client)
    assert page["next_cursor"] is None
    assert [(item["split"], item["sample"]) for item in page["items"]] == [
        (split, sample) for split in ("test", "train", "val") for sample in "01"
    ]
    for item in page["items"]:
        answer = client.get(item["url"])
        assert answer.status_code == 200
        assert answer.text.startswith(f"{item['split']} {item['sample']} ")
        assert len(answer.content) == item["size"]


def test_pages_and_one_split(client: httpx.Client, folder: Path) -> None:
    register(client, source(folder))
    seen, cursor = [], None
    for _ in range(2):
        page = listed(client, limit=4, **({"cursor": cursor} if cursor else {}))
        seen += [(item["split"], item["sample"]) for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert len(seen) == len(set(seen)) == 6
    assert [item["split"] for item in listed(client, split="val")["items"]] == ["val", "val"]
    assert listed(client, split="unlabelled")["items"] == []


@pytest.mark.parametrize(
    "cursor", ["x", "W10=", "WyJhIiwgOTk5OTk5OTk5OTk5XQ==", "WyJcdTAwMDAiLDFd"]
)
def test_a_cursor_that_is_none(client: httpx.Client, folder: Path, cursor: str) -> None:
    register(client, source(folder))
    assert_problem(client.get(LISTED, params={"cursor": cursor}), "invalid-reference")


def test_a_browser_may_keep_them(client: httpx.Client, folder: Path) -> None:
    register(client, source(folder))
    first = client.get(f"{LISTED}/train/0")
    assert first.headers["content-type"] == "image/webp"
    assert first.headers["cache-control"] == "private, max-age=86400, immutable"
    assert first.headers["content-disposition"].startswith("inline")
    again = client.get(f"{LISTED}/train/0", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(f"{LISTED}/train/0")
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("/v1/datasets/none/revisions/1/thumbnails", "not-found"),
        ("/v1/datasets/tiny/revisions/2/thumbnails", "not-found"),
        ("/v1/datasets/none/revisions/1/thumbnails/train/0", "not-found"),
        (f"{LISTED}/train/9", "not-found"),
        (f"{LISTED}/train/", "not-found"),
        (f"{LISTED}/train/..%2F..%2Fetc%2Fpasswd", "not-found"),
        (f"{LISTED}/elsewhere/0", "invalid-parameter"),
        (f"{LISTED}?split=elsewhere", "invalid-parameter"),
        (f"{LISTED}/train/%00", "invalid-reference"),
        (f"{LISTED}/train/{'x' * 2000}", "invalid-parameter"),
    ],
)
def test_what_is_not_there(client: httpx.Client, folder: Path, path: str, slug: str) -> None:
    register(client, source(folder))
    assert_problem(client.get(path), slug)


def test_a_revision_from_before_there_were_any(client: httpx.Client, dataset: Revision) -> None:
    assert listed(client)["items"] == []
    problem = assert_problem(client.get(f"{LISTED}/train/0"), "not-found")
    assert problem["detail"] == "tiny@1 has no thumbnail of '0' in train"


def test_registering_again_makes_what_is_missing(
    settings: Settings, database_url: str, folder: Path
) -> None:
    with serve(settings.model_copy(update={"thumbnails": 0})) as client:
        assert register(client, source(folder)).status_code == 201
        assert listed(client)["items"] == []
    with serve(settings) as client:
        for _ in range(2):
            assert register(client, source(folder)).status_code == 200
            assert len(listed(client)["items"]) == 6


@pytest.mark.parametrize("trouble", ["no-thumbnails", "huge-thumbnails", "linked-thumbnails"])
def test_without_its_pictures_nothing_is_registered(
    client: httpx.Client, folder: Path, trouble: str
) -> None:
    (folder / trouble).touch()
    assert_problem(register(client, source(folder)), "scan-failed")
    assert client.get("/v1/datasets").json()["items"] == []


def test_the_real_scanner_draws_masks_over_images(
    settings: Settings, roots: Path, database_url: str
) -> None:
    described = shapes.make_shapes(roots / "shapes")
    for kind in ("images", "masks"):
        (roots / f"shapes/train/{kind}/000.png").rename(roots / f"shapes/train/{kind}/!ä b?.png")
    document = {**described.to_json(), "name": "tiny"}
    changes = {"scanner": REAL_SCANNER, "thumbnails": 4}
    with serve(settings.model_copy(update=changes)) as client:
        assert register(client, document).status_code == 201
        items = listed(client)["items"]
        found = [item["split"] for item in items]
        assert [found.count(split) for split in ("train", "val", "test", "unlabelled")] == [
            4,
            3,
            3,
            4,
        ]
        for item in items:
            with Image.open(BytesIO(client.get(item["url"]).content)) as picture:
                assert (picture.format, picture.size) == ("WEBP", (48, 40))
        assert [item["sample"] for item in items if item["split"] == "train"] == [
            "!ä b?", "002", "004", "006",
        ]  # fmt: skip
