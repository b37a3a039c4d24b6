"""The table of methods, on made data: common work is done once, every cell is filled."""

from pathlib import Path

import pytest

from benchmarks.methods import main
from tests.recipes.forms import MADE

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_methods_make_a_table(tmp_path: Path) -> None:
    MADE["camvid"](tmp_path / "data")
    table = tmp_path / "results/table.md"
    command = [
        *(str(RECIPES / f"camvid-{name}.yaml") for name in ("kd", "cwd")),
        "--form", "smoke", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs"),
        "--set", "train.steps=4", "--table", str(table),
    ]  # fmt: skip
    main(command)
    jobs = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "runs/jobs").iterdir())
    assert jobs == ["baseline-0", "distilled-0", "distilled-0", "teacher-large"]
    rows = [line.split(" | ") for line in table.read_text().splitlines() if line.startswith("| ")]
    names = [row[0].removeprefix("| ") for row in rows]
    assert names[:5] == ["method", "teacher large", "plain", "camvid-kd", "camvid-cwd"]
    for row in rows[3:5]:
        assert " to " in row[3]
    assert "Sky" in names

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("outcome.json")}
    main(command)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "trained again"
