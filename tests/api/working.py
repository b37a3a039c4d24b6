"""A worker of the tests: claims a job, tells something, and ends it as told."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from api.settings import Settings
from kdcore.spec import Failure, FailureKind, Outcome
from kdcore.spec.events import Metric, Progress
from worker.ledger import Ledger, jobs
from worker.ledger.files import FileRef
from worker.ledger.jobs import Claim

LEASE = 60.0
FIT_FILES = {
    "model/model.safetensors": "weights",
    "model/model.json": '{"arch": "unet"}',
    "log.txt": "step 1\nstep 2\nstep 3\n",
}
REPORT_FILES = {
    "report/verdict.json": '{"sentence": "better"}',
    "report/verdict.html": '<html><img src="images/a.png"></html>',
    "report/images/a.png": "picture",
}


class Worker:
    def __init__(self, ledger: Ledger, settings: Settings, folder: Path) -> None:
        self.ledger = ledger
        self.store = settings.open_store()
        self.folder = folder

    def claim(self) -> Claim:
        with self.ledger.unit_of_work() as session:
            claim = jobs.claim(session, worker="w1", queues=("cpu",), lease_seconds=LEASE)
        assert claim is not None
        return claim

    def tell(self, claim: Claim, *, step: int, **values: float) -> None:
        """One progress event and one metric event."""
        now = datetime.now(UTC)
        events = [
            Progress(at=now, stage="training", step=step, steps=10, remaining_seconds=4.5),
            Metric(at=now, step=step, values=values or {"train/loss": 1 / step}),
        ]
        with self.ledger.unit_of_work() as session:
            jobs.relay(
                session,
                job_id=claim.job_id,
                attempt=claim.attempt,
                events=events,
                lease_seconds=LEASE,
            )

    def publish_checkpoint(self, claim: Claim, step: int) -> None:
        files = self.put({f"checkpoints/step-{step:08d}/state.pt": f"state {step}"})
        with self.ledger.unit_of_work() as session:
            jobs.publish(
                session, job_id=claim.job_id, attempt=claim.attempt, files=files, step=step
            )

    def succeed(self, claim: Claim, files: Mapping[str, str] | None = None) -> None:
        if files is None:
            files = FIT_FILES if claim.kind == "fit" else REPORT_FILES
        verdict: dict[str, Any] | None = (
            None if claim.kind == "fit" else {"sentence": "better", "delta": {"miou": 0.02}}
        )
        outcome = Outcome(status="succeeded", step=10, metrics={"val/miou": 0.5})
        self._finish(claim, outcome, files, verdict)

    def fail(self, claim: Claim) -> None:
        failure = Failure(
            kind=FailureKind.CODE_ERROR, message="it broke", field="train.size", remedy="halve it"
        )
        self._finish(claim, Outcome(status="failed", failure=failure), {"log.txt": "broken\n"})

    def interrupt(self, claim: Claim) -> None:
        self._finish(claim, Outcome(status="interrupted"), {})

    def run_all(self) -> None:
        """Everything that can be claimed, to its end."""
        while True:
            with self.ledger.unit_of_work() as session:
                claim = jobs.claim(session, worker="w1", queues=("cpu",), lease_seconds=LEASE)
            if claim is None:
                return
            self.tell(claim, step=1)
            self.succeed(claim)

    def put(self, files: Mapping[str, str]) -> dict[str, FileRef]:
        stored = {}
        for path, content in files.items():
            file = self.folder / "file"
            file.write_text(content)
            stored[path] = self.store.put(file)
        return stored

    def _finish(
        self,
        claim: Claim,
        outcome: Outcome,
        files: Mapping[str, str],
        verdict: dict[str, Any] | None = None,
    ) -> None:
        with self.ledger.unit_of_work() as session:
            jobs.finish(
                session,
                job_id=claim.job_id,
                attempt=claim.attempt,
                outcome=outcome,
                files=self.put(files),
                exit_status=0 if outcome.status == "succeeded" else 1,
                verdict=verdict,
            )
