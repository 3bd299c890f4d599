"""`cjstream dlq list · show · redrive`: the dead letters, where each came from, and the way back.

Nothing here prints a value: `show` writes it to a file where it is asked to.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processors.dead_letters.open_letters import (
    DeadLetter,
    OpenLetters,
    read_dead_letters,
    read_values,
)
from processors.dead_letters.redrive import Redrive
from processors.dead_letters.redrive_plan import RedriveDecision
from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import checked_topics
from processors.settings import Settings
from schemas.coordinates import coordinates_from
from schemas.errors import BadRecord, CJStreamError, Discrepancy, Misconfigured
from schemas.topics import Topic
from tools.progress import bar
from tools.times import time_ms, time_of

MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """Which dead letters are meant; times are those of the dead letter, in ms since the epoch."""

    reason: str = ""
    key: bytes | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def take(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is meant."""
        refusal = letter.refusal
        return (
            self.reason.casefold() in f"{refusal.fault}: {refusal.message}".casefold()
            and (self.key is None or letter.key == self.key)
            and (self.since_ms is None or letter.died_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.died_at_ms < self.until_ms)
        )


def filters(reason: str, key: str | None, since: str | None, until: str | None) -> Filters:
    """The options' words as filters. Raises Misconfigured."""
    now = datetime.now(UTC)
    return Filters(
        reason,
        None if key is None else os.fsencode(key),
        None if since is None else time_ms(since, now, "--since"),
        None if until is None else time_ms(until, now, "--until"),
    )


def topics_named(settings: Settings, name: str | None) -> tuple[Topic, ...]:
    """The dead-letter topics of `requests`, of `uploads`, or both."""
    known = {"requests": settings.topics.requests_dlq, "uploads": settings.topics.uploads_dlq}
    if name is None:
        return tuple(known.values())
    if name not in known:
        raise Misconfigured(f"--topic: is {' or '.join(known)}")
    return (known[name],)


@dataclass(frozen=True, slots=True)
class ListedLetters:
    """Dead letters with where the closed ones went; strangers are records that are no dead letters."""

    letters: tuple[tuple[DeadLetter, str | None], ...]
    strangers: tuple[str, ...]


def listed(
    settings: Settings, topic: str | None, filters: Filters, *, closed: bool
) -> ListedLetters:
    """The dead letters that are open, or all, oldest first."""
    found = _found(settings, topics_named(settings, topic))
    taken = filter(filters.take, found.letters)
    told = ((one, found.went(one)) for one in sorted(taken, key=lambda one: one.died_at_ms))
    letters = tuple((one, went) for one, went in told if closed or went is None)
    return ListedLetters(letters, tuple(map(str, found.strangers)))


def _found(settings: Settings, topics: Iterable[Topic]) -> OpenLetters:
    checked_topics(admin_client(settings), settings)
    return read_dead_letters(settings, topics)


def shown(
    settings: Settings, coordinates: str, value_file: Path | None
) -> tuple[DeadLetter, str | None]:
    """One dead letter, by its coordinates, and where it went; its value goes to a new file.

    Raises Misconfigured, CJStreamError where there is none, or where the file cannot be made.
    """
    try:
        at = coordinates_from(coordinates)
    except BadRecord as fault:
        raise Misconfigured(str(fault)) from fault
    topics = [one for one in topics_named(settings, None) if one.name == at.topic]
    found = _found(settings, topics)
    letter = found.at(at) if topics else None
    if letter is None:
        raise CJStreamError(f"no dead letter stands at {at}; `cjstream dlq list --all` names them")
    if value_file is not None:
        _write(value_file, read_values(settings, [letter]).get(letter.at))
    return letter, found.went(letter)


def _write(path: Path, value: bytes | None) -> None:
    if value is None:
        raise CJStreamError("the dead letter has no value: the record was a tombstone")
    try:
        with path.open("xb") as file:
            file.write(value)
    except OSError as fault:
        raise CJStreamError(f"{path}: {fault.strerror}") from fault


@dataclass(frozen=True, slots=True)
class RedriveReport:
    """What a re-drive decided on every dead letter that was meant, and where those went that were carried."""

    decisions: tuple[RedriveDecision, ...]
    went: Mapping[str, str]
    is_dry_run: bool


def redriven(
    settings: Settings, topic: str | None, filters: Filters, *, most_attempts: int, yes: bool
) -> RedriveReport:
    """Re-drive the open dead letters that are meant; unless yes, only say what would be done."""
    topics = topics_named(settings, topic)
    checked_topics(admin_client(settings), settings)
    decisions = list[RedriveDecision]()
    went = dict[str, str]()
    for one in topics:
        with closing(Redrive(settings, one, most_attempts=most_attempts)) as redrive:
            if not yes:
                decisions += redrive.plan(filters.take)
                continue
            letters = redrive.begin(filters.take)
            for decision, where in bar(redrive.carry(letters), one.name, len(letters)):
                decisions.append(decision)
                went[str(decision.letter.at)] = where
    return RedriveReport(tuple(decisions), went, not yes)


def refuse_refusals(redriven: RedriveReport) -> None:
    """Raise Discrepancy, counting, where a dead letter was refused or held back."""
    refused = [one for one in redriven.decisions if one.fate in ("refused", "held")]
    if refused:
        first = refused[0]
        raise Discrepancy(
            f"{len(refused)} dead letters stay where they are, the first {first.letter.at}: {first.reason}"
        )


def document_of(letter: DeadLetter, went: str | None) -> dict[str, Any]:
    """One dead letter for machines."""
    refusal = letter.refusal
    return {
        "at": str(letter.at),
        "died_at_ms": letter.died_at_ms,
        "original_at": str(refusal.at),
        "original_appended_at_ms": refusal.appended_at_ms,
        "key": None if letter.key is None else text_of(letter.key),
        "fault": plain(refusal.fault),
        "message": plain(refusal.message),
        "attempt": refusal.attempt,
        "value_bytes": letter.value_bytes,
        "sha256": letter.sha256,
        "headers": [
            [name, None if value is None else text_of(value)] for name, value in refusal.own
        ],
        "open": went is None,
        "went": went,
    }


def row_of(letter: DeadLetter, went: str | None) -> tuple[object, ...]:
    """One dead letter in a line for people."""
    refusal = letter.refusal
    return (
        letter.at,
        refusal.at,
        "" if letter.key is None else text_of(letter.key),
        time_of(letter.died_at_ms),
        refusal.attempt,
        went or "",
        plain(f"{refusal.fault.rpartition('.')[2]}: {refusal.message}"),
    )


def decision_of(decision: RedriveDecision, went: Mapping[str, str]) -> dict[str, Any]:
    """One decision for machines."""
    letter = decision.letter
    return {
        "at": str(letter.at),
        "original_at": str(letter.refusal.at),
        "key": None if letter.key is None else text_of(letter.key),
        "fate": decision.fate,
        "attempt": decision.attempt if decision.to else letter.refusal.attempt,
        "to": f"{decision.to.topic}/{decision.to.partition}" if decision.to else None,
        "went": went.get(str(letter.at)),
        "reason": decision.reason,
    }


def text_of(raw: bytes) -> str:
    """A key or a header's value in a line: what is no printable text is escaped, what is long is cut."""
    return plain(raw.decode(errors="backslashreplace"))


def plain(text: str) -> str:
    """Text in a line, for a terminal to trust."""
    told = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return told if len(told) <= MOST_CHARACTERS else f"{told[:MOST_CHARACTERS]}…"
