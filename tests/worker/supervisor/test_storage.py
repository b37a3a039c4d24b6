"""The store is slow or away: trainers never wait for it, and what they made still arrives."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from uuid import UUID

import pytest

from tests.services import s3_service
from tests.tcp_proxy import TcpProxy
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from worker.artifacts import FolderStore, StorageUnavailable, s3_client
from worker.artifacts.s3 import S3Store
from worker.ledger import FileRef, Ledger, Phase
from worker.supervisor import patience, uploads
from worker.supervisor.spool import Spool

TRAINING = {"steps": 60, "every": 10, "pause": 0.02}


class GatedStore(FolderStore):
    """A folder that plays a service: ``away`` it answers so, with ``gate`` closed it does not."""

    local = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = Event()
        self.gate.set()
        self.away = False
        self.asked = 0

    def put(self, path: Path) -> FileRef:
        self._pass()
        return super().put(path)

    def fetch(self, ref: FileRef, destination: Path) -> None:
        self._pass()
        super().fetch(ref, destination)

    def _pass(self) -> None:
        self.asked += 1
        self.gate.wait()
        if self.away:
            raise StorageUnavailable("the storage service does not answer")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (patience, uploads):
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.1)
        monkeypatch.setattr(module, "PAUSE_SECONDS_MAX", 0.5)


@pytest.fixture
def gated(bench: Bench) -> Iterator[GatedStore]:
    store = GatedStore(bench.store.root)
    bench.store = store
    yield store
    store.gate.set()


def test_a_trainer_does_not_wait_for_a_store_that_hangs(bench: Bench, gated: GatedStore) -> None:
    job_id = bench.submit()
    with bench.running({**TRAINING, "at": {"1": {"10": f"wait {bench.folder / 'gate'}"}}}):
        bench.wait_for_step(job_id, 9)
        gated.gate.clear()
        (bench.folder / "gate").touch()
        bench.wait_for_step(job_id, 60)
        assert making.job(bench.ledger, job_id).checkpoint_step is None
        gated.gate.set()
        bench.wait_for(job_id, Phase.SUCCEEDED)
    job = making.job(bench.ledger, job_id)
    assert (job.attempt, job.checkpoint_step) == (1, 60)
    assert_spool_is_empty(bench)


def test_a_job_is_cancelled_also_while_the_store_hangs(bench: Bench, gated: GatedStore) -> None:
    job_id = bench.submit()
    with bench.running({**TRAINING, "at": {"1": {"30": "hang"}}, "on_term": "ignore"}) as running:
        bench.wait_for_step(job_id, 9)
        gated.gate.clear()
        bench.wait_for_step(job_id, 29)
        making.cancel(bench.ledger, job_id)
        bench.wait_for(job_id, Phase.CANCELLED)
        until(lambda: not running.busy())
        gated.gate.set()
    assert_spool_is_empty(bench)


@pytest.mark.parametrize("held", [15, 60])
def test_an_outage_costs_no_attempt(bench: Bench, gated: GatedStore, held: int) -> None:
    """Away from some step on, and still away when the trainer has ended."""
    job_id = bench.submit()
    with bench.running({**TRAINING, "at": {"1": {str(held): f"wait {bench.folder / 'gate'}"}}}):
        bench.wait_for_step(job_id, held - 1)
        gated.away = True
        (bench.folder / "gate").touch()
        until((bench.run_directory(job_id, 1) / "outcome.json").exists)
        asked = gated.asked
        until(lambda: gated.asked >= asked + 3)
        assert bench.phase(job_id) is Phase.RUNNING
        gated.away = False
        bench.wait_for(job_id, Phase.SUCCEEDED)
    job = making.job(bench.ledger, job_id)
    assert (job.attempt, job.checkpoint_step) == (1, 60)
    assert bench.artifact(job_id, "model/model.safetensors")


def test_an_outage_at_the_start_is_waited_for(bench: Bench, gated: GatedStore) -> None:
    job_id = bench.submit()
    gated.away = True
    with bench.running(TRAINING):
        bench.wait_for(job_id, Phase.RUNNING)
        asked = gated.asked
        until(lambda: gated.asked >= asked + 3)
        gated.away = False
        bench.wait_for(job_id, Phase.SUCCEEDED)
    assert making.job(bench.ledger, job_id).attempt == 1


def test_patience_ends(bench: Bench, gated: GatedStore) -> None:
    job_id = bench.submit()
    gated.away = True
    with bench.running(TRAINING, storage_patience_seconds=0.2):
        until(lambda: bench.rows("SELECT 1 FROM attempts WHERE ended_as IS NOT NULL") != [])
        gated.away = False
    [(ended_as, message)] = bench.rows(
        "SELECT ended_as, message FROM attempts WHERE job_id = :id AND number = 1", id=job_id
    )
    assert ended_as == "storage_error"
    assert "does not answer" in message


def test_a_worker_that_stops_waits_for_the_store_no_longer_than_its_grace(
    bench: Bench, gated: GatedStore
) -> None:
    job_id = bench.submit()
    never = {"at": {"1": {"15": f"wait {bench.folder / 'never'}"}}}
    with bench.running({**TRAINING, **never}, grace_seconds=1):
        until(lambda: making.job(bench.ledger, job_id).checkpoint_step == 10)
        gated.away = True
    job = making.job(bench.ledger, job_id)
    assert (job.phase, job.checkpoint_step) == (Phase.QUEUED, 10)
    gated.away = False
    with bench.running(TRAINING):
        bench.wait_for(job_id, Phase.SUCCEEDED)


def test_a_checkpoint_that_the_trainer_removes_meanwhile_arrives(
    bench: Bench, gated: GatedStore
) -> None:
    job_id = bench.submit()
    before, after = bench.folder / "before", bench.folder / "after"
    actions = {"9": f"wait {before}", "15": f"wait {after}"}
    with bench.running({**TRAINING, "at": {"1": actions}}):
        bench.wait_for_step(job_id, 8)
        gated.gate.clear()
        before.touch()
        bench.wait_for_step(job_id, 14)
        until(lambda: any((bench.folder / "work/spool").glob("*/a1/*/manifest.json")))
        shutil.rmtree(bench.run_directory(job_id, 1) / "checkpoints")
        gated.gate.set()
        until(lambda: making.job(bench.ledger, job_id).checkpoint_step == 10)
        after.touch()
        bench.wait_for(job_id, Phase.SUCCEEDED)
    with bench.ledger.unit_of_work() as session:
        files = session.connection().exec_driver_sql(
            "SELECT path FROM artifacts WHERE step = 10 ORDER BY path"
        )
        assert [path.rpartition("/")[2] for (path,) in files] == ["manifest.json", "state.pt"]


def test_the_spool_holds_two_checkpoints_at_most(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "job" / "a1")
    taken = []
    for number in range(10):
        checkpoint = tmp_path / f"step-{number}"
        checkpoint.mkdir()
        (checkpoint / "state.pt").write_text(str(number))
        taken.append(spool.take(checkpoint))
        shutil.rmtree(checkpoint)
        if number == 3:
            spool.begin(taken[3])
    assert sorted(spool.folder.iterdir()) == sorted([taken[3], taken[9]])
    assert (taken[9] / "state.pt").read_text() == "9"
    spool.end(taken[3])
    assert list(spool.folder.iterdir()) == [taken[9]]
    spool.clear()
    assert list((tmp_path / "spool").iterdir()) == []


def test_spools_of_workers_that_were_killed_are_swept(bench: Bench) -> None:
    bench.register()
    left = bench.folder / "work" / "spool" / "job" / "a1"
    left.mkdir(parents=True)
    with bench.running(TRAINING, keep_runs_seconds=0.01):
        until(lambda: not left.exists())


def test_a_real_service_goes_away_and_comes_back(
    ledger: Ledger, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training on S3, cut in the middle and at the end; every byte arrives, in one attempt."""
    monkeypatch.setattr(s3_client, "CONNECT_SECONDS", 1)
    service = s3_service()
    with TcpProxy(service.endpoint) as proxy:
        store = S3Store(service.bucket, f"test-{tmp_path.name}", endpoint=proxy.url)
        bench = Bench(ledger, database_url, tmp_path, store)  # type: ignore[arg-type]
        job_id = bench.submit()
        script = {**TRAINING, "at": {"1": {"35": f"wait {tmp_path / 'gate'}"}}}
        with bench.running(script, artifacts_dir=tmp_path):
            until(lambda: making.job(ledger, job_id).checkpoint_step == 30)
            proxy.fail()
            (tmp_path / "gate").touch()
            until((bench.run_directory(job_id, 1) / "outcome.json").exists)
            assert bench.phase(job_id) is Phase.RUNNING
            proxy.down = False
            bench.wait_for(job_id, Phase.SUCCEEDED)
    assert_complete(
        bench, job_id, S3Store(service.bucket, store._prefix, endpoint=service.endpoint)
    )


def assert_complete(bench: Bench, job_id: UUID, store: S3Store) -> None:
    job = making.job(bench.ledger, job_id)
    assert (job.attempt, job.checkpoint_step) == (1, 60)
    for number, (sha256, size) in enumerate(bench.rows("SELECT sha256, size FROM artifacts")):
        store.fetch(FileRef(sha256, size), bench.folder / f"copy-{number}")
    assert store.clean_up(older_seconds=-60) == 0


def assert_spool_is_empty(bench: Bench) -> None:
    until(lambda: not any((bench.folder / "work" / "spool").glob("*")))
