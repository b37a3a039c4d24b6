"""Looking after the artefact store: files that nobody needs go, and nothing else does.

Mark and sweep, without a lock between those who put files and this. Of one shard of all names, the
contents that have been there for longer than the grace are listed; then the ledger is asked which
of them are named; the others are *dropped*: put aside, where they can still be read. Only after
another grace a dropped content is erased, if it is still named by nobody; otherwise it is restored.

So it is safe to put a content at any moment and to name it within the grace: what is put again is
young again, and if that happens just while the old copy is dropped, it is found among the dropped
ones, and its name brings it back.
"""

import time
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from typing import Annotated, Final

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.artifacts import ArtifactStore
from worker.artifacts.store import FRESH_SECONDS
from worker.ledger.retention import CHECKPOINTS_AT_LEAST, Policy, expire, referenced
from worker.ledger.session import Ledger

log = structlog.get_logger()
PURPOSE: Final = "stillhouse.storage"
SHARDS: Final = "0123456789abcdef"
SWEEP_SECONDS: Final = 900.0
"""One shard each time: all of them in four hours."""
ROWS_AT_ONCE: Final = 1000

Days = Annotated[float, Field(ge=0)]


class RetentionSettings(BaseSettings):
    """From the environment (``KD_RETAIN_…``); of days, ``forever`` is one."""

    model_config = SettingsConfigDict(
        env_prefix="KD_RETAIN_", frozen=True, env_parse_none_str="forever"
    )

    checkpoints: Annotated[int, Field(ge=CHECKPOINTS_AT_LEAST)] = CHECKPOINTS_AT_LEAST
    succeeded_days: Days | None = 30.0
    failed_days: Days | None = None
    attempt_days: Days | None = 7.0
    grace_hours: Annotated[float, Field(ge=2 * FRESH_SECONDS / 3600)] = 24.0

    def policy(self) -> Policy:
        return Policy(
            checkpoints=self.checkpoints,
            succeeded_days=self.succeeded_days,
            failed_days=self.failed_days,
            attempt_days=self.attempt_days,
        )


def expire_files(ledger: Ledger, store: ArtifactStore) -> None:  # noqa: ARG001 (as all of them)
    """Forget files that the policy keeps no longer; the sweep removes their contents later.

    Raises LedgerUnavailable.
    """
    policy = RetentionSettings().policy()
    forgotten = ROWS_AT_ONCE
    total = 0
    while forgotten == ROWS_AT_ONCE:
        with ledger.unit_of_work() as session:
            forgotten = expire(session, policy, limit=ROWS_AT_ONCE)
        total += forgotten
    if total:
        log.info("storage.expired", files=total)


def sweep_contents(ledger: Ledger, store: ArtifactStore) -> None:
    """One shard, which follows from the time. Raises LedgerUnavailable, `StorageUnavailable`."""
    shard = SHARDS[int(time.time() / SWEEP_SECONDS) % len(SHARDS)]
    sweep(ledger, store, shard=shard, grace_seconds=3600 * RetentionSettings().grace_hours)


def clean_up(ledger: Ledger, store: ArtifactStore) -> None:  # noqa: ARG001 (as all of them)
    """Remove what writers that died left unfinished. Raises `StorageUnavailable`."""
    removed = store.clean_up(older_seconds=3600 * RetentionSettings().grace_hours)
    if removed:
        log.info("storage.cleaned_up", leftovers=removed)


def sweep(ledger: Ledger, store: ArtifactStore, *, shard: str, grace_seconds: float) -> None:
    """Of several processes one does it, the others return at once."""

    def named() -> set[str]:
        with ledger.unit_of_work() as session:
            return referenced(session, shard=shard)

    with ledger.alone(PURPOSE) as held:
        if held:
            swept = sweep_shard(store, named, shard=shard, grace_seconds=grace_seconds)
            if swept != Swept():
                log.info("storage.swept", shard=shard, **asdict(swept))


@dataclass(frozen=True)
class Swept:
    dropped: int = 0
    restored: int = 0
    erased: int = 0


def sweep_shard(
    store: ArtifactStore, named: Callable[[], Container[str]], *, shard: str, grace_seconds: float
) -> Swept:
    """Drop, restore and erase among the contents whose names start with ``shard``.

    ``named`` is called once, after everything was listed: what got a name until then is kept.
    """
    old = [each.sha256 for each in store.contents(shard) if each.age_seconds > grace_seconds]
    dropped = list(store.contents(shard, dropped=True))
    needed = named()
    unneeded = [sha256 for sha256 in old if sha256 not in needed]
    restored = [each.sha256 for each in dropped if each.sha256 in needed]
    over = [
        each.sha256
        for each in dropped
        if each.sha256 not in needed and each.age_seconds > grace_seconds
    ]
    for sha256 in restored:
        store.restore(sha256)
    for sha256 in over:
        store.erase(sha256)
    for sha256 in unneeded:
        store.drop(sha256)
    return Swept(dropped=len(unneeded), restored=len(restored), erased=len(over))
