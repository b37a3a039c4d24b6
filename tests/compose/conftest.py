"""One stack for all tests that need an engine: images take long to build, and a stack to come up."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.compose.stack import Stack

BUILD_SECONDS = 1800.0


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Built, and torn down with its volumes; whoever asks for it brings it up."""
    if not _engine_answers():
        if "CI" in os.environ:
            pytest.fail("no Docker engine with compose answers")
        pytest.skip("no Docker engine with compose answers")
    stack = Stack(tmp_path_factory.mktemp("compose"))
    try:
        stack.compose("build", seconds=BUILD_SECONDS)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans")
    assert stack.leftovers() == ""


def _engine_answers() -> bool:
    return shutil.which("docker") is not None and all(
        subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0
        for words in (("version",), ("compose", "version"))
    )
