"""The FastAPI application: routes, guards and handlers around parts that are made elsewhere."""

import time
from typing import Any

from fastapi import Depends, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware

from processors.settings import Settings
from tools.api.admission import admit
from tools.api.auth.authentication import (
    CONTENT_WRITERS,
    READERS,
    KeysUnavailable,
    Unauthenticated,
    Verifier,
)
from tools.api.auth.rate_limit import RateLimit
from tools.api.dependencies import Dependencies, UploadLogPort, dependencies_of
from tools.api.errors.correlation import HEADER
from tools.api.middleware import RequestObserver
from tools.api.responses.error_mapping import note, problem_of
from tools.api.responses.exception_handlers import add_handlers
from tools.api.responses.openapi import OF_CONTENT, describe, refusals
from tools.api.routes import (
    assignment_history,
    assignments,
    audit,
    content,
    health,
    instructions,
    prompts_and_rubrics,
    registry,
)
from tools.api.services.async_content_store import AsyncContentStore
from tools.api.services.audit_service import AuditService
from tools.api.services.dependency_probe import DependencyProbe
from tools.api.services.metrics import Metrics
from tools.api.services.text_service import TextService

ADMIN = (
    instructions.routes,
    prompts_and_rubrics.routes,
    assignments.for_admins,
    assignments.for_auditors,
    assignment_history.routes,
    assignments.for_readers,
)


def build_api(
    log: UploadLogPort,
    past: AuditService,
    contents: AsyncContentStore,
    verifier: Verifier,
    settings: Settings,
) -> FastAPI:
    """The application over its parts; nothing is started and nothing connects."""
    is_open = settings.environment == "development"
    app = FastAPI(
        title="cjstream admin API",
        version="1",  # of the contract, as in the paths
        description="The assignment context of comparative judgement: upload, read, delete.",
        openapi_url="/openapi.json" if is_open else None,
        docs_url="/docs" if is_open else None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.parts = parts = _parts(log, past, contents, verifier, settings)
    add_handlers(app)
    for routes in ADMIN if settings.admin_enabled else ():
        app.include_router(routes)
    app.include_router(audit.routes)
    app.include_router(
        content.router(
            contents,
            settings.content_max_bytes,
            readers=[admitting(READERS)],
            writers=[admitting(CONTENT_WRITERS)],
        ),
        responses=refusals(OF_CONTENT),
    )
    if not settings.schema_registry_url:
        guards = [Depends(signed_in)] if settings.registry_auth else []
        confluent = registry.router(settings.topics, callers=guards)
        app.include_router(confluent, include_in_schema=False)
    app.include_router(health.routes)
    if settings.metrics_port is None:
        app.include_router(health.metrics_routes)
    describe(app)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **_cors(settings))
    app.add_middleware(RequestObserver, metrics=parts.metrics, clock=time.monotonic)
    return app


def admitting(roles: tuple[str, ...]) -> Any:
    """A guard for routes that check bodies themselves."""

    async def guard(request: Request) -> None:
        await admit(request, dependencies_of(request), roles)

    return Depends(guard)


async def signed_in(request: Request) -> None:
    """A guard for which any valid token will do; its refusals are the registry's to word."""
    try:
        await dependencies_of(request).verifier.caller(request.headers.get("authorization"))
    except (Unauthenticated, KeysUnavailable) as fault:
        note(request, fault)
        raise problem_of(fault) or fault from fault


def metrics_app(app: FastAPI) -> FastAPI:
    """/metrics alone, of the same parts, for a port of its own."""
    apart = FastAPI(openapi_url=None)
    apart.state.parts = app.state.parts
    apart.include_router(health.metrics_routes)
    return apart


def _parts(
    log: UploadLogPort,
    past: AuditService,
    contents: AsyncContentStore,
    verifier: Verifier,
    settings: Settings,
) -> Dependencies:
    return Dependencies(
        settings=settings,
        log=log,
        past=past,
        texts=TextService(contents),
        content=DependencyProbe(contents.probe, time.monotonic),
        verifier=verifier,
        rate=RateLimit(settings.rate_limit_per_minute, time.monotonic),
        metrics=Metrics(fenced=lambda: log.fenced),
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


def _cors(settings: Settings) -> dict[str, Any]:
    return {
        "allow_origins": settings.cors_origins,
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "If-Match", "If-None-Match", HEADER],
        "expose_headers": ["ETag", "X-Position", "Retry-After", "WWW-Authenticate", HEADER],
    }
