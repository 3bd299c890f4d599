"""The FastAPI application: its routes, checks and exception handlers; its dependencies are passed in."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from fastapi import Depends, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware

from processors.settings import Settings
from processors.upload_log.upload_log import UploadLog
from tools.api.auth.authentication import Verifier
from tools.api.auth.rate_limit import RateLimit
from tools.api.console.console_app import ConsoleParts, mount_console
from tools.api.dependencies import Dependencies, dependencies_of
from tools.api.errors.correlation import HEADER
from tools.api.middleware import RequestObserver
from tools.api.responses.exception_handlers import add_handlers
from tools.api.responses.openapi import describe
from tools.api.root_path import RootPath
from tools.api.routes import (
    anchors,
    assignments,
    asyncapi,
    audit,
    content,
    docs,
    health,
    instructions,
    judges,
    prompts_and_rubrics,
    registry,
    results,
)
from tools.api.services.async_content_store import AsyncContentStore
from tools.api.services.audit_service import AuditService
from tools.api.services.in_progress import InProgress
from tools.api.services.metrics import Metrics
from tools.api.services.results_service import ResultsService
from tools.api.services.text_service import TextService
from tools.models.override_check import OverrideCheck

ADMIN_ROUTERS = (
    instructions.for_admins,
    instructions.for_auditors,
    prompts_and_rubrics.routes,
    anchors.routes,
    assignments.for_admins,
    assignments.for_auditors,
    assignments.for_readers,
)
# a request may hold a body of CJSTREAM_CONTENT_MAX_BYTES, and needs one of the upload log's 32 threads
REQUESTS, REQUESTS_OF_SUBJECT = 100, 25
STREAMS, STREAMS_OF_SUBJECT = 4, 2  # replays and verifications: a thread and a fold of the log each
COMPUTING_STREAMS = 2  # the other requests need the interpreter, too


def build_api(
    log: UploadLog,
    audit_service: AuditService,
    results_service: ResultsService,
    content_store: AsyncContentStore,
    verifier: Verifier,
    settings: Settings,
    console: ConsoleParts | None = None,
) -> FastAPI:
    """Build the application, with a console if its parts are given; nothing is started and nothing connects."""
    is_open = settings.environment == "development"
    app = FastAPI(
        title="cjstream admin API",
        version="1",  # of the contract, as in the paths
        description="Upload, read and delete the assignment context of comparative judgement; read its results.",
        openapi_url="/openapi.json" if is_open else None,
        docs_url=None,  # it would load scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.dependencies = deps = Dependencies(
        settings=settings,
        log=log,
        audit=audit_service,
        results=results_service,
        texts=TextService(content_store),
        overrides=_override_check(settings),
        content=content_store,
        verifier=verifier,
        rate=RateLimit(settings.rate_limit_per_minute, time.monotonic),
        requests=InProgress(
            "requests", per_subject=REQUESTS_OF_SUBJECT, per_process=REQUESTS, retry_after_s=1
        ),
        streams=InProgress(
            "streams", per_subject=STREAMS_OF_SUBJECT, per_process=STREAMS, retry_after_s=10
        ),
        turns=asyncio.Semaphore(COMPUTING_STREAMS),
        metrics=Metrics(fenced=lambda: log.fenced),
        now_ms=lambda: time.time_ns() // 1_000_000,
    )
    add_handlers(app)
    for routes in ADMIN_ROUTERS if settings.admin_enabled else ():
        app.include_router(routes)
    app.include_router(audit.routes)
    app.include_router(results.routes)
    app.include_router(content.routes)
    app.include_router(judges.routes)
    checks = [Depends(check_token)] if settings.registry_auth else []
    app.include_router(asyncapi.router(settings, checks))
    if not settings.schema_registry_url:
        schema_registry = registry.router(settings.topics, checks=checks)
        app.include_router(schema_registry, include_in_schema=False)
    app.include_router(health.routes)
    if settings.metrics_port is None:
        app.include_router(health.metrics_routes)
    if is_open:
        app.include_router(docs.routes)
    if console is not None:
        mount_console(app, deps, console)
    describe(app)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **_cors(settings))
    app.add_middleware(RequestObserver, metrics=deps.metrics, clock=time.monotonic)
    if settings.root_path:
        app.add_middleware(RootPath, prefix=settings.root_path)
    return app


def _override_check(settings: Settings) -> OverrideCheck | None:
    """The check of overrides; None if no setting of this process names the judge. Raises Misconfigured."""
    if not settings.judge and settings.environment != "development":
        return None
    return OverrideCheck.of(settings, datetime.now(UTC).date())


async def check_token(request: Request) -> None:
    """Raise 401 or 503 unless the token is valid; every role is accepted."""
    await dependencies_of(request).verifier.caller(request.headers.get("authorization"))


def metrics_app(app: FastAPI) -> FastAPI:
    """An application with only /metrics, for a separate port; it shares the dependencies of `app`."""
    separate = FastAPI(openapi_url=None)
    separate.state.dependencies = app.state.dependencies
    separate.include_router(health.metrics_routes)
    return separate


def _cors(settings: Settings) -> dict[str, Any]:
    return {
        "allow_origins": settings.cors_origins,
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "If-Match", "If-None-Match", HEADER],
        "expose_headers": ["ETag", "X-Position", "Retry-After", "WWW-Authenticate", HEADER],
    }
