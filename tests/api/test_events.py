"""Events: in order, each once, from wherever one left off, until the job is over."""

import json
from collections.abc import Iterator

import anyio
import httpx

from api.event_stream import Batch, event_stream
from tests.api.documents import Json
from tests.api.problem_assertions import assert_problem
from tests.api.working import Worker

PAGE = {"Accept": "application/json"}


class Stream:
    """Reads server-sent events one at a time."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        self.lines = answer.iter_lines()
        self.comments = 0

    def __iter__(self) -> Iterator[Json]:
        event: Json = {}
        for line in self.lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                event[name] = json.loads(value) if name == "data" else value
            elif "data" in event:
                yield event
                event = {}
            else:
                event = {}

    def until(self, kind: str) -> list[Json]:
        seen = []
        for event in self:
            seen.append(event)
            if event["event"] == kind:
                return seen
        raise AssertionError(f"the stream ended before {kind}: {seen}")


def test_a_stream_follows_a_job_to_its_end(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    with client.stream("GET", f"/v1/jobs/{claim.job_id}/events") as answer:
        stream = Stream(answer)
        before = stream.until("job.claimed")
        worker.tell(claim, step=1)
        told = stream.until("metric")
        worker.succeed(claim)
        # The server ends the stream, so the rest is finite.
        rest = list(stream)
    assert rest[-1]["event"] == "job.succeeded"
    numbers = [int(event["id"]) for event in before + told + rest]
    assert numbers == list(range(1, len(numbers) + 1))
    for event in told:
        assert event["data"]["number"] == int(event["id"])
        assert event["data"]["type"] == event["event"]


def test_a_stream_goes_on_where_it_was_cut(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    url = f"/v1/jobs/{claim.job_id}/events"
    with client.stream("GET", url) as answer:
        last = Stream(answer).until("job.claimed")[-1]["id"]
    worker.tell(claim, step=1)
    worker.succeed(claim)
    with client.stream("GET", url, headers={"Last-Event-ID": last}) as answer:
        resumed = list(Stream(answer))
    assert int(resumed[0]["id"]) == int(last) + 1
    assert resumed[-1]["event"] == "job.succeeded"
    with client.stream("GET", url, params={"after": last}) as answer:
        assert list(Stream(answer)) == resumed
    # The header wins: an EventSource that reconnects keeps the URL it was opened with.
    with client.stream("GET", f"{url}?after=0", headers={"Last-Event-ID": last}) as answer:
        assert list(Stream(answer)) == resumed


def test_small_batches_give_the_same_stream(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    for step in range(1, 6):
        worker.tell(claim, step=step)
    worker.succeed(claim)
    url = f"/v1/jobs/{claim.job_id}/events"
    with client.stream("GET", url) as answer:
        whole = list(Stream(answer))
    with client.stream("GET", url, params={"limit": 1}) as answer:
        assert list(Stream(answer)) == whole


def test_after_the_end_there_is_nothing(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    worker.succeed(claim)
    url = f"/v1/jobs/{claim.job_id}/events"
    with client.stream("GET", url) as answer:
        last = list(Stream(answer))[-1]["id"]
    assert client.get(url, headers={"Last-Event-ID": last}).status_code == 204


def test_silence_is_filled_with_comments(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    with client.stream("GET", f"/v1/jobs/{claim.job_id}/events") as answer:
        lines = answer.iter_lines()
        assert any(line.startswith(": ping") for line in lines)


def test_a_stopping_server_ends_its_streams() -> None:
    asked: list[int] = []

    def read(after: int) -> Batch:
        asked.append(after)
        return Batch((), ended=False)

    async def collect() -> list[object]:
        # Stops after it has asked twice.
        stream = event_stream(read, 7, stopping=lambda: len(asked) == 2, poll=0.001, heartbeat=60.0)
        return [chunk async for chunk in stream.body_iterator]

    assert anyio.run(collect) == [b"retry: 2000\n\n"]
    assert asked == [7, 7]


def test_pages(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    claim = worker.claim()
    url = f"/v1/jobs/{claim.job_id}/events"
    first = client.get(url, headers=PAGE, params={"limit": 1}).json()
    assert [event["number"] for event in first["items"]] == [1]
    assert first["ended"] is False
    worker.succeed(claim)
    rest = client.get(url, headers=PAGE, params={"after": first["next_after"]}).json()
    assert rest["items"][-1]["type"] == "job.succeeded"
    assert rest["ended"] is True
    empty = client.get(url, headers=PAGE, params={"after": rest["next_after"]}).json()
    assert empty == {"items": [], "next_after": rest["next_after"], "ended": True}


def test_a_bad_event_id(client: httpx.Client, experiment: Json) -> None:
    url = f"/v1/jobs/{experiment['jobs'][0]['id']}/events"
    for bad in ("x", "-1", "99999999999"):
        problem = assert_problem(
            client.get(url, headers={"Last-Event-ID": bad}), "invalid-parameter"
        )
        assert problem["errors"][0]["location"] == "header"
