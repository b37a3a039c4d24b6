"""What every problem looks like."""

import httpx

from api.problems import PROBLEMS, Slug
from tests.api.documents import Json


def assert_problem(answer: httpx.Response, slug: str) -> Json:
    """The problem in ``answer``, which is of type ``slug`` and of the right shape."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: Json = answer.json()
    row = PROBLEMS[Slug(slug)]
    assert problem["type"] == f"/problems/{slug}", problem
    assert (answer.status_code, problem["status"]) == (row.status, row.status)
    assert problem["title"] == row.title
    assert problem["detail"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("retry-after" in answer.headers) == (row.status in (503, 507))
    return problem
