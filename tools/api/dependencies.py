"""The dependencies of the routes: built once, stored in the application, available in every request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import Request

from processors.policy import Policy
from processors.settings import Settings
from processors.upload_log.upload_log import Page, WriteResult
from schemas.events import AssignmentContext
from tables.commands import WriteCommand, WriteMetadata
from tools.api.auth.authentication import Verifier
from tools.api.auth.rate_limit import RateLimit
from tools.api.services.audit_service import AuditService
from tools.api.services.dependency_probe import DependencyProbe
from tools.api.services.metrics import Metrics
from tools.api.services.text_service import TextService


class UploadLogPort(Protocol):
    """The part of UploadLog that the routes use."""

    policy: Policy

    @property
    def fenced(self) -> int: ...
    def ready(self) -> Mapping[str, bool]: ...
    async def read(self, scope_key: str) -> AssignmentContext | None: ...
    async def page(self, *, page: int, page_size: int, grade_scale: str | None) -> Page: ...
    async def check(self, command: WriteCommand) -> None: ...
    async def write(self, command: WriteCommand, metadata: WriteMetadata) -> WriteResult: ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything that the routes use; `content` probes the content store, `now_ms` gives the time of events."""

    settings: Settings
    log: UploadLogPort
    audit: AuditService
    texts: TextService
    content: DependencyProbe
    verifier: Verifier
    rate: RateLimit
    metrics: Metrics
    now_ms: Callable[[], int]


def dependencies_of(request: Request) -> Dependencies:
    """The dependencies of the application that answers the request."""
    deps: Dependencies = request.app.state.dependencies
    return deps


Deps = Annotated[Dependencies, Depends(dependencies_of)]
