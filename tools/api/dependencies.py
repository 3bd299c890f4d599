"""The dependencies of the routes: built once, stored in the application, available in every request."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from processors.settings import Settings
from processors.upload_log.upload_log import UploadLog
from tools.api.auth.authentication import Verifier
from tools.api.auth.rate_limit import RateLimit
from tools.api.services.async_content_store import AsyncContentStore
from tools.api.services.audit_service import AuditService
from tools.api.services.in_progress import InProgress
from tools.api.services.metrics import Metrics
from tools.api.services.results_service import ResultsService
from tools.api.services.text_service import TextService
from tools.models.override_check import OverrideCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Everything that the routes use; `turns` are those of streams that compute, `now_ms` gives the time of events."""

    settings: Settings
    log: UploadLog
    audit: AuditService
    results: ResultsService
    texts: TextService
    overrides: OverrideCheck | None  # None: no judge is configured
    content: AsyncContentStore
    verifier: Verifier
    rate: RateLimit
    requests: InProgress
    streams: InProgress
    turns: asyncio.Semaphore
    metrics: Metrics
    now_ms: Callable[[], int]


def dependencies_of(request: Request) -> Dependencies:
    """The dependencies of the application that answers the request."""
    deps: Dependencies = request.app.state.dependencies
    return deps


async def _dependencies_of(request: Request) -> Dependencies:
    return dependencies_of(request)  # FastAPI would call a plain function in a thread


Deps = Annotated[Dependencies, Depends(_dependencies_of)]
