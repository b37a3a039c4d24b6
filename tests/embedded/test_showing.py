"""What the demo prints."""

import io
from typing import Any

import httpx
from rich.console import Console

from embedded.client import Problem
from embedded.progress import JobsProgress
from embedded.verdict import print_verdict


def console() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def job(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "key": "distilled-0",
        "phase": "running",
        "reused": False,
        "attempt": 1,
        "progress": {"stage": "training", "step": 40, "steps": 100},
        "progressPercentage": 40.0,
        "estimatedRemainingSeconds": 61.7,
        "reason": None,
        "message": None,
        **changes,
    }


def test_progress_without_a_terminal_is_lines() -> None:
    out = console()
    with JobsProgress(out) as progress:
        progress.show([job(phase="queued", progress=None)], {})
        progress.show([job()], {"1": 0.5})
        progress.show([job(phase="succeeded")], {"1": 0.6123})
    assert text(out).splitlines() == [
        "distilled-0: queued",
        "distilled-0: running training 40/100  62 s left  val mIoU 0.500",
        "distilled-0: succeeded val mIoU 0.612",
    ]


def test_failed_job_says_why() -> None:
    out = console()
    with JobsProgress(out) as progress:
        progress.show([job(phase="failed", reason="non_finite_loss", message="loss at step 7")], {})
    assert "failed non_finite_loss: loss at step 7" in text(out)


def contestant(role: str, miou: float, **changes: Any) -> dict[str, Any]:
    return {
        "name": role,
        "role": role,
        "seed": 0,
        "miou": miou,
        "iou": [miou, None],
        "parameters": 880_000,
        "flops": 250_000_000,
        "latency_ms": {"p50": 3.21, "p99": 5.0},
        **changes,
    }


def test_verdict_shows_scores_gains_and_sentence() -> None:
    out = console()
    print_verdict(
        {
            "sentence": "The distilled student is better.",
            "split": "test",
            "classes": ["background", "nucleus"],
            "contestants": [contestant("teacher", 0.7, seed=None), contestant("distilled", 0.65)],
            "delta": {
                "miou": 0.021,
                "low": 0.012,
                "high": 0.03,
                "confidence": 0.95,
                "per_class": [{"class": "nucleus", "delta": None, "low": None, "high": None}],
            },
            "gap_recovered": 0.4,
        },
        out,
    )
    shown = text(out)
    for part in ("0.700", "0.650", "0.88 M", "0.25", "3.2", "+2.10", "+1.20", "40%", "is better."):
        assert part in shown


def test_verdict_with_the_pools_part() -> None:
    out = console()
    rows = [contestant("distilled_without_pool", 0.6), contestant("distilled", 0.65)]
    interval = {"low": -0.01, "high": 0.02, "confidence": 0.95, "per_class": []}
    print_verdict(
        {
            "sentence": "The distilled student is better.",
            "split": "test",
            "classes": ["background", "nucleus"],
            "contestants": rows,
            "delta": {"miou": 0.031, **interval},
            "pool_delta": {"miou": 0.0123, **interval},
            "gap_recovered": None,
        },
        out,
    )
    for part in ("distilled, no pool", "Of it from images without masks", "+1.23", "-1.00"):
        assert part in text(out)


def test_verdict_without_a_pair_has_no_gains() -> None:
    out = console()
    bare = contestant("model", 0.5, flops=None, latency_ms=None)
    print_verdict(
        {
            "sentence": "Nothing to compare.",
            "split": "val",
            "classes": ["a", "b"],
            "contestants": [bare],
            "delta": None,
            "gap_recovered": None,
        },
        out,
    )
    assert "minus" not in text(out)


def test_problem_names_every_fault() -> None:
    answer = httpx.Response(
        422,
        json={
            "title": "Invalid",
            "detail": "2 faults",
            "errors": [{"pointer": "/seeds", "detail": "must be unique"}, {"file": "a.png"}],
        },
    )
    assert str(Problem.of(answer)) == "422 2 faults\n  /seeds must be unique\n  a.png"


def test_answer_that_is_no_problem_is_shown_as_it_is() -> None:
    assert str(Problem.of(httpx.Response(502, text="bad gateway"))) == "502 bad gateway"
