"""Laying out run directories: inputs that are there, missing, rotten, or too many for the disk."""

import json
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from kdcore.spec import DatasetManifest, FailureKind
from tests.worker.supervisor.bench import manifest
from worker.artifacts import FolderStore
from worker.ledger import FileRef
from worker.ledger.jobs import Checkpoint, Claim
from worker.supervisor.blobs import BlobCache
from worker.supervisor.failing import AttemptFailed
from worker.supervisor.layout import Layout

IMAGE = sha256(b"image").hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    for content in (b"image", b"mask"):
        put(store, content)
    return store


@pytest.fixture
def layout(tmp_path: Path, store: FolderStore) -> Layout:
    return make_layout(tmp_path, store)


def test_a_whole_run_directory(tmp_path: Path, store: FolderStore, layout: Layout) -> None:
    run = tmp_path / "runs/job/a1"
    weights = put(store, b"weights")
    state, seal = put(store, b"state"), put(store, b"seal")
    folder = "checkpoints/step-00000004"
    checkpoint = Checkpoint(4, {f"{folder}/state.pt": state, f"{folder}/manifest.json": seal})
    claim = make_claim(
        inputs={"inputs/models/big": {"model.safetensors": weights}}, checkpoint=checkpoint
    )
    layout.lay_out(run, claim, check=lambda: None)
    assert json.loads((run / "spec.json").read_text()) == claim.spec
    assert (run / "inputs/dataset/train/images/a.png").read_bytes() == b"image"
    assert (run / "inputs/dataset/val/masks/a.png").read_bytes() == b"mask"
    written = (run / "inputs/dataset/manifest.json").read_text()
    assert DatasetManifest.model_validate_json(written) == claim.manifest
    assert (run / "inputs/models/big/model.safetensors").read_bytes() == b"weights"
    assert (run / folder / "state.pt").read_bytes() == b"state"
    assert not (run / folder / "state.pt").is_symlink()  # the trainer removes old checkpoints


def test_a_checkpoints_manifest_comes_last(
    tmp_path: Path, store: FolderStore, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    fetch = store.fetch

    def noted(ref: FileRef, destination: Path) -> None:
        fetched.append(destination.name)
        fetch(ref, destination)

    monkeypatch.setattr(store, "fetch", noted)
    files = {f"checkpoints/step-00000001/{name}": put(store, name.encode())
             for name in ("a.pt", "manifest.json", "z.pt")}  # fmt: skip
    claim = make_claim(checkpoint=Checkpoint(1, files))
    layout.lay_out(tmp_path / "runs/job/a1", claim, check=lambda: None)
    assert fetched[-3:] == ["a.pt", "z.pt", "manifest.json"]


@pytest.mark.parametrize("older", [True, False])
def test_a_rotten_checkpoint_is_passed_over(
    tmp_path: Path, store: FolderStore, layout: Layout, older: bool
) -> None:
    rotten, good = put(store, b"newest"), put(store, b"older")
    blob(store, rotten).write_bytes(b"rotten")
    newest = Checkpoint(8, {"checkpoints/step-00000008/state.pt": rotten})
    before = Checkpoint(4, {"checkpoints/step-00000004/state.pt": good})
    claim = make_claim(checkpoint=newest, older_checkpoint=before if older else None)
    run = tmp_path / "runs/job/a1"
    layout.lay_out(run, claim, check=lambda: None)
    left = [path.name for path in run.glob("checkpoints/*")]
    assert left == (["step-00000004"] if older else [])


def test_missing_and_changed_dataset_files(
    tmp_path: Path, store: FolderStore, layout: Layout
) -> None:
    blob(store, FileRef(IMAGE, 5)).write_bytes(b"imago")
    with pytest.raises(AttemptFailed) as caught:
        layout.lay_out(tmp_path / "runs/job/a1", make_claim(), check=lambda: None)
    assert caught.value.failure.kind is FailureKind.DATASET_CHANGED
    assert "train/images/a.png" in caught.value.failure.message
    blob(store, FileRef(IMAGE, 5)).unlink()
    with pytest.raises(AttemptFailed) as caught:
        layout.lay_out(tmp_path / "runs/job/a2", make_claim(), check=lambda: None)
    assert caught.value.failure.kind is FailureKind.INPUT_MISSING


def test_a_changed_local_copy_is_brought_again(
    tmp_path: Path, store: FolderStore, layout: Layout
) -> None:
    layout.lay_out(tmp_path / "runs/job/a1", make_claim(), check=lambda: None)
    image = tmp_path / "runs/job/a1/inputs/dataset/train/images/a.png"
    image.resolve().write_bytes(b"imago")
    for layout_again in (layout, make_layout(tmp_path, store)):
        run = tmp_path / f"runs/{uuid4()}/a1"
        layout_again.lay_out(run, make_claim(), check=lambda: None)
        assert (run / "inputs/dataset/train/images/a.png").read_bytes() == b"image"


def test_a_missing_model_file(tmp_path: Path, layout: Layout) -> None:
    claim = make_claim(inputs={"inputs/models/big": {"model.json": FileRef("0" * 64, 1)}})
    with pytest.raises(AttemptFailed, match=r"inputs/models/big/model\.json") as caught:
        layout.lay_out(tmp_path / "runs/job/a1", claim, check=lambda: None)
    assert caught.value.failure.kind is FailureKind.INPUT_MISSING


def test_a_full_disk_first_loses_the_copies_that_no_run_uses(
    tmp_path: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout(tmp_path, store, reserve_bytes=100)
    layout.lay_out(tmp_path / "runs/job/a1", make_claim(), check=lambda: None)
    unused = tmp_path / "blobs/aa/aabb"
    unused.parent.mkdir(exist_ok=True)
    unused.write_bytes(b"unused")
    monkeypatch.setattr(BlobCache, "free_bytes", lambda cache: 10)
    with pytest.raises(AttemptFailed) as caught:
        layout.lay_out(tmp_path / "runs/job/a2", make_claim(), check=lambda: None)
    assert caught.value.failure.kind is FailureKind.DISK_FULL
    assert not unused.exists()
    assert (tmp_path / "runs/job/a1/inputs/dataset/train/images/a.png").read_bytes() == b"image"


def make_layout(tmp_path: Path, store: FolderStore, *, reserve_bytes: int = 0) -> Layout:
    cache = BlobCache(tmp_path / "blobs", store)
    return Layout(
        tmp_path / "runs",
        store=store,
        cache=cache,
        reserve_bytes=reserve_bytes,
        patience_seconds=0,
    )


def make_claim(
    *,
    inputs: dict[str, dict[str, FileRef]] | None = None,
    checkpoint: Checkpoint | None = None,
    older_checkpoint: Checkpoint | None = None,
) -> Claim:
    return Claim(
        job_id=uuid4(),
        attempt=1,
        owner="ada",
        kind="fit",
        spec={"kind": "fit"},
        manifest=manifest(),
        inputs=inputs or {},
        checkpoint=checkpoint,
        older_checkpoint=older_checkpoint,
    )


def put(store: FolderStore, content: bytes) -> FileRef:
    source = store.root.parent / "source"
    source.write_bytes(content)
    return store.put(source)


def blob(store: FolderStore, ref: FileRef) -> Path:
    return store.root / "sha256" / ref.sha256[:2] / ref.sha256
