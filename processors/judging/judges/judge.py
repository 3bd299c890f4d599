"""The port to a judge: one question, one answer or failure.

An adapter neither retries nor reads a clock nor knows a price; whatever goes wrong is a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from schemas.judging_events import TokenUsage

Side = Literal["first", "second"]
Reason = Literal[
    "invalid_answer",  # broken JSON, no winner or an unknown one, a tie
    "truncated",
    "declined",
    "rate_limited",
    "provider_error",
    "timeout",  # or the connection broke after the request was sent: it may have been paid
    "provider_refused",  # the key or the quota
    "request_refused",
]


@dataclass(frozen=True, slots=True)
class CallId:
    """One paid request: the attempt of a comparison of a run."""

    run_id: str
    number: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.run_id}:{self.number}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a prompt; the role is task, criteria, rubric, A, B or question."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything that can change the answer; `v` is the recipe that made it."""

    v: int
    adapter: str
    provider: str
    base_url: str | None  # without user and query
    model: str
    parameters: Mapping[str, Any]
    system: str
    blocks: tuple[Block, ...]
    answer_schema: Mapping[str, Any]
    answer_method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRequest:
    """A question to a judge. The two texts stand in the prompt, too: only the simulated judge reads them here."""

    call: CallId
    prompt: Prompt
    max_output_tokens: int
    first_text: str
    second_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The judge named a winner. `model` is the name it returned, `response` what it sent, as it came."""

    winner: Side
    confidence: int | None  # 1 to 5
    justification: str | None
    model: str
    provider_request_id: str | None
    usage: TokenUsage | None
    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The call brought no winner. `is_in_doubt`: nobody knows whether it was paid."""

    reason: Reason
    model: str | None = None
    provider_request_id: str | None = None
    usage: TokenUsage | None = None
    response: bytes | None = None
    http_status: int | None = None
    retry_after_ms: int | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether nobody knows if the call was paid."""
        return self.reason == "timeout"


class Judge(Protocol):
    """One provider's model, as the judge process asks it."""

    async def ask(self, request: JudgeRequest, timeout_s: float) -> Answered | Failed:
        """Ask once; takes at most timeout_s. Raises nothing but CancelledError, and Misconfigured at its first use."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
