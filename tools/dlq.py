"""`cjstream dlq list`, `show` and `redrive`: the dead letters, where each came from, and how to re-drive them.

Nothing here prints a value; `show` writes it to a file on request.
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
from schemas.dead_letters import DeadLetterHeaders
from schemas.errors import BadRecord, CJStreamError, Discrepancy, Misconfigured
from schemas.topics import Topic
from tools.printing import number_of
from tools.progress import bar
from tools.times import time_ms, time_of

MAX_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """Which dead letters to select; times are those of the dead letter, in ms since the epoch."""

    reason: str = ""
    key: bytes | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def select(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is selected."""
        refusal = letter.refusal
        return (
            self.reason.casefold() in f"{refusal.fault}: {refusal.message}".casefold()
            and (self.key is None or letter.key == self.key)
            and (self.since_ms is None or letter.dead_lettered_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.dead_lettered_at_ms < self.until_ms)
        )


def filters(reason: str, key: str | None, since: str | None, until: str | None) -> Filters:
    """The filters from the command's options. Raises Misconfigured."""
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
        raise Misconfigured(f"--topic: must be {' or '.join(known)}")
    return (known[name],)


@dataclass(frozen=True, slots=True)
class ListedLetters:
    """Dead letters, with the coordinates where closed ones went; foreign_records are not dead letters."""

    letters: tuple[tuple[DeadLetter, str | None], ...]
    foreign_records: tuple[str, ...]


def list_letters(
    settings: Settings, topic: str | None, filters: Filters, *, closed: bool
) -> ListedLetters:
    """The open dead letters, or with `closed` all of them, oldest first."""
    found = _read_letters(settings, topics_named(settings, topic))
    letters = [
        (letter, went)
        for letter in sorted(found.letters, key=lambda letter: letter.dead_lettered_at_ms)
        if filters.select(letter)
        for went in [found.destination(letter)]
        if closed or went is None
    ]
    return ListedLetters(tuple(letters), tuple(map(str, found.foreign_records)))


def _read_letters(settings: Settings, topics: Iterable[Topic]) -> OpenLetters:
    checked_topics(admin_client(settings), settings)
    return read_dead_letters(settings, topics)


def find_letter(
    settings: Settings, coordinates: str, value_file: Path | None
) -> tuple[DeadLetter, str | None]:
    """The dead letter at these coordinates, and where it went; writes its value to a new file on request.

    Raises Misconfigured, CJStreamError if there is no such dead letter or the file cannot be written.
    """
    try:
        at = coordinates_from(coordinates)
    except BadRecord as fault:
        raise Misconfigured(str(fault)) from fault
    topics = [topic for topic in topics_named(settings, None) if topic.name == at.topic]
    found = _read_letters(settings, topics)
    letter = found.find(at) if topics else None
    if letter is None:
        raise CJStreamError(
            f"there is no dead letter at {at}; `cjstream dlq list --all` lists them"
        )
    if value_file is not None and letter.refusal.truncated is not None:
        raise CJStreamError(
            f"the dead letter is truncated; the whole record is {letter.refusal.at}, while that is in the log"
        )
    if value_file is not None:
        _write(value_file, read_values(settings, [letter]).get(letter.at))
    return letter, found.destination(letter)


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
    """What a re-drive decided on every selected dead letter, and the coordinates of the re-driven records."""

    decisions: tuple[RedriveDecision, ...]
    went: Mapping[str, str]
    is_dry_run: bool


def redrive(
    settings: Settings, topic: str | None, filters: Filters, *, max_attempts: int, yes: bool
) -> RedriveReport:
    """Re-drive the selected open dead letters; without `yes`, only report what would be done."""
    dead_letter_topics = topics_named(settings, topic)
    checked_topics(admin_client(settings), settings)
    decisions = list[RedriveDecision]()
    went = dict[str, str]()
    for dlq in dead_letter_topics:
        with closing(Redrive(settings, dlq, max_attempts=max_attempts)) as topic_redrive:
            if not yes:
                decisions += topic_redrive.plan(filters.select)
                continue
            letters = topic_redrive.take_over(filters.select)
            for decision, destination in bar(topic_redrive.run(letters), dlq.name, len(letters)):
                decisions.append(decision)
                went[str(decision.letter.at)] = destination
    return RedriveReport(tuple(decisions), went, not yes)


def refuse_refusals(report: RedriveReport) -> None:
    """Raise Discrepancy, with a count, if a dead letter was refused or held back."""
    refused = [decision for decision in report.decisions if decision.fate in ("refused", "held")]
    if refused:
        first = refused[0]
        raise Discrepancy(
            f"refused or held back: {number_of(len(refused), 'dead letter')},"
            f" the first {first.letter.at}: {first.reason}"
        )


def document_of(letter: DeadLetter, went: str | None) -> dict[str, Any]:
    """One dead letter as JSON."""
    refusal = letter.refusal
    return {
        "at": str(letter.at),
        "died_at_ms": letter.dead_lettered_at_ms,
        "original_at": str(refusal.at),
        "original_appended_at_ms": refusal.appended_at_ms,
        "key": None if letter.key is None else text_of(letter.key),
        "fault": plain(refusal.fault),
        "message": plain(refusal.message),
        "attempt": refusal.attempt,
        "value_bytes": letter.value_bytes,
        "sha256": letter.sha256,
        "truncated": _truncated(refusal),
        "headers": [
            [name, None if value is None else text_of(value)]
            for name, value in refusal.original_headers
        ],
        "open": went is None,
        "went": went,
    }


def _truncated(refusal: DeadLetterHeaders) -> dict[str, str] | None:
    """Size and sha256 of each part of a record that did not fit, and None for a dead letter that is whole."""
    if refusal.truncated is None:
        return None
    return dict(zip(("key", "value", "headers"), map(plain, refusal.truncated), strict=True))


def row_of(letter: DeadLetter, went: str | None) -> tuple[object, ...]:
    """One dead letter as a table row for people."""
    shown = document_of(letter, went)
    reason = f"{shown['fault'].rpartition('.')[2]}: {shown['message']}"
    written = time_of(letter.dead_lettered_at_ms)
    cells = (shown["at"], shown["original_at"], shown["key"], written, shown["attempt"], went)
    return (*("" if cell is None else cell for cell in cells), reason)


def decision_of(decision: RedriveDecision, went: Mapping[str, str]) -> dict[str, Any]:
    """One decision as JSON."""
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
    """A key or header value as one line of text: unprintable bytes are escaped, long text is cut."""
    return plain(raw.decode(errors="backslashreplace"))


def plain(text: str) -> str:
    """Text as one line that is safe for a terminal: unprintable characters are escaped, long text is cut."""
    escaped = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
    return escaped if len(escaped) <= MAX_CHARACTERS else f"{escaped[:MAX_CHARACTERS]}…"
