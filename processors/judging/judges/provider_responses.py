"""What a provider's HTTP response means, as far as it is the same for every provider. Pure."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

import orjson

from processors.judging.judges.answer import read_answer
from processors.judging.judges.judge import Answered, Failed, Reason
from schemas.judging_events import TokenUsage

MAX_NAME = 200  # characters of a name that a provider returns
MAX_TOKENS = 10**9
MAX_RETRY_AFTER_MS = 24 * 3_600_000
OUT_OF_MONEY = frozenset({"insufficient_quota", "billing_error", "billing_not_active"})


def document_of(content: bytes) -> Mapping[str, Any]:
    """The JSON object of a response; an empty one if it is none."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def member(document: object, *path: str | int) -> Any:
    """The value at a path of names and indexes; None where there is none."""
    for step in path:
        if isinstance(step, str) and isinstance(document, dict):
            document = document.get(step)
        elif isinstance(step, int) and isinstance(document, list) and step < len(document):
            document = document[step]
        else:
            return None
    return document


def name_in(value: object) -> str | None:
    """A name that a provider returned; None if it is no usable text."""
    if not isinstance(value, str) or not value.isprintable():
        return None
    return value[:MAX_NAME] or None


def count_in(value: object) -> int | None:
    """A number of tokens; 0 for an absent one, None if it is no usable number."""
    if value is None:
        return 0
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def usage_of(
    *, input_: object, cache_write: object, cache_read: object, output: object, reasoning: object
) -> TokenUsage | None:
    """The token usage; None if a count is unusable."""
    counts = [count_in(value) for value in (input_, cache_write, cache_read, output, reasoning)]
    if None in counts:
        return None
    numbers = cast(list[int], counts)
    return TokenUsage(
        input=numbers[0],
        cache_write=numbers[1],
        cache_read=numbers[2],
        output=numbers[3],
        reasoning=min(numbers[4], numbers[3]),
    )


def outcome_of_text(
    text: str | bytes | None,
    problem: Reason | None,
    *,
    model: str | None,
    asked_model: str,
    request_id: str | None,
    usage: TokenUsage | None,
    content: bytes,
) -> Answered | Failed:
    """The outcome of an answer's JSON; problem: why it must not be used, whatever it says."""
    answer = None if problem or text is None else read_answer(text)
    if answer is None:
        return Failed(
            reason=problem or "invalid_answer",
            model=model,
            provider_request_id=request_id,
            usage=usage,
            response=content,
        )
    return Answered(
        winner=answer.winner,
        confidence=answer.confidence,
        justification=answer.justification,
        model=model or asked_model,
        provider_request_id=request_id,
        usage=usage,
        response=content,
    )


def failure_of(
    status: int, headers: Mapping[str, str], error: object, request_id: str | None
) -> Failed:
    """The failure that an error response stands for; error: its object with type and code."""
    return Failed(
        reason=_reason_of(status, {str(member(error, "type")), str(member(error, "code"))}),
        provider_request_id=request_id,
        http_status=status,
        retry_after_ms=retry_after_ms(headers),
    )


def _reason_of(status: int, kinds: set[str]) -> Reason:
    if status in (401, 402, 403) or kinds & OUT_OF_MONEY:
        return "provider_refused"
    if status in (429, 529):
        return "rate_limited"
    if status >= 500 or status in (408, 409):
        return "provider_error"
    return "request_refused"


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long the provider wants to be left alone: from retry-after-ms, or Retry-After as seconds or date.

    A date counts from the response's own Date, so that no clock is needed. None: it does not say, or nothing usable.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is None:
        text = headers.get("retry-after")
        seconds = _number(text)
        if seconds is None:
            seconds = _seconds_between(headers.get("date"), text)
        milliseconds = None if seconds is None else seconds * 1000
    if milliseconds is None or not 0 <= milliseconds <= MAX_RETRY_AFTER_MS:
        return None
    return round(milliseconds)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _seconds_between(start: str | None, end: str | None) -> float | None:
    """Between two dates of HTTP; None if one is missing, no date, or without a time zone."""
    if start is None or end is None:
        return None
    try:
        return (parsedate_to_datetime(end) - parsedate_to_datetime(start)).total_seconds()
    except (ValueError, TypeError):
        return None
