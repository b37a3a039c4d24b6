"""Layouts that are converted into image files, through HTTP up to a model trained on them."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from pydantic import SecretStr

from api.settings import Settings
from kdcore.spec.dataset import DatasetSource
from tests.api.documents import Json, training
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from tests.api.test_datasets import REAL_SCANNER, register
from tests.kdcore.data import making
from tests.shapes import STUDENT
from tests.worker.supervisor.bench import QUICK, until
from worker.artifacts import FolderStore
from worker.ledger import Ledger
from worker.settings import WorkerSettings
from worker.supervisor.supervisor import Supervisor

VOC_CLASSES = 21


@pytest.fixture
def scanning(settings: Settings, database_url: str) -> Iterator[httpx.Client]:
    """An API with the scanner that really reads files."""
    with serve(settings.model_copy(update={"scanner": REAL_SCANNER})) as client:
        yield client


def voc_archive(roots: Path) -> DatasetSource:
    return making.voc_archive(roots, packed=True)


def coco(roots: Path) -> DatasetSource:
    pytest.importorskip("pycocotools")
    return making.coco(roots / "coco")


def parquet(roots: Path) -> DatasetSource:
    pytest.importorskip("pyarrow")
    return making.parquet(roots / "parquet")


@pytest.mark.parametrize(
    ("make", "class_pixels", "ignored"),
    [
        # Columns of 6 pixels, valued 0, 20, 255, 0, 20, 255, 0, 20.
        (voc_archive, [18, *[0] * (VOC_CLASSES - 2), 18], 12),
        (coco, [32, 16, 0], 0),
        # Two images of the columns 0, 1, 2, 0, 1, 2, 0, 1; 0 is ignored.
        (parquet, [36, 24], 36),
    ],
)
def test_statistics_and_pictures(
    scanning: httpx.Client,
    roots: Path,
    make: Callable[[Path], DatasetSource],
    class_pixels: list[int],
    ignored: int,
) -> None:
    answer = register(scanning, make(roots).to_json())
    assert answer.status_code == 201, answer.text
    statistics = answer.json()["splits"]["train"]["statistics"]
    assert statistics == {"class_pixels": class_pixels, "ignored_pixels": ignored}
    listed = scanning.get(f"{answer.headers['location']}/thumbnails").json()["items"]
    assert len(listed) == sum(split["images"] for split in answer.json()["splits"].values())
    assert scanning.get(listed[0]["url"]).headers["content-type"] == "image/webp"


@pytest.mark.slow
def test_a_model_is_trained_on_what_was_in_the_archive(
    scanning: httpx.Client, roots: Path, settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    described = voc_archive(roots)
    assert register(scanning, described.to_json()).status_code == 201
    (roots / "archive/voc.tar").unlink()  # the service has its own copy
    experiment = training(
        dataset="made", model=STUDENT, train={"size": [64, 64], "batch": 1, "steps": 2}
    )
    answer = scanning.post("/v1/experiments", json=experiment)
    assert answer.status_code == 201, answer.text
    fit = next(job for job in answer.json()["jobs"] if job["kind"] == "fit")
    with working(settings, ledger, tmp_path):
        until(lambda: job(scanning, fit["id"])["phase"] in ("succeeded", "failed"), seconds=120)
    ended = job(scanning, fit["id"])
    assert ended["phase"] == "succeeded", ended
    assert 0 <= ended["result"]["metrics"]["val/miou"] <= 1


def test_a_broken_archive_is_refused_with_every_file(scanning: httpx.Client, roots: Path) -> None:
    described = making.voc(roots / "plain")
    root = roots / "archive"
    root.mkdir()
    made = roots / "plain/VOCdevkit/VOC2012"
    (made / "JPEGImages/train_1.jpg").write_bytes(b"no picture")
    making.save(making.stripes([0, 77]), made / "SegmentationClass/val_1.png")
    (made / "ImageSets/Segmentation/train.txt").write_text("train_1\nmissing\n")
    with tarfile.open(root / "voc.tar", "w:") as tar:
        tar.add(roots / "plain/VOCdevkit", "VOCdevkit")
    document = {
        **described.to_json(),
        "root": str(root),
        "layout": {"kind": "voc", "archive": "voc.tar"},
    }
    problem = assert_problem(register(scanning, document), "invalid-dataset")
    told = {error["file"]: error["reason"] for error in problem["errors"]}
    base = "VOCdevkit/VOC2012"
    expected = {
        f"{base}/JPEGImages/train_1.jpg": "cannot be decoded",
        f"{base}/SegmentationClass/val_1.png": "ids that no class has: 77",
        f"{base}/JPEGImages/missing": "no image of this listed id",
        f"{base}/SegmentationClass/missing": "no mask of this listed id",
    }
    assert told.keys() == expected.keys()
    assert all(reason in told[file] for file, reason in expected.items()), told
    assert_nothing_is_registered(scanning)


@pytest.mark.parametrize("damage", ["cut", "link out", "garbage"])
def test_a_hostile_archive_is_refused_as_a_whole(
    scanning: httpx.Client, roots: Path, damage: str
) -> None:
    described = making.voc_archive(roots)
    archive = roots / "archive/voc.tar"
    match damage:
        case "cut":
            archive.write_bytes(archive.read_bytes()[:1500])
        case "link out":
            with tarfile.open(archive, "a") as tar:
                making.member(tar, "VOCdevkit/x", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        case "garbage":
            archive.write_bytes(b"\x1f\x8b garbage")
    problem = assert_problem(register(scanning, described.to_json()), "invalid-dataset")
    assert "voc.tar" in {error["file"] for error in problem["errors"]}
    assert_nothing_is_registered(scanning)


def assert_nothing_is_registered(client: httpx.Client) -> None:
    assert client.get("/v1/datasets").json()["items"] == []
    assert client.get("/v1/datasets/made").status_code == 404


def job(client: httpx.Client, job_id: str) -> Json:
    return client.get(f"/v1/jobs/{job_id}").json()


@contextmanager
def working(settings: Settings, ledger: Ledger, folder: Path) -> Iterator[None]:
    """A supervisor with real trainers until the block ends."""
    values = WorkerSettings(
        database_url=SecretStr(settings.database_url.get_secret_value()),
        work_dir=folder / "work",
        artifacts_dir=settings.artifacts_dir,
        **QUICK,
    )
    supervisor = Supervisor(values, ledger=ledger, store=FolderStore(settings.artifacts_dir))
    thread = Thread(target=supervisor.run)
    thread.start()
    try:
        yield
    finally:
        supervisor.stop()
        thread.join()
