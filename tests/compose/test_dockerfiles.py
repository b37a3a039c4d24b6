"""The Dockerfiles keep the rules, and the rules see what breaks them."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.compose.dockerfiles import RULES, faults, stages

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
GOOD = 'FROM a:1 AS build\nRUN true\nFROM a:1\nCOPY --from=build /x /x\nUSER 1:1\nCMD ["x"]\n'
HEAVY = {"torch", "torchvision", "transformers", "segmentation-models-pytorch"}

BREAKS = {
    "DL3000": "WORKDIR app",
    "DL3003": "RUN cd /x && make",
    "DL3004": "RUN sudo make",
    "DL3006": "FROM debian",
    "DL3007": "FROM debian:latest",
    "DL3008": "RUN apt-get install --no-install-recommends -y gcc",
    "DL3009": "RUN apt-get update && true",
    "DL3013": "RUN python -m pip install --no-cache-dir uv",
    "DL3014": "RUN apt-get install --no-install-recommends gcc=1",
    "DL3015": "RUN apt-get install -y gcc=1",
    "DL3020": "ADD x /x",
    "DL3025": "CMD python -m api",
    "DL3027": "RUN apt install gcc",
    "DL3042": "RUN pip install uv==1",
    "DL3046": "RUN useradd --uid 10001 me",
    "DL4000": "MAINTAINER me",
    "DL4006": "RUN curl x | sh",
    "H2": "RUN --mount=type=cache,target=/x true",
    "H3": "COPY --link x /x",
    "H4": "RUN uv pip install torch",
    "H5": "ENV DB_PASSWORD=x",
}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_keeps_the_rules(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize("code", RULES)
def test_a_rule_sees_its_fault(code: str) -> None:
    assert faults(GOOD) == []
    broken = GOOD.replace("RUN true", f"RUN true\n{BREAKS[code]}")
    assert code in {fault.split(":")[0] for fault in faults(broken)}
    excused = GOOD.replace("RUN true", f"# hadolint ignore={code}\n{BREAKS[code]}")
    assert code not in {fault.split(":")[0] for fault in faults(excused)}


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (GOOD.replace("USER 1:1\n", ""), "DL3002"),
        (GOOD.replace("USER 1:1", "USER root"), "DL3002"),
        (GOOD.replace("USER 1:1", "USER 0:0"), "DL3002"),
        (GOOD.replace("--from=build", "--from=other"), "DL3022"),
        ("# syntax=docker/dockerfile:1\n" + GOOD, "H1"),
    ],
)
def test_a_rule_of_the_whole_sees_its_fault(broken: str, code: str) -> None:
    assert [fault.split(":")[0] for fault in faults(broken)] == [code]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_sent_to_the_builder(path: Path) -> None:
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for stage in stages(path.read_text()):
        for it in stage:
            if it.word != "COPY" or "--from" in it.rest:
                continue
            for source in shlex.split(it.rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert any(f"{source}/".startswith(f"{each}/") for each in sent), source


def test_torch_is_in_the_trainers_image_alone() -> None:
    for path in DOCKERFILES:
        asked = _requirements(path.read_text())
        assert bool(asked & HEAVY) == (path.name == "trainer.Dockerfile"), path.name


def _requirements(dockerfile: str) -> set[str]:
    """Names that its `uv pip install` asks for by groups and extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups, extras = project["dependency-groups"], project["project"]["optional-dependencies"]

    def names(entries: list[str | dict[str, str]]) -> set[str]:
        found: set[str] = set()
        for entry in entries:
            if isinstance(entry, dict):
                found |= names(groups[entry["include-group"]])
            else:
                found.add(re.split(r"[^A-Za-z0-9-]", entry)[0].lower())
        return found

    asked: set[str] = set()
    for group in re.findall(r"--group (\S+)", dockerfile):
        asked |= names(groups[group])
    for extra in re.findall(r"--extra (\S+)", dockerfile):
        asked |= names(extras[extra])
    assert asked
    return asked
