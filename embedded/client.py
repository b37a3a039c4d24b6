"""The few calls of the REST interface that the demo makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from embedded.errors import Refused

Json = dict[str, Any]


class Api:
    def __init__(self, address: str) -> None:
        # Registration reads every file of a dataset before it answers.
        self._client = httpx.Client(base_url=f"{address}/v1", timeout=300.0, trust_env=False)

    def register_dataset(self, source: Json) -> Json:
        return self._call("POST", "/datasets", json=source)

    def submit(self, experiment: Json, *, idempotency_key: str, force: bool) -> Json:
        return self._call(
            "POST",
            "/experiments",
            json=experiment,
            headers={"Idempotency-Key": idempotency_key},
            params={"force": "true"} if force else {},
        )

    def experiment(self, experiment_id: str) -> Json:
        return self._call("GET", f"/experiments/{experiment_id}")

    def cancel(self, experiment_id: str) -> None:
        self._call("POST", f"/experiments/{experiment_id}/cancel")

    def comparison(self, experiment_id: str) -> Json:
        return self._call("GET", f"/comparisons/{experiment_id}")

    def newest_metric(self, job_id: str, key: str) -> float | None:
        points = self._call("GET", f"/jobs/{job_id}/metrics", params={"key": key})["items"]
        return float(points[-1]["value"]) if points else None

    def log_tail(self, job_id: str, lines: int = 20) -> str:
        try:
            return self._send("GET", f"/jobs/{job_id}/logs", params={"tail": str(lines)}).text
        except Refused as error:
            return str(error)

    def download(self, job_id: str, path: str, destination: Path) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(self._send("GET", f"/jobs/{job_id}/artifacts/{path}").content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def _call(
        self,
        method: str,
        path: str,
        *,
        json: Json | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        answer: Json = self._send(method, path, json=json, headers=headers, params=params).json()
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        json: Json | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = self._client.request(method, path, json=json, headers=headers, params=params)
        except httpx.TransportError as error:
            raise Refused(f"{method} {path}: no answer: {error}") from error
        if answer.is_error:
            raise Refused(f"{method} {path}: {Problem.of(answer)}")
        return answer


@dataclass(frozen=True)
class Problem:
    """What a problem+json answer says, as lines for a person."""

    status: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, answer: httpx.Response) -> Self:
        try:
            body = answer.json()
        except ValueError:
            return cls(answer.status_code, (answer.text[:500],))
        lines = [str(body.get("detail") or body.get("title") or answer.reason_phrase)]
        for fault in body.get("errors", []):
            where = fault.get("pointer") or fault.get("file") or fault.get("field") or ""
            lines.append(f"  {where} {fault.get('detail') or fault.get('reason') or ''}".rstrip())
        return cls(answer.status_code, tuple(lines))

    def __str__(self) -> str:
        return f"{self.status} " + "\n".join(self.lines)
