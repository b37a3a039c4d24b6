"""CamVid's recipes: one teacher, one student and one budget, by several methods."""

import json
from pathlib import Path

import pytest

from kdcore.run.forms import FORMS, Form
from kdcore.run.recipe import read_recipe, run_recipe
from kdcore.spec.experiment import DistillationExperiment, TrainingExperiment
from kdcore.spec.plan import PlannedJob, plan
from tests.recipes.forms import MADE

RECIPES = Path(__file__).parents[2] / "recipes"
METHODS = ("kd", "dist", "cwd", "mixed", "pool")
ALL = ("teacher", "plain", *METHODS)
every_form = pytest.mark.parametrize("form", [None, *FORMS])


def jobs(name: str, form: Form | None) -> tuple[PlannedJob, ...]:
    experiment, _ = read_recipe(RECIPES / f"camvid-{name}.yaml", form=form)
    return plan(experiment, "0" * 64, lambda ref: ref)


@every_form
def test_methods_differ_in_nothing_but_their_terms(form: Form | None) -> None:
    """Teacher and plain students of all recipes are the same work, down to the digest."""
    [teacher] = {
        job.digest for name in METHODS for job in jobs(name, form) if job.role == "teacher"
    }
    plain = {
        frozenset(job.digest for job in jobs(name, form) if job.role == "baseline")
        for name in METHODS
    }
    assert jobs("teacher", form)[0].digest == teacher
    models = frozenset(job.digest for job in jobs("plain", form) if job.role == "model")
    assert plain == {models}


def test_the_protocol_is_the_published_one() -> None:
    experiment, source = read_recipe(RECIPES / "camvid-kd.yaml")
    assert isinstance(experiment, DistillationExperiment)
    train = experiment.train
    assert (train.size, train.batch, train.steps, train.schedule) == (
        (360, 360),
        16,
        40_000,
        "poly",
    )
    assert (train.optimizer.kind, train.optimizer.lr) == ("sgd", 0.02)
    assert experiment.seeds == (0, 1, 2)
    assert (len(source.classes), source.ignore_index) == (11, 11)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.slow
def test_the_smoke_form_ends_with_a_verdict(name: str, tmp_path: Path) -> None:
    MADE["camvid"](tmp_path / "data")
    path = RECIPES / f"camvid-{name}.yaml"
    report = run_recipe(
        path, tmp_path / "out", told=lambda *_: None, form="smoke", data=tmp_path / "data"
    )
    verdict = json.loads((report / "verdict.json").read_text())
    experiment, _ = read_recipe(path)
    alone = isinstance(experiment, TrainingExperiment)
    roles = [row["role"] for row in verdict["contestants"]]
    assert roles == (["model"] if alone else ["teacher", "baseline", "distilled"])
