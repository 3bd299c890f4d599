"""Reads a judge's answer, the same way for every adapter. Pure."""

from dataclasses import dataclass
from typing import Any

import orjson

from processors.judging.judges.judge import Answered, Failed, Side

MAX_JUSTIFICATION = 300  # characters; the rest is cut off, a reason to refuse it is not
SIDES: dict[Any, Side] = {"A": "first", "B": "second"}
ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "winner": {"type": "string", "enum": ["A", "B"]},
        "confidence": {"type": "integer", "minimum": 1, "maximum": 5},
        "justification": {"type": "string"},
    },
    "required": ["winner", "confidence", "justification"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge decided; only the winner counts."""

    winner: Side
    confidence: int | None
    justification: str | None


def answer_of(outcome: Answered | Failed) -> Answer | None:
    """The answer of an outcome; None if it has none."""
    if isinstance(outcome, Failed):
        return None
    return Answer(outcome.winner, outcome.confidence, outcome.justification)


def read_answer(text: str | bytes) -> Answer | None:
    """The answer in a judge's JSON; None if it names no winner. An unusable confidence or justification is None."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    winner = document.get("winner")
    if not isinstance(winner, str) or winner not in SIDES:
        return None
    confidence, justification = document.get("confidence"), document.get("justification")
    return Answer(
        SIDES[winner],
        confidence if type(confidence) is int and 1 <= confidence <= 5 else None,
        justification[:MAX_JUSTIFICATION] if isinstance(justification, str) else None,
    )
