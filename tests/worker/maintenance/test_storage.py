"""Sweeping: nothing that has a name is lost, everything else goes in the end."""

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.worker.ledger import making
from worker.artifacts import ArtifactMissing, ArtifactStore, FolderStore
from worker.ledger import FileRef, Ledger, jobs
from worker.maintenance import SCHEDULES, storage
from worker.maintenance.storage import SHARDS, RetentionSettings, Swept, sweep, sweep_shard

GRACE_SECONDS = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_what_has_no_name_goes_after_two_graces(
    ledger: Ledger, store: FolderStore, tmp_path: Path
) -> None:
    named, unnamed = put(store, tmp_path, "named"), put(store, tmp_path, "unnamed")
    name(ledger, named)
    sweep_all(ledger, store)
    hours_pass(store, 25)
    sweep_all(ledger, store)
    assert read(store, unnamed) == b"unnamed"  # put aside
    assert not stored(store, unnamed)
    hours_pass(store, 20)
    sweep_all(ledger, store)
    assert read(store, unnamed) == b"unnamed"
    hours_pass(store, 5)
    sweep_all(ledger, store)
    with pytest.raises(ArtifactMissing):
        store.open(unnamed)
    assert read(store, named) == b"named"
    assert stored(store, named)


def test_what_gets_a_name_while_it_lies_aside_comes_back(
    ledger: Ledger, store: FolderStore, tmp_path: Path
) -> None:
    ref = put(store, tmp_path, "late")
    hours_pass(store, 25)
    sweep_all(ledger, store)
    assert not stored(store, ref)
    name(ledger, ref)
    sweep_all(ledger, store)
    assert stored(store, ref)


def test_a_put_just_while_the_old_copy_is_dropped_is_not_lost(
    store: FolderStore, tmp_path: Path
) -> None:
    """The narrowest race: the writer is done before the move, and names the content after it."""
    ref = put(store, tmp_path, "again")
    hours_pass(store, 25)
    named: set[str] = set()

    class PutsJustBefore(FolderStore):
        def drop(self, sha256: str) -> None:
            put(self, tmp_path, "again")
            super().drop(sha256)

    racing = PutsJustBefore(store.root)
    swept = sweep_shard(racing, lambda: named, shard=ref.sha256[0], grace_seconds=GRACE_SECONDS)
    assert swept == Swept(dropped=1)
    named.add(ref.sha256)
    assert read(store, ref) == b"again"
    hours_pass(store, 48)
    sweep_shard(store, lambda: named, shard=ref.sha256[0], grace_seconds=GRACE_SECONDS)
    assert read(store, ref) == b"again"
    assert stored(store, ref)


def test_two_sweeps_at_once_are_one(ledger: Ledger, store: FolderStore, tmp_path: Path) -> None:
    ref = put(store, tmp_path, "unnamed")
    hours_pass(store, 25)
    with ledger.alone(storage.PURPOSE) as held:
        assert held
        sweep_all(ledger, store)
        assert stored(store, ref)
    sweep_all(ledger, store)
    assert not stored(store, ref)


def test_the_tasks_run_with_their_own_settings(
    ledger: Ledger, store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_RETAIN_FAILED_DAYS", "forever")
    monkeypatch.setenv("KD_RETAIN_CHECKPOINTS", "3")
    assert RetentionSettings().failed_days is None
    claim = start(ledger)
    for step in (5, 10, 15, 20):
        making.publish(ledger, claim, step)
    unnamed = put(store, tmp_path, "unnamed")
    (store.root / "tmp" / "leftover").touch()
    hours_pass(store, 25)
    clock = iter(range(10**9, 10**9 + 16 * 900, 900))
    monkeypatch.setattr(storage, "time", SimpleNamespace(time=lambda: next(clock)))
    tasks = {name: schedule.run for name, schedule in SCHEDULES.items()}
    for _ in range(16):
        tasks["storage.sweep"](ledger, store)
    monkeypatch.undo()
    monkeypatch.setenv("KD_RETAIN_CHECKPOINTS", "3")
    tasks["storage.expire"](ledger, store)
    tasks["storage.clean_up"](ledger, store)
    assert not stored(store, unnamed)
    assert list((store.root / "tmp").iterdir()) == []
    with ledger.unit_of_work() as session:
        left = session.connection().exec_driver_sql("SELECT DISTINCT step FROM artifacts")
        assert {step for (step,) in left} == {10, 15, 20}


@pytest.mark.parametrize("setting", ["KD_RETAIN_CHECKPOINTS", "KD_RETAIN_GRACE_HOURS"])
def test_settings_that_would_lose_something_are_refused(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(setting, "1")
    with pytest.raises(ValueError, match=setting.removeprefix("KD_RETAIN_").lower()):
        RetentionSettings()


class Sweeping(RuleBasedStateMachine):
    """Writers put, then name; names go; time passes; sweeps come at any moment, also in between."""

    contents = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stillhouse-tests-"))
        self.root = self.folder / "store"
        self.store = FolderStore(self.root)
        self.refs = {text: put(self.store, self.folder, text) for text in self.contents}
        self.hours_since_put: dict[str, float] = dict.fromkeys(self.contents, 0.0)
        self.named: set[str] = set()
        self.within: str | None = None

    @rule(text=st.sampled_from(contents))
    def put(self, text: str) -> None:
        put(self.store, self.folder, text)
        self.hours_since_put[text] = 0.0

    @rule(text=st.sampled_from(contents))
    def get_a_name(self, text: str) -> None:
        if self.hours_since_put[text] < 23:
            self.named.add(text)

    @precondition(lambda self: self.named)
    @rule(data=st.data())
    def lose_a_name(self, data: st.DataObject) -> None:
        self.named.remove(data.draw(st.sampled_from(sorted(self.named))))

    @rule(hours=st.sampled_from((1, 12, 25)))
    def time_passes(self, hours: int) -> None:
        hours_pass(self.store, hours)
        for text in self.contents:
            self.hours_since_put[text] += hours

    @rule(
        moment=st.sampled_from(
            ("never", "when asked for names", "before a drop", "before an erase")
        ),
        text=st.sampled_from(contents),
    )
    def sweep(self, moment: str, text: str) -> None:
        """A writer puts ``text`` at some moment within the sweep; it gets its name later."""
        machine = self

        class Store(FolderStore):
            def drop(self, sha256: str) -> None:
                if moment == "before a drop":
                    machine.put(text)
                super().drop(sha256)

            def erase(self, sha256: str) -> None:
                if moment == "before an erase":
                    machine.put(text)
                super().erase(sha256)

        def named() -> set[str]:
            if moment == "when asked for names":
                machine.put(text)
            return {self.refs[each].sha256 for each in self.named}

        store = Store(self.root)
        for shard in sorted({ref.sha256[0] for ref in self.refs.values()}):
            sweep_shard(store, named, shard=shard, grace_seconds=GRACE_SECONDS)

    @invariant()
    def what_has_a_name_can_be_read(self) -> None:
        for text in self.named:
            assert read(self.store, self.refs[text]) == text.encode()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestSweeping = Sweeping.TestCase
TestSweeping.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def put(store: ArtifactStore, folder: Path, content: str) -> FileRef:
    path = folder / "file"
    path.write_text(content)
    return store.put(path)


def read(store: ArtifactStore, ref: FileRef) -> bytes:
    with store.open(ref) as file:
        return file.read()


def stored(store: ArtifactStore, ref: FileRef) -> bool:
    return ref.sha256 in {each.sha256 for each in store.contents(ref.sha256[0])}


def name(ledger: Ledger, ref: FileRef) -> None:
    claim = start(ledger)
    with ledger.unit_of_work() as session:
        jobs.publish(
            session,
            job_id=claim.job_id,
            attempt=claim.attempt,
            files={"log.txt": ref},
            step=None,
        )


def start(ledger: Ledger) -> jobs.Claim:
    making.register(ledger)
    making.submit(ledger, making.training())
    return making.take(ledger)


def sweep_all(ledger: Ledger, store: ArtifactStore) -> None:
    for shard in SHARDS:
        sweep(ledger, store, shard=shard, grace_seconds=GRACE_SECONDS)


def hours_pass(store: FolderStore, hours: float) -> None:
    """As if everything in the store were so much older."""
    for path in store.root.rglob("*"):
        if path.is_file():
            status = path.stat()
            os.utime(path, (status.st_atime, status.st_mtime - 3600 * hours))
