"""What the routes work with: made once, handed to the application, found through any of its requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import Request

from processors.policy import Policy
from processors.settings import Settings
from processors.upload_log.upload_log import CurrentContext, Page, WriteResult
from tables.commands import WriteCommand, WriteMetadata
from tools.api.auth.authentication import Verifier
from tools.api.auth.rate_limit import RateLimit
from tools.api.services.audit_service import AuditService
from tools.api.services.dependency_probe import DependencyProbe
from tools.api.services.metrics import Metrics
from tools.api.services.text_service import TextService


class UploadLogPort(Protocol):
    """What the routes ask of an AdminLog."""

    policy: Policy

    @property
    def fenced(self) -> int: ...
    def ready(self) -> Mapping[str, bool]: ...
    async def read(self, scope_key: str) -> CurrentContext: ...
    async def page(self, *, page: int, page_size: int, grade_scale: str | None) -> Page: ...
    async def check(self, change: WriteCommand) -> None: ...
    async def write(self, change: WriteCommand, writing: WriteMetadata) -> WriteResult: ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The log, its past, the texts and whoever guards them. now_ms is the clock of events."""

    settings: Settings
    log: UploadLogPort
    past: AuditService
    texts: TextService
    content: DependencyProbe
    verifier: Verifier
    rate: RateLimit
    metrics: Metrics
    now_ms: Callable[[], int]


def dependencies_of(request: Request) -> Dependencies:
    """The parts of the application that answers the request."""
    parts: Dependencies = request.app.state.parts
    return parts


Deps = Annotated[Dependencies, Depends(dependencies_of)]
