"""What endpoints ask for, as `Annotated` aliases."""

from collections.abc import Callable
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Path, Query
from starlette.requests import Request

from api.metrics import Exposition
from api.registration import Registrar
from api.settings import Settings
from worker.artifacts import ArtifactStore
from worker.ledger.session import Ledger

LOCAL_OWNER: Final = "local"


def current_owner() -> str:
    """Whose things the request may see. There is one owner until requests are authenticated."""
    return LOCAL_OWNER


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _ledger(request: Request) -> Ledger:
    ledger: Ledger = request.app.state.ledger
    return ledger


def _store(request: Request) -> ArtifactStore:
    store: ArtifactStore = request.app.state.store
    return store


def _registrar(request: Request) -> Registrar:
    registrar: Registrar = request.app.state.registrar
    return registrar


def _exposition(request: Request) -> Exposition:
    exposition: Exposition = request.app.state.exposition
    return exposition


def _stopping(request: Request) -> Callable[[], bool]:
    stopping: Callable[[], bool] = request.app.state.stopping
    return stopping


CurrentOwner = Annotated[str, Depends(current_owner)]
CurrentSettings = Annotated[Settings, Depends(_settings)]
CurrentLedger = Annotated[Ledger, Depends(_ledger)]
CurrentStore = Annotated[ArtifactStore, Depends(_store)]
Stopping = Annotated[Callable[[], bool], Depends(_stopping)]
CurrentRegistrar = Annotated[Registrar, Depends(_registrar)]
CurrentExposition = Annotated[Exposition, Depends(_exposition)]

Cursor = Annotated[
    str | None, Query(max_length=500, description="`next_cursor` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=200, description="Items on a page")]
ThingName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,254}$")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
JobId = Annotated[UUID, Path(description="Of the job")]
ExperimentId = Annotated[UUID, Path(description="Of the experiment")]
