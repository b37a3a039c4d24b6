"""The lines of the README that a reader pastes do what they say."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.settings import Settings
from tests.api.serving import serve
from tests.api.test_datasets import REAL_SCANNER
from tests.api.working import Worker

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="curl is not installed"
)
def test_the_lines_over_rest(settings: Settings, database_url: str, worker: Worker) -> None:
    changes = {"scanner": REAL_SCANNER, "dataset_roots": (ROOT / "examples",)}
    with serve(settings.model_copy(update=changes)) as client:
        lines = rest_lines().replace("http://localhost:8000", str(client.base_url).rstrip("/"))
        submit, follow = lines.split("JOB=", 1)
        variable = run(f'{submit}\nprintf "\\nEXPERIMENT=$EXPERIMENT"')[-1]
        worker.run_all()
        told = run(f"{submit.split('sed', 1)[0]}\n{variable}\nJOB={follow}")
        assert any(line.startswith("data: ") for line in told), "events, to the end of the job"
        assert json.loads(told[-1])["verdict"]["sentence"] == "better"


def rest_lines() -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Over REST")[2]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def run(lines: str) -> list[str]:
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
