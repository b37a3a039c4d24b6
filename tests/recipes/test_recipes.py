"""The reference systems' recipes: valid in both forms, true to what was published, and runnable."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdcore.data.scan import scan
from kdcore.models import build_model
from kdcore.models.measure import parameters
from kdcore.run.forms import Form
from kdcore.run.recipe import read_recipe, run_recipe
from kdcore.spec.experiment import DistillationExperiment, models_of
from kdcore.spec.objective import Ramp, Term
from kdcore.spec.train import AdamW, TrainSpec, WarmupStableCosine
from tests.recipes.forms import MADE
from tests.samples import SAMPLES

RECIPES = Path(__file__).parents[2] / "recipes"
SYSTEMS = {
    "co2": "co2_plume_sample",
    "idd": "idd_lite_sample/idd20k_lite",
    "brats": "brats_sample",
    "voc": "voc_sample",
    "desert": "offroad_sample/Offroad_Segmentation_Training_Dataset",
}
systems = pytest.mark.parametrize("system", SYSTEMS)


def recipe(system: str, form: Form | None = None) -> DistillationExperiment:
    experiment, _ = read_recipe(RECIPES / f"{system}.yaml", form=form)
    assert isinstance(experiment, DistillationExperiment)
    return experiment


def terms(experiment: DistillationExperiment) -> dict[str, Term]:
    return {term.kind: term for term in experiment.objective}


def budgets(experiment: DistillationExperiment) -> list[TrainSpec]:
    trained = [teacher.train.train for teacher in experiment.teachers if teacher.train is not None]
    return [*trained, experiment.train]


def hyperparameters(term: Term) -> dict[str, Any]:
    return {"weight": term.weight, **term.hyperparameters()}


@systems
def test_the_small_form_is_the_same_experiment(system: str) -> None:
    full, small = recipe(system), recipe(system, "smoke")
    assert [term.kind for term in small.objective] == [term.kind for term in full.objective]
    assert [t.weight for t in small.objective] == [t.weight for t in full.objective]
    assert len(small.teachers) == len(full.teachers)
    for (field, one), (other, two) in zip(models_of(full), models_of(small), strict=True):
        assert (field, one.arch) == (other, two.arch)
        assert two.weights is None
    sources = [read_recipe(RECIPES / f"{system}.yaml", form=form)[1] for form in (None, "smoke")]
    assert len({source.layout.kind for source in sources}) == 1
    assert small.seeds == (0,)
    assert max(budget.steps for budget in budgets(small)) <= 20


@pytest.mark.parametrize(
    ("system", "classes", "published"),
    [
        # Published for one class, and for 27; the recipes leave out "unlabelled" or add background.
        ("co2", 1, [None, 6_628_945]),
        ("idd", 27, [5_152_091, 639_395]),
        ("brats", 2, [8_639_778, 605_645]),
        ("voc", 21, [35_322_218, 8_225_045]),
        ("desert", 10, [39_646_292, 47_230_154, 13_679_818]),
    ],
)
def test_the_networks_have_the_published_sizes(
    system: str, classes: int, published: list[int | None]
) -> None:
    for (_, spec), expected in zip(models_of(recipe(system)), published, strict=True):
        if expected is not None:
            model = build_model(spec.model_copy(update={"weights": None}), classes)
            assert parameters(model) == expected


def test_co2_sums_response_features_and_labels() -> None:
    assert set(terms(recipe("co2"))) == {"kd", "feature_l2", "ce", "dice"}
    teacher, student = (spec for _, spec in models_of(recipe("co2")))
    assert (teacher.arch, teacher.encoder) == ("attention_unetpp", "efficientnet-b4")
    assert (student.arch, student.encoder) == ("unet", "mobilenet_v2")
    _, source = read_recipe(RECIPES / "co2.yaml")
    assert (source.raw_id_map(), source.ignore_index) == ({0: 0, 255: 1}, None)


def test_idd_is_as_published() -> None:
    experiment = recipe("idd")
    found = terms(experiment)
    assert set(found) == {"kd", "dice", "lovasz"}
    assert hyperparameters(found["kd"]) == {
        "weight": 0.35,
        "temperature": 6.0,
        "clamp": None,
        "grid": "logits",
    }
    assert found["dice"].weight == pytest.approx(0.65 * 0.55)
    assert found["lovasz"].weight == pytest.approx(0.65 * 0.45)
    for train in budgets(experiment):
        assert train.optimizer == AdamW(lr=1e-3, betas=(0.9, 0.99), weight_decay=5e-4)
        assert train.schedule == WarmupStableCosine(start=0.1, warmup=0.16, stable=0.06, end=0.1)
        assert (train.batch, train.steps) == (8, 150 * 7_000 // 8)
    _, source = read_recipe(RECIPES / "idd.yaml")
    assert len(source.classes) == 27
    assert source.classes[source.raw_id_map()[0x000000]].name == "unlabelled"


def test_brats_is_as_published() -> None:
    experiment = recipe("brats")
    assert set(terms(experiment)) == {"ce", "kd"}
    for train in budgets(experiment):
        assert isinstance(train.optimizer, AdamW)
        assert train.optimizer.weight_decay == 0
        assert train.size == (128, 128)
    _, source = read_recipe(RECIPES / "brats.yaml")
    assert source.resize == (128, 128)
    assert source.layout.kind == "brats"
    assert len(source.layout.modalities) == 3


def test_voc_is_as_published() -> None:
    found = terms(recipe("voc"))
    response, features = found["kd"], found["cosine"]
    assert isinstance(response.weight, float)
    assert found["ce"].weight == 1 - response.weight
    assert getattr(features, "taps", None) == (
        ("features.3", "layer1"), ("features.6", "layer2"), ("features.12", "layer3"),
    )  # fmt: skip
    assert [term.weight for term in recipe("voc").baseline_objective()] == [1.0]
    _, source = read_recipe(RECIPES / "voc.yaml")
    assert source.layout.kind == "voc"
    assert source.layout.archive is not None
    assert (len(source.classes), source.ignore_index) == (21, 255)


def test_desert_is_as_published() -> None:
    experiment = recipe("desert")
    assert [teacher.weight for teacher in experiment.teachers] == [0.5, 0.5]
    assert experiment.ensemble.kind == "logit_mean"
    found = terms(experiment)
    up, down = found["kd"].weight, found["ce"].weight
    assert isinstance(up, Ramp)
    assert isinstance(down, Ramp)
    assert (up.start, up.end, up.shape, up.over) == (0.3, 0.7, "linear", "train")
    assert (down.start, down.end, down.shape, down.over) == (0.7, 0.3, "linear", "train")
    assert found["kd"].hyperparameters()["temperature"] == 2
    assert getattr(found["ce"], "class_weights", None) == "raw_inverse"
    for train in budgets(experiment):
        assert isinstance(train.optimizer, AdamW)
        assert train.optimizer.lr == 6e-5
        assert (train.size, train.batch, train.steps) == ((512, 512), 8, 50 * 2857 // 8)
        assert train.augment.horizontal_flip
        assert train.augment.rotate > 0
        assert train.augment.jitter > 0
    _, source = read_recipe(RECIPES / "desert.yaml")
    assert list(source.raw_ids()) == [
        (100,), (200,), (300,), (500,), (550,), (600,), (700,), (800,), (7100,), (10000,),
    ]  # fmt: skip


@systems
def test_made_data_is_of_the_samples_form(system: str, tmp_path: Path) -> None:
    if system == "brats":
        pytest.importorskip("nibabel")
    MADE[system](tmp_path / "data")
    _, source = read_recipe(RECIPES / f"{system}.yaml", form="smoke", data=tmp_path / "data")
    manifest = scan(source, converted=tmp_path / "converted")
    assert manifest.splits["train"]
    assert manifest.splits["val"]
    assert sum(count > 0 for count in manifest.statistics["train"].class_pixels) > 1


@systems
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_small_form_ends_with_a_verdict(system: str, tmp_path: Path) -> None:
    """On the real sample, or on made data of its form."""
    data = SAMPLES / SYSTEMS[system]
    if not data.is_dir():
        data = tmp_path / "data"
        MADE[system](data)
    path = RECIPES / f"{system}.yaml"
    report = run_recipe(path, tmp_path / "out", told=lambda *_: None, form="smoke", data=data)
    verdict = json.loads((report / "verdict.json").read_text())
    roles = [row["role"] for row in verdict["contestants"]]
    teachers = len(recipe(system).teachers)
    assert roles == [*(["teacher"] * teachers), "baseline", "distilled"]
    assert verdict["sentence"]
    assert verdict["delta"] is not None


@systems
def test_the_header_says_how_to_use_it(system: str) -> None:
    text = (RECIPES / f"{system}.yaml").read_text()
    header = " ".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
    for said in (f"kd run recipes/{system}.yaml --data", "--smoke", "Cost:", "Expected"):
        assert said in header
    assert system in (RECIPES / "README.md").read_text()
    assert "smoke" in yaml.safe_load(text)
