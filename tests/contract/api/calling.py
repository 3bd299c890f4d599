"""Calls the admin API through ASGI: the real application with an upload log in memory and a real content store."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from processors.settings import Settings
from schemas.codec import Codec
from tables.store import MemoryStore
from tests.contract.api.memory_log import MemoryLog
from tests.contract.api.memory_past import MemoryPast
from tests.support.judged_installation import JudgedInstallation
from tests.support.tokens import SECRET, hs256
from tools.api.app import build_api
from tools.api.auth.key_settings import build_verifier, jwt_settings
from tools.api.console.console_app import ConsoleParts
from tools.api.console.console_settings import ConsoleSettings, console_settings
from tools.api.console.log_views import LogViews
from tools.api.services.async_content_store import AsyncContentStore
from tools.api.services.results_service import ResultsService

JSON = {"content-type": "application/json"}
CORRELATION = "11111111-2222-4333-8444-555555555555"
TEXT = "Judge how clearly the argument is put."
TASK = "Write about a rule that you would change."
WEIGHTS = "Weigh structure twice, spelling once."
SCALE = "swedish_8_anchor"
ADMIN = "/admin/v1"
AUDIT = "/audit/v1"
INSTRUCTIONS = f"{ADMIN}/assessment-instructions"
A1 = f"{INSTRUCTIONS}/assignment/a1"
PROMPT = f"{ADMIN}/student-prompts/assignment/a1"
RUBRIC = f"{ADMIN}/judge-rubrics/assignment/a1"


@dataclass(frozen=True)
class Api:
    """One application and its dependencies."""

    app: FastAPI
    log: MemoryLog
    audit: MemoryPast
    judged: JudgedInstallation
    folder: Path

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        content: Any = None,
        **headers: str,
    ) -> httpx.Response:
        """The response to one request; header names have _ for -, an empty token means a valid one of an admin."""
        request_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            request_headers["authorization"] = f"Bearer {token or hs256()}"
        if body is not None or content is not None:
            request_headers = {**JSON, **request_headers}
        return asyncio.run(self.call(method, path, body, content, request_headers))

    async def call(
        self, method: str, path: str, body: Any, content: Any, headers: dict[str, str]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            if body is not None:
                return await client.request(method, path, json=body, headers=headers)
            return await client.request(method, path, content=content, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """The current value of a metric; 0 if it was never counted."""
        value = self.app.state.dependencies.metrics.registry.get_sample_value(name, labels)
        return value or 0.0

    def create_assignment(self, *, prompt: bool = False, rubric: bool = False) -> None:
        """Create assignment a1 with instructions and, if requested, a prompt and a rubric."""
        body = {"assignment_id": "a1", "instructions_text": TEXT, "grade_scale": SCALE}
        body |= {"prompt_text": TASK} if prompt else {}
        body |= {"rubric_text": WEIGHTS} if rubric else {}
        assert self("POST", f"{ADMIN}/assignments", body).status_code == 200


def make_api(
    folder: Path,
    content: AsyncContentStore | None = None,
    console: ConsoleSettings | None = None,
    new_views: Callable[[Settings, Codec], LogViews] = LogViews,
    **options: Any,
) -> Api:
    """An application with these settings and its data in `folder`, by default also its texts."""
    settings = Settings(data_dir=folder, **options)
    log = MemoryLog(settings.policy)
    verifier = build_verifier(settings.environment, jwt_settings(secret_key=SECRET))
    audit = MemoryPast(log, settings)
    judged = JudgedInstallation(settings)
    results = ResultsService(judged.log, Codec(), MemoryStore)
    content = content or AsyncContentStore.of(settings)
    parts = ConsoleParts(console or console_settings(), new_views(settings, Codec()))
    app = build_api(log, audit, results, content, verifier, settings, parts)
    return Api(app, log, audit, judged, folder)


def new(assignment_id: str | None = "a1", **changes: Any) -> dict[str, Any]:
    """The body of a write of instructions; a field that is changed to "absent" is left out."""
    body = {"assignment_id": assignment_id, "instructions_text": TEXT, "grade_scale": SCALE}
    return {name: value for name, value in {**body, **changes}.items() if value != "absent"}
