"""Names, tags, pauses and the build: what needs no server."""

import subprocess
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from kdcore import __version__
from worker.build import describe_build
from worker.tracking.environment import prepare
from worker.tracking.names import accepted_name, flattened
from worker.tracking.resting import LONGEST_SECONDS, Resting
from worker.tracking.tags import VALUE_LENGTH_MAX, experiments_tag


@pytest.mark.parametrize(
    "name", ["val/iou/Rocks (big)", "été, hiver", "/a", "a//b", "../a", "a/../b", "x" * 300, "."]
)
def test_refused_names_become_others(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    clean = accepted_name(name)
    _validate_metric_name(clean)  # type: ignore[no-untyped-call]
    assert len(clean) <= 250
    assert accepted_name("val/iou/rock wall-1.0:a") == "val/iou/rock wall-1.0:a"


def test_similar_names_stay_apart() -> None:
    assert len({accepted_name(name) for name in ("a(b", "a)b", "a_b", "a,b")}) == 4


def test_specs_are_flattened() -> None:
    spec = {"seed": 1, "train": {"size": [64, 64], "ema": None, "precision": "auto"}}
    assert flattened(spec) == {"seed": "1", "train.size": "[64, 64]", "train.precision": "auto"}


def test_of_very_many_experiments_the_newest_are_named() -> None:
    ids = [uuid4() for _ in range(500)]
    tag = experiments_tag(ids)
    assert len(tag) <= VALUE_LENGTH_MAX
    assert [UUID(id) for id in tag.split(",")] == ids[-tag.count(",") - 1 :]


def test_what_fails_again_and_again_rests_longer_and_longer() -> None:
    now = 0.0
    resting = Resting(lambda: now)
    one, other = uuid4(), uuid4()
    assert [resting.rest(one) for _ in range(4)] == [1, 2, 4, 8]
    assert resting.now() == {one}
    now = 9.0
    assert resting.now() == set()
    for _ in range(20):
        longest = resting.rest(one)
    assert longest == LONGEST_SECONDS
    resting.done(one)
    assert resting.now() == set()
    assert resting.rest(one) == resting.rest(other) == 1


def test_the_operator_has_the_last_word() -> None:
    environment = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
    prepare(environment)
    assert environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_build_is_what_the_image_says(tmp_path: Path) -> None:
    said = {"KD_GIT_SHA": "abc", "KD_LOCK_SHA256": "def", "KD_IMAGE_DIGEST": "sha256:123"}
    build = describe_build(said, root=tmp_path)
    assert build.pop("python")
    assert build == {
        "version": __version__,
        "git_sha": "abc",
        "lock_sha256": "def",
        "image": "sha256:123",
    }


def test_a_build_is_that_of_the_checkout(tmp_path: Path) -> None:
    assert set(describe_build({}, root=tmp_path)) == {"version", "python"}
    (tmp_path / "requirements.lock").write_text("torch==2.11\n")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    clean = describe_build({}, root=tmp_path)
    assert clean["git_sha"] == _git(tmp_path, "rev-parse", "HEAD")
    assert len(clean["lock_sha256"]) == 64
    assert "git_dirty" not in clean
    (tmp_path / "requirements.lock").write_text("torch==2.12\n")
    assert describe_build({}, root=tmp_path)["git_dirty"] == "true"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
