"""`kd run recipe.yaml --out DIR`: from a file to a verdict, without any service."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdcore.errors import KdError, SpecError
from kdcore.run.recipe import read_recipe, run_recipe
from kdcore.spec.dataset import DatasetSource
from kdcore.spec.rundir import EVENTS
from tests.shapes import STUDENT

TRAIN = {"size": [32, 32], "batch": 2, "steps": 6, "evaluate_every": 3}
RECIPE: dict[str, Any] = {
    "kind": "distillation",
    "name": "shapes",
    "dataset": "dataset.yaml",
    "teachers": [{"name": "big", "train": {"model": STUDENT, "train": TRAIN}}],
    "student": {"model": STUDENT},
    "objective": [{"kind": "ce"}, {"kind": "kd"}, {"kind": "cwd", "weight": 0.1}],
    "train": TRAIN,
    "unlabelled": {"share": 0.5},
    "seeds": [0, 1],
    "latency": {"warmup": 1, "runs": 2},
}


@pytest.fixture
def recipe(source: DatasetSource, tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(source.to_json()))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def test_from_recipe_to_verdict(recipe: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdcore", "run", str(recipe), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = tmp_path / "out/jobs/verdict/report"
    verdict = json.loads((report / "verdict.json").read_text())
    assert verdict["sentence"].split()[0] in done.stdout
    assert {row["name"] for row in verdict["contestants"]} == {
        "big", "baseline-0", "baseline-1", "distilled-0", "distilled-1",
    }  # fmt: skip
    assert verdict["split"] == "test"
    assert verdict["images"] == 3
    for row in verdict["contestants"]:
        assert 0 <= row["miou"] <= 1
        assert row["parameters"] > 0
        assert row["latency_ms"]["p50"] > 0
    assert "without masks" in " ".join(verdict["notes"])
    assert (report / "verdict.md").read_text().startswith("#")
    assert "data:image/" in (report / "verdict.html").read_text()


def test_the_same_without_the_pool_beside_it(recipe: Path, tmp_path: Path) -> None:
    pool = {"share": 0.5, "min_confidence": 0.4, "compare_without": True}
    recipe.write_text(yaml.safe_dump({**RECIPE, "unlabelled": pool}))
    report = run_recipe(recipe, tmp_path / "out", told=lambda *_: None)
    verdict = json.loads((report / "verdict.json").read_text())
    rows = {row["name"]: row for row in verdict["contestants"]}
    assert rows["distilled-without-pool-1"]["role"] == "distilled_without_pool"
    means = {role: summary["miou_mean"] for role, summary in verdict["summary"].items()}
    part = means["distilled"] - means["distilled_without_pool"]
    assert verdict["pool_delta"]["miou"] == pytest.approx(part)
    assert "the images without masks account for" in verdict["sentence"]
    assert "Distilled, no pool" in (report / "verdict.md").read_text()
    assert "What the images without masks changed" in (report / "verdict.html").read_text()
    kept = _pool_kept(tmp_path / "out/jobs/distilled-0")
    assert len(kept) == 1
    assert 0 <= kept[0] <= 1
    assert _pool_kept(tmp_path / "out/jobs/distilled-without-pool-0") == []


def _pool_kept(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / EVENTS).read_text().splitlines()]
    values = [event["values"] for event in events if event["type"] == "metric"]
    return [each["train/pool_kept"] for each in values if "train/pool_kept" in each]


def test_what_is_done_is_not_done_again(recipe: Path, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path / "out", told=lambda *_: None)
    again: list[object] = []
    run_recipe(recipe, tmp_path / "out", told=lambda *event: again.append(event))
    assert again == []
    recipe.write_text(yaml.safe_dump({**RECIPE, "train": {**TRAIN, "steps": 7}}))
    with pytest.raises(SpecError, match="another recipe"):
        run_recipe(recipe, tmp_path / "out", told=lambda *_: None)


def test_a_model_folder_may_be_the_teacher(recipe: Path, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path / "out", told=lambda *_: None)
    teacher = {"name": "mine", "model": "out/jobs/teacher-big/model"}
    recipe.write_text(yaml.safe_dump({**RECIPE, "teachers": [teacher], "seeds": [0]}))
    report = run_recipe(recipe, tmp_path / "other", told=lambda *_: None)
    rows = json.loads((report / "verdict.json").read_text())["contestants"]
    assert [row["name"] for row in rows] == ["mine", "baseline-0", "distilled-0"]


def test_a_job_that_fails_ends_it_with_its_reason(recipe: Path, tmp_path: Path) -> None:
    model = {"arch": "unet", "encoder": "resnet1800"}
    recipe.write_text(yaml.safe_dump({**RECIPE, "student": {"model": model}}))
    with pytest.raises(KdError, match="baseline-0: no encoder named resnet1800") as caught:
        run_recipe(recipe, tmp_path / "out", told=lambda *_: None)
    assert caught.value.field == "model.encoder"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1, 2]", "a mapping is expected"),
        ("a: [", "recipe.yaml"),
        (yaml.safe_dump({**RECIPE, "objctive": []}), "objctive"),
        (yaml.safe_dump({**RECIPE, "dataset": "gone.yaml"}), "gone.yaml"),
        (yaml.safe_dump({**RECIPE, "dataset": 3}), "dataset"),
        (yaml.safe_dump({**RECIPE, "smoke": 3}), "smoke: a mapping"),
    ],
)
def test_recipes_that_are_none(recipe: Path, content: str, told: str) -> None:
    recipe.write_text(content)
    with pytest.raises(SpecError, match=told):
        read_recipe(recipe)


def test_a_dataset_that_is_not_here(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kdcore", "run", str(recipe), "--data", "gone"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"shapes is not here: {tmp_path / 'gone'} is no folder" in done.stderr
    assert "field: dataset.root" in done.stderr
    assert "remedy: name its folder: kd run RECIPE --data FOLDER" in done.stderr


def test_the_small_form_is_as_closed_as_the_full_one(recipe: Path) -> None:
    changes = {"train": {"stesp": 3}}
    recipe.write_text(yaml.safe_dump({**RECIPE, "smoke": changes}))
    with pytest.raises(SpecError, match=r"train\.stesp"):
        read_recipe(recipe, form="smoke")


def test_data_stands_for_the_root(recipe: Path, tmp_path: Path) -> None:
    _, given = read_recipe(recipe)
    _, other = read_recipe(recipe, data=tmp_path)
    assert Path(other.root) == tmp_path
    assert other == given.model_copy(update={"root": other.root})


def test_only_a_recipe_has_data_and_a_small_form(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kdcore", "run", str(tmp_path), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is a run directory" in done.stderr


def test_scan_on_the_command_line(source: DatasetSource, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(source.model_dump_json())
    command = [sys.executable, "-m", "kdcore", "scan", "source.json", "--out", "manifest.json"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["classes"][1]["name"] == "disc"
    bad = source.model_copy(update={"root": str(tmp_path)})
    (tmp_path / "source.json").write_text(bad.model_dump_json())
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 2
    errors = json.loads((tmp_path / "manifest.json").read_text())["errors"]
    assert {"file": "train/images", "reason": "no such folder"} in errors
