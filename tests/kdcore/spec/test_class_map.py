"""Classes meet by their names; whatever is not clear is refused, with the entry to mend."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdcore.spec.class_map import ClassesDiffer, known_classes, left_out, map_classes
from kdcore.spec.experiment import TeacherSpec
from kdcore.spec.job import CompareJob, FitJob
from tests.kdcore.spec.test_experiment import DISTILLATION
from tests.kdcore.spec.test_plan import planned

WANTED = ["sky", "road", "tree"]


@pytest.mark.parametrize(
    ("has", "given", "sources"),
    [
        (["sky", "road", "tree"], None, ((0,), (1,), (2,))),
        (["tree", "sky", "road"], None, ((1,), (2,), (0,))),
        (["void", "tree", "sky", "road"], {}, ((2,), (3,), (1,))),
        (["sky", "street", "tree"], {"road": "street"}, ((0,), (1,), (2,))),
        (["road", "tree"], {"sky": None}, ((), (0,), (1,))),
        (["bush", "sky", "oak", "road"], {"tree": ("oak", "bush")}, ((1,), (3,), (2, 0))),
        (["sky", "road", "tree"], {"road": "tree", "tree": "road"}, ((0,), (2,), (1,))),
    ],
    ids=["same", "permuted", "superset", "renamed", "subset", "merged", "crossed"],
)
def test_maps(has: list[str], given: Any, sources: Any) -> None:
    assert map_classes(has, WANTED, given) == sources


@pytest.mark.parametrize(
    ("has", "given", "at", "told"),
    [
        (["sky", "roads", "tree"], None, None, "road: roads"),
        (["sky", "road", "tree", "void"], None, None, "by name"),
        (["sky", "road"], {}, "tree", "null"),
        (["sky", "road", "tree"], {"raod": "road"}, "raod", "did you mean road"),
        (["sky", "street", "tree"], {"road": "streat"}, "road", "did you mean street"),
        (["sky", "road", "tree"], {"road": "tree"}, "tree", "null"),
        (["sky", "a", "b"], {"road": None, "tree": None}, None, "another teacher"),
    ],
)
def test_refused(has: list[str], given: Any, at: str | None, told: str) -> None:
    with pytest.raises(ClassesDiffer) as caught:
        map_classes(has, WANTED, given)
    assert caught.value.at == at
    assert told in caught.value.remedy


def test_what_is_known_and_what_is_left_out() -> None:
    sources = map_classes(["void", "tree", "sky"], WANTED, {"road": None})
    assert known_classes(sources) == (0, 2)
    assert left_out(sources, ["void", "tree", "sky"]) == ("void",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "m", "classes": {"road": "a", "tree": ["b", "a"]}},
        {"model": "m", "classes": {"road": []}},
        {"train": {"model": {"arch": "unet", "encoder": "resnet18"}, "train": {}}, "classes": {}},
    ],
)
def test_specs_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TeacherSpec.model_validate({"name": "t", **wrong})


def test_the_map_reaches_training_and_comparison() -> None:
    names = {"road": "street", "tree": ["oak", "bush"], "sky": None}
    spec = {**DISTILLATION, "teachers": [{"name": "t", "model": "models:/t/1", "classes": names}]}
    jobs = {key: job.job for key, job in planned(spec).items()}
    mapped = {"road": "street", "tree": ("oak", "bush"), "sky": None}
    distilled, verdict = jobs["distilled-0"], jobs["verdict"]
    assert isinstance(distilled, FitJob)
    assert isinstance(verdict, CompareJob)
    assert distilled.teachers[0].classes == mapped
    assert [one.classes for one in verdict.contestants if one.role == "teacher"] == [mapped]
    assert all(one.classes is None for one in verdict.contestants if one.role != "teacher")
