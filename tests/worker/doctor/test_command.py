"""The doctor as people call it: `python -m worker.doctor` and `kd doctor`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

ROOT = Path(__file__).parents[3]
NAMES = ["database", "clock", "broker", "storage", "mlflow", "gpu", "disk", "versions"]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KD_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "KD_DATABASE_URL": database_url,
        "KD_ARTIFACTS_DIR": str(tmp_path),
        "KD_WORK_DIR": str(tmp_path),
        "KD_RESERVE_BYTES": "0",
    }


def test_lines_for_people(environment: dict[str, str], database_url: str) -> None:
    said = call("worker.doctor", [], environment)
    checks = [line.split()[1] for line in said.stdout.splitlines() if line[0] != " "]
    assert list(dict.fromkeys(checks)) == NAMES
    assert "ok       database  Postgres" in said.stdout
    # The tests' own Postgres does not write to its disk, and that is an error.
    assert "fsync is off" in said.stdout
    assert "remedy: Set fsync = on" in said.stdout
    assert said.returncode == 1
    password = make_url(database_url).password
    assert str(password) not in said.stdout + said.stderr


def test_json(environment: dict[str, str]) -> None:
    said = call("worker.doctor", ["--json"], environment)
    report = json.loads(said.stdout)
    assert report["healthy"] is False
    assert list(dict.fromkeys(each["check"] for each in report["findings"])) == NAMES


def test_kd_doctor_is_the_same(environment: dict[str, str]) -> None:
    said = call("kdcore", ["doctor", "--json"], environment)
    assert said.returncode == 1, said.stderr
    assert {each["check"] for each in json.loads(said.stdout)["findings"]} == set(NAMES)
    assert "usage: kd doctor" in call("kdcore", ["doctor", "--help"], environment).stdout


def test_kd_doctor_without_the_service(environment: dict[str, str], tmp_path: Path) -> None:
    """As from the wheel, which holds kdcore alone."""
    (tmp_path / "kdcore").symlink_to(ROOT / "kdcore")
    del environment["PYTHONPATH"]
    alone = [sys.executable, "-S", "-c", ONLY_KDCORE, str(tmp_path), *sys.path]
    said = subprocess.run(
        alone, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 1
    assert "the service is not installed here" in said.stderr
    assert "remedy: " in said.stderr


def test_settings_that_cannot_be_read(environment: dict[str, str]) -> None:
    environment["KD_RESERVE_BYTES"] = "much"
    said = call("worker.doctor", [], environment)
    assert said.returncode == 2
    assert said.stderr.startswith("KD_RESERVE_BYTES: ")


def test_it_is_light(environment: dict[str, str]) -> None:
    listing = "import worker.doctor.__main__, sys; print('torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", listing], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"


def call(
    module: str, arguments: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


ONLY_KDCORE = """
import sys
from pathlib import Path

folder, *path = sys.argv[1:]
sys.path[:] = [folder, *(part for part in path if part and not Path(part, "worker").is_dir())]
sys.argv = ["kd", "doctor"]
from kdcore.cli import main

main()
"""
