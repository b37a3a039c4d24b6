"""Registering datasets: what is refused, what is kept, and where folders may lie."""

import hashlib
import shutil
import sys
from pathlib import Path

import httpx
import pytest

from api.settings import Settings
from tests.api.conftest import make_dataset
from tests.api.documents import Json, source
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from worker.artifacts import FolderStore
from worker.ledger.files import FileRef

SAMPLE = Path(__file__).parents[2] / "examples" / "nuclei"
REAL_SCANNER = (sys.executable, "-m", "kdcore", "scan")


def register(client: httpx.Client, document: Json) -> httpx.Response:
    return client.post("/v1/datasets", json=document)


def test_a_new_dataset_is_created(client: httpx.Client, folder: Path) -> None:
    answer = register(client, source(folder))
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == "/v1/datasets/tiny/revisions/1"
    assert client.get(answer.headers["location"]).json() == body
    assert (body["dataset"], body["number"], body["files"]) == ("tiny", 1, 12)
    assert body["splits"]["train"]["images"] == 2
    assert body["splits"]["train"]["statistics"] == {"class_pixels": [10, 10], "ignored_pixels": 1}
    assert [entry["name"] for entry in body["classes"]] == ["background", "cell"]


def test_equal_files_are_the_revision_that_exists(client: httpx.Client, folder: Path) -> None:
    first = register(client, source(folder))
    again = register(client, source(folder))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]


def test_changed_files_are_a_new_revision(client: httpx.Client, folder: Path) -> None:
    register(client, source(folder))
    (folder / "train/images/0.png").write_text("another")
    answer = register(client, source(folder))
    assert (answer.status_code, answer.json()["number"]) == (201, 2)
    detail = client.get("/v1/datasets/tiny").json()
    assert detail["latest"] == 2
    assert [revision["number"] for revision in detail["revisions"]] == [2, 1]
    (listed,) = client.get("/v1/datasets").json()["items"]
    assert (listed["name"], listed["latest"], listed["revisions"]) == ("tiny", 2, 2)


def test_every_bad_file_is_named(client: httpx.Client, folder: Path) -> None:
    for mask in ("train/masks/0.png", "val/masks/1.png"):
        (folder / mask).write_text("bad")
    problem = assert_problem(register(client, source(folder)), "invalid-dataset")
    assert problem["errors"] == [
        {"file": "train/masks/0.png", "reason": "mask holds ids that no class has: 9"},
        {"file": "val/masks/1.png", "reason": "mask holds ids that no class has: 9"},
    ]
    assert client.get("/v1/datasets").json()["items"] == []


@pytest.mark.parametrize("trouble", ["crash", "garble"])
def test_a_scanner_that_dies_is_no_server_fault(
    client: httpx.Client, folder: Path, trouble: str
) -> None:
    (folder / trouble).touch()
    assert_problem(register(client, source(folder)), "scan-failed")


def test_a_scanner_that_hangs_is_ended(settings: Settings, folder: Path) -> None:
    (folder / "hang").touch()
    with serve(settings.model_copy(update={"scan_seconds": 0.5})) as client:
        assert_problem(register(client, source(folder)), "scan-failed")
        (folder / "hang").unlink()


def test_relative_roots_lie_below_the_servers(client: httpx.Client, folder: Path) -> None:
    assert register(client, source("tiny")).status_code == 201


@pytest.mark.parametrize(
    "root",
    ["/", "/etc", "..", "../artifacts", "tiny/../..", "nothing", "", "out", "x" * 5000, "loop"],
)
def test_other_roots_are_refused_alike(
    client: httpx.Client, folder: Path, roots: Path, root: str
) -> None:
    (roots / "out").symlink_to("/etc")
    (roots / "loop").symlink_to("loop")
    problem = assert_problem(register(client, source(root)), "invalid-spec")
    (error,) = problem["errors"]
    assert error["pointer"] == "/root"
    if root:
        assert (
            error["detail"] == "No folder of this name lies below the dataset roots of the server."
        )
        assert "KD_DATASET_ROOTS" in error["remedy"]


def test_links_out_of_the_roots_are_not_followed(
    client: httpx.Client, folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "train/images/0.png").unlink()
    (folder / "train/images/0.png").symlink_to(secret)
    problem = assert_problem(register(client, source(folder)), "dataset-changed")
    assert "train/images/0.png" in problem["detail"]


def test_a_server_without_roots_says_so(settings: Settings, folder: Path) -> None:
    with serve(settings.model_copy(update={"dataset_roots": ()})) as client:
        problem = assert_problem(register(client, source(folder)), "invalid-spec")
        assert "no dataset roots" in problem["detail"]


def test_pages(client: httpx.Client, roots: Path) -> None:
    for name in ("a", "b", "c"):
        make_dataset(roots / name, salt=name)
        register(client, source(name, name=name))
    first = client.get("/v1/datasets?limit=2").json()
    assert [item["name"] for item in first["items"]] == ["c", "b"]
    rest = client.get("/v1/datasets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in rest["items"]] == ["a"]
    assert rest["next_cursor"] is None


def test_the_files_are_kept_as_they_were(
    client: httpx.Client, folder: Path, settings: Settings
) -> None:
    register(client, source(folder))
    content = (folder / "test/masks/1.png").read_bytes()
    ref = FileRef(hashlib.sha256(content).hexdigest(), len(content))
    with FolderStore(settings.artifacts_dir).open(ref) as file:
        assert file.read() == content


def test_the_real_scanner(settings: Settings, roots: Path, database_url: str) -> None:
    """Three pairs of the sample data; then one mask is not an image."""
    for split in ("train", "val", "test"):
        image = min((SAMPLE / split / "images").iterdir())
        for kind in ("images", "masks"):
            (roots / "nuclei" / split / kind).mkdir(parents=True)
            shutil.copy(SAMPLE / split / kind / image.name, roots / "nuclei" / split / kind)
    document = source(
        "nuclei", classes=[{"name": name} for name in ("background", "nucleus", "boundary")]
    )
    with serve(settings.model_copy(update={"scanner": REAL_SCANNER})) as client:
        answer = register(client, document)
        assert answer.status_code == 201, answer.text
        statistics = answer.json()["splits"]["train"]["statistics"]
        assert sum(statistics["class_pixels"]) + statistics["ignored_pixels"] == 256 * 256
        (mask,) = (roots / "nuclei/val/masks").iterdir()
        mask.write_bytes(b"no image")
        problem = assert_problem(register(client, document), "invalid-dataset")
        (error,) = problem["errors"]
        assert error["file"] == f"val/masks/{mask.name}"
        assert error["reason"]
