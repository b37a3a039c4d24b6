"""The application: settings in, routes and their guards out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from api import handlers
from api.metrics import Exposition
from api.observed import PROBES, Observed
from api.openapi import describe
from api.origins import SameOrigin
from api.plain_errors import CommonHeaders, PlainErrorsToProblems
from api.registration import Registrar
from api.resources import (
    comparisons,
    datasets,
    experiments,
    job_events,
    job_files,
    jobs,
    models,
    queues,
    schemas,
    service,
    thumbnails,
    workers,
)
from api.settings import Settings
from kdcore import __version__
from worker.ledger.session import Ledger
from worker.observing import tracing

RESOURCES = (
    datasets,
    thumbnails,
    experiments,
    comparisons,
    jobs,
    job_events,
    job_files,
    models,
    workers,
    queues,
    schemas,
)


def create_app(settings: Settings) -> FastAPI:
    """The API over one database and one artefact store. Connects to nothing yet."""
    ledger = Ledger(settings.database_url.get_secret_value(), pool_size=settings.api_pool_size)
    store = settings.open_store()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        ledger.close()

    app = FastAPI(
        title="Stillhouse",
        version=__version__,
        description="Knowledge distillation of semantic-segmentation models, with a verdict.",
        lifespan=lifespan,
        # A span for each request is FastAPI's own part; without a provider there is none.
        telemetry={
            "tracer_provider": tracing.provider(),
            "tracing": tracing.provider() is not None,
            "exclude": lambda scope: scope["path"] in PROBES,
            "operation_spans": False,
            "metrics": False,
            "logs": False,
        },
        middleware=[
            Middleware(Observed),
            Middleware(CommonHeaders),
            Middleware(PlainErrorsToProblems),
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=list(settings.allowed_hosts()),
                www_redirect=False,
            ),
            Middleware(SameOrigin, allowed_hosts=settings.allowed_hosts()),
            Middleware(RequestBodyLimitMiddleware, max_body_size=settings.api_max_body),
        ],
    )
    app.state.settings = settings
    app.state.ledger = ledger
    app.state.store = store
    # Whoever runs the server knows when it ends; streams ask.
    app.state.stopping = lambda: False
    app.state.registrar = Registrar(settings, ledger, store)
    app.state.exposition = Exposition(ledger, projected=settings.mlflow_url is not None)
    handlers.install(app)
    v1 = APIRouter(prefix="/v1")
    for resource in RESOURCES:
        v1.include_router(resource.router)
    app.include_router(v1)
    app.include_router(service.router)
    describe(app)
    return app
