"""Servers that tests need and do not bring along: without one they skip, and fail where CI is set."""

import os
import shutil

import pytest


def redis_server() -> str:
    """The path of ``redis-server``, of which each test starts its own."""
    found = shutil.which("redis-server")
    if found is None:
        _missing("no redis-server on PATH")
    assert found is not None
    return found


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
