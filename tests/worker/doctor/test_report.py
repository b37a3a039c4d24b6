"""Findings of all checks together."""

import json
from collections.abc import Iterator

from worker.doctor.examining import examine
from worker.doctor.findings import Finding, Level, Report, error, ok
from worker.doctor.settings import DoctorSettings


def test_a_check_that_fails_is_a_finding() -> None:
    def broken(_: DoctorSettings) -> Iterator[Finding]:
        yield ok("so far")
        raise RuntimeError("boom")

    report = examine(DoctorSettings(), {"broken": broken, "fine": lambda _: [ok("well")]})
    first, second = report.findings["broken"]
    assert first.level is Level.OK
    assert "RuntimeError: boom" in second.message
    assert report.findings["fine"] == [ok("well")]
    assert not report.healthy


def test_a_report_as_json() -> None:
    report = Report({"disk": [ok("room")], "gpu": [error("gone", "bring it back")]})
    assert json.loads(json.dumps(report.to_json())) == {
        "healthy": False,
        "findings": [
            {"check": "disk", "level": "ok", "message": "room", "remedy": None},
            {"check": "gpu", "level": "error", "message": "gone", "remedy": "bring it back"},
        ],
    }
