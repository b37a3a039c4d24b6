"""Downloads: artifacts, logs, model files and the report with its pictures."""

import hashlib
from pathlib import Path

import httpx
import pytest

from api.settings import Settings
from tests.api.documents import Json
from tests.api.problem_assertions import assert_problem
from tests.api.working import FIT_FILES, Worker

WEIGHTS = FIT_FILES["model/model.safetensors"].encode()
ETAG = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'


@pytest.fixture
def job(client: httpx.Client, experiment: Json, worker: Worker) -> str:
    """URL of a succeeded fit that left a checkpoint too."""
    claim = worker.claim()
    worker.publish_checkpoint(claim, 5)
    worker.succeed(claim)
    return f"/v1/jobs/{claim.job_id}"


@pytest.fixture
def weights(job: str) -> str:
    return f"{job}/artifacts/model/model.safetensors"


def test_list(client: httpx.Client, job: str) -> None:
    listed = client.get(f"{job}/artifacts").json()["items"]
    assert [item["path"] for item in listed] == [
        "checkpoints/step-00000005/state.pt",
        "log.txt",
        "model/model.json",
        "model/model.safetensors",
    ]
    assert listed[-1]["sha256"] == ETAG.strip('"')
    (checkpoint,) = client.get(f"{job}/checkpoints").json()["items"]
    assert checkpoint["step"] == 5
    assert [file["path"] for file in checkpoint["files"]] == [listed[0]["path"]]


def test_download(client: httpx.Client, weights: str) -> None:
    answer = client.get(weights)
    assert answer.content == WEIGHTS
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["etag"] == ETAG
    assert answer.headers["content-length"] == str(len(WEIGHTS))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


def test_head(client: httpx.Client, weights: str) -> None:
    answer = client.head(weights)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(WEIGHTS))


def test_what_the_client_has_is_not_sent(client: httpx.Client, weights: str) -> None:
    for header in (ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"):
        answer = client.get(weights, headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == ETAG
    assert client.get(weights, headers={"If-None-Match": '"x"'}).status_code == 200


def test_ranges(client: httpx.Client, weights: str) -> None:
    for header, expected, content_range in [
        ("bytes=0-2", b"wei", "bytes 0-2/7"),
        ("bytes=3-", b"ghts", "bytes 3-6/7"),
        ("bytes=-2", b"ts", "bytes 5-6/7"),
        ("bytes=-99", WEIGHTS, "bytes 0-6/7"),
        ("bytes=5-99", b"ts", "bytes 5-6/7"),
    ]:
        answer = client.get(weights, headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, expected), header
        assert answer.headers["content-range"] == content_range
        assert answer.headers["content-length"] == str(len(expected))


def test_ranges_that_are_ignored(client: httpx.Client, weights: str) -> None:
    for header in ("bytes=0-1,3-4", "lines=1-2", "bytes=2-1", "bytes=", "bytes=-", "bytes=a-b"):
        answer = client.get(weights, headers={"Range": header})
        assert (answer.status_code, answer.content) == (200, WEIGHTS), header


def test_ranges_outside_of_the_file(client: httpx.Client, weights: str) -> None:
    for header in ("bytes=7-", "bytes=99-100", "bytes=-0"):
        answer = client.get(weights, headers={"Range": header})
        assert_problem(answer, "range-not-satisfiable")
        assert answer.headers["content-range"] == "bytes */7"


def test_a_range_of_what_changed_is_the_whole(client: httpx.Client, weights: str) -> None:
    part = {"Range": "bytes=0-2"}
    assert client.get(weights, headers={**part, "If-Range": ETAG}).status_code == 206
    assert client.get(weights, headers={**part, "If-Range": '"old"'}).content == WEIGHTS


def test_only_what_is_published_is_served(client: httpx.Client, job: str) -> None:
    for path in (
        "model",
        "model/none",
        "../log.txt",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "",
        "%00",
    ):
        assert_problem(client.get(f"{job}/artifacts/{path}"), "not-found")


def test_log(client: httpx.Client, job: str) -> None:
    answer = client.get(f"{job}/logs")
    assert answer.text == "step 1\nstep 2\nstep 3\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    tail = client.get(f"{job}/logs?tail=2")
    assert tail.text == "step 2\nstep 3\n"
    assert tail.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get(f"{job}/logs?tail=99").text == answer.text


def test_no_log_yet(client: httpx.Client, experiment: Json) -> None:
    answer = client.get(f"/v1/jobs/{experiment['jobs'][0]['id']}/logs")
    assert (answer.status_code, answer.text) == (200, "")


def test_content_that_is_gone(client: httpx.Client, weights: str, settings: Settings) -> None:
    digest = ETAG.strip('"')
    (settings.artifacts_dir / "sha256" / digest[:2] / digest).unlink()
    problem = assert_problem(client.get(weights), "content-gone")
    assert str(settings.artifacts_dir) not in problem["detail"]


def test_models(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    worker.run_all()
    listed = client.get("/v1/models").json()["items"]
    assert {model["name"] for model in listed} == {
        "demo-teacher-big",
        "demo-baseline",
        "demo-distilled",
    }
    model = client.get("/v1/models/demo-distilled").json()
    (version,) = model["versions"]
    assert version["number"] == 1
    assert version["metrics"] == {"val/miou": 0.5}
    assert version["job_id"] in {job["id"] for job in experiment["jobs"]}
    files = "/v1/models/demo-distilled/versions/1/files"
    assert client.get(f"{files}/model.safetensors").content == WEIGHTS
    assert client.get(f"{files}/model.json").headers["content-type"] == "application/json"
    for missing in ("/v1/models/demo-distilled/versions/2/files/model.json", f"{files}/log.txt"):
        assert_problem(client.get(missing), "not-found")


def test_comparison_and_report(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    url = f"/v1/comparisons/{experiment['id']}"
    early = client.get(url).json()
    assert (early["phase"], early["verdict"]) == ("waiting", None)
    assert_problem(client.get(f"{url}/report"), "not-found")
    worker.run_all()
    done = client.get(url).json()
    assert done["phase"] == "succeeded"
    assert done["verdict"]["sentence"] == "better"
    page = client.get(f"{url}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-disposition"].startswith("inline")
    policy = page.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    # As a browser resolves the relative address in the page.
    picture = client.get(page.url.join("images/a.png"))
    assert (picture.text, picture.headers["content-type"]) == ("picture", "image/png")
    assert_problem(client.get(f"{url}/images/none.png"), "not-found")
    html = client.get(f"/v1/jobs/{done['job_id']}/artifacts/report/verdict.html")
    assert html.headers["content-disposition"].startswith("attachment")


def test_a_large_file_is_streamed(
    client: httpx.Client, experiment: Json, worker: Worker, tmp_path: Path
) -> None:
    claim = worker.claim()
    content = "0123456789" * 300_000
    worker.succeed(claim, {**FIT_FILES, "model/model.safetensors": content})
    url = f"/v1/jobs/{claim.job_id}/artifacts/model/model.safetensors"
    assert client.get(url).text == content
    part = client.get(url, headers={"Range": "bytes=1000000-2000009"})
    assert part.text == content[1_000_000:2_000_010]


def test_a_folder_sends_files_itself_whatever_is_asked_for(
    client: httpx.Client, weights: str
) -> None:
    assert client.get(weights, params={"presigned": True}).content == WEIGHTS
