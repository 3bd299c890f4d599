"""What the routes work with: made once, handed to the application, found through any of its requests."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from processors.admin import AdminLog
from processors.settings import Settings
from tools.api.metrics import Metrics
from tools.api.rate import Rate
from tools.api.sign_in import Verifier
from tools.api.stored import StoredTexts


@dataclass(frozen=True, slots=True)
class Parts:
    """The log, the texts and whoever guards them. now_ms is the clock of events."""

    settings: Settings
    log: AdminLog
    texts: StoredTexts
    verifier: Verifier
    rate: Rate
    metrics: Metrics
    now_ms: Callable[[], int]


def parts_of(request: Request) -> Parts:
    """The parts of the application that answers the request."""
    parts: Parts = request.app.state.parts
    return parts
