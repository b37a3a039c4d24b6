"""A profiled run leaves its table and its trace, and trains the same weights."""

import gzip
import json
from pathlib import Path

import pytest

from kdcore.run.directory import run_directory
from kdcore.timing import PARTS
from kdcore.train.profile import TABLE, TRACE, table
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.train.test_resume import assert_bit_equal, teacher_of
from tests.kdcore.train.test_training import with_train


def shares(run: Path) -> dict[str, float]:
    _, *rows = (run / "profile" / TABLE).read_text().splitlines()
    return {name: float(share.rstrip("%")) for name, _, share in map(str.split, rows)}


def test_parts_and_trace(lay_out: LayOut, fit_spec: FitSpec) -> None:
    teacher = {"inputs/models/one": teacher_of(lay_out, fit_spec)}
    spec = {
        **with_train(fit_spec, steps=20),
        "objective": [{"kind": "ce"}, {"kind": "kd"}],
        "teachers": [{"name": "one", "path": "inputs/models/one"}],
    }
    plain, profiled = (lay_out(name, spec, teacher) for name in ("plain", "profiled"))
    assert run_directory(plain).status == "succeeded"
    assert run_directory(profiled, profile=True).status == "succeeded"
    assert_bit_equal(plain, profiled)
    assert not (plain / "profile").exists()
    found = shares(profiled)
    assert list(found) == [*PARTS, "step"]
    assert all(found[name] > 0 for name in ("data", "teacher", "student", "loss", "backward"))
    assert sum(found[name] for name in PARTS) == pytest.approx(100, abs=0.5)
    with gzip.open(profiled / "profile" / TRACE) as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert set(PARTS) <= names


def test_a_training_too_short_for_a_profile_says_nothing(
    lay_out: LayOut, fit_spec: FitSpec
) -> None:
    run = lay_out("run", with_train(fit_spec, steps=3))
    assert run_directory(run, profile=True).status == "succeeded"
    assert not (run / "profile").exists()


def test_the_table() -> None:
    seconds = dict.fromkeys(PARTS, 0.0) | {"student": 0.3, "backward": 0.1}
    lines = table(seconds, 10).splitlines()
    assert lines[3].split() == ["student", "30.00", "75.0%"]
    assert lines[-1].split() == ["step", "40.00", "100.0%"]
