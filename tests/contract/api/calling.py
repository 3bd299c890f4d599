"""The admin API called through ASGI: the real application over a log in memory and a real content store."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from processors.settings import Settings
from tests.contract.api.memory_log import MemoryLog
from tests.contract.api.memory_past import MemoryPast
from tests.support.tokens import SECRET, hs256
from tools.api.app import build_api
from tools.api.auth.key_settings import build_verifier, jwt_settings
from tools.api.services.async_content_store import AsyncContentStore

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
    """One application and what it stands on."""

    app: FastAPI
    log: MemoryLog
    past: MemoryPast
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
        """The answer to one request; names of headers with _ for -. An empty token is a good admin's."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token or hs256()}"
        if body is not None or content is not None:
            sent = {**JSON, **sent}
        return asyncio.run(self.call(method, path, body, content, sent))

    async def call(
        self, method: str, path: str, body: Any, content: Any, headers: dict[str, str]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            if body is not None:
                return await client.request(method, path, json=body, headers=headers)
            return await client.request(method, path, content=content, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value now; 0 where it was never counted."""
        found = self.app.state.dependencies.metrics.registry.get_sample_value(name, labels)
        return found or 0.0

    def given(self, *, prompt: bool = False, rubric: bool = False) -> None:
        """Assignment a1 with instructions, and what else is asked for."""
        body = {"assignment_id": "a1", "instructions_text": TEXT, "grade_scale": SCALE}
        body |= {"prompt_text": TASK} if prompt else {}
        body |= {"rubric_text": WEIGHTS} if rubric else {}
        assert self("POST", f"{ADMIN}/assignments", body).status_code == 200


def made_api(folder: Path, **knobs: Any) -> Api:
    """An application of its own."""
    settings = Settings(data_dir=folder, **knobs)
    log = MemoryLog(settings.policy)
    verifier = build_verifier(settings.environment, jwt_settings(secret_key=SECRET))
    past = MemoryPast(log, settings)
    app = build_api(log, past, AsyncContentStore.of(settings), verifier, settings)
    return Api(app, log, past, folder)


def new(assignment_id: str | None = "a1", **changed: Any) -> dict[str, Any]:
    """A body of instructions."""
    body = {"assignment_id": assignment_id, "instructions_text": TEXT, "grade_scale": SCALE}
    return {name: value for name, value in {**body, **changed}.items() if value != "absent"}
