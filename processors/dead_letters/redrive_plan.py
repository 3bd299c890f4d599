"""Decides on open dead letters: re-driven, superseded, refused, or held back. Pure."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from processors.dead_letters.open_letters import DeadLetter
from processors.kafka.records import LogRecord
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import Origin, Refused, checksums, redriven_headers
from schemas.errors import BadRecord, Malformed, UnknownSchema
from schemas.partitioner import partition_for
from schemas.topics import Topic
from tables.upload_record import UploadRecord, UploadTopics, read_upload

RECORD_OVERHEAD_BYTES = 256  # of a record batch with one record
Fate = Literal["redrive", "superseded", "refused", "held"]
ScopeRole = tuple[str, bytes | None]  # an upload topic and a scope key: one role of one scope


class Unproven(str):
    """Why a dead letter is not known to be that of a record; it may be forged, and holds nothing back."""


Target = Partition | str  # the partition that the record may go to, or why it must not


@dataclass(frozen=True, slots=True)
class RedriveDecision:
    """The decision on one dead letter: the partition that it goes to, or the reason why it goes nowhere."""

    letter: DeadLetter
    fate: Fate
    to: Partition | None = None
    reason: str = ""

    @property
    def attempt(self) -> int:
        """The attempt number of a re-drive."""
        return self.letter.refusal.attempt + 1


def scope_role_of(letter: DeadLetter) -> ScopeRole:
    """The topic and key of a refused record; order matters among those that share it."""
    return letter.refusal.at.topic, letter.key


def decide(
    letters: Iterable[DeadLetter],
    targets: Mapping[Coordinates, Target],
    newest: Mapping[ScopeRole, Origin],
    *,
    max_attempts: int,
) -> list[RedriveDecision]:
    """Decide on dead letters, in the order of the records that were refused.

    `targets` has the target of each, by its coordinates; `newest` has the newest upload of each scope and role, and
    nothing for requests. A refused dead letter holds back the later ones of its key.
    """
    decisions = []
    refused: dict[ScopeRole, Coordinates] = {}
    for letter in sorted(letters, key=lambda letter: letter.refusal.at):
        decision = _decide_one(letter, targets[letter.at], newest, refused, max_attempts)
        is_unproven = isinstance(targets[letter.at], Unproven)
        if decision.fate == "refused" and letter.key is not None and not is_unproven:
            refused.setdefault(scope_role_of(letter), letter.at)
        decisions.append(decision)
    return decisions


def _decide_one(
    letter: DeadLetter,
    target: Target,
    newest: Mapping[ScopeRole, Origin],
    refused: Mapping[ScopeRole, Coordinates],
    max_attempts: int,
) -> RedriveDecision:
    scope_role = scope_role_of(letter)
    if isinstance(target, Unproven):
        return RedriveDecision(letter, "refused", reason=target)
    if scope_role in refused:
        return RedriveDecision(
            letter,
            "held",
            reason=f"an earlier dead letter of its key was refused: {refused[scope_role]}",
        )
    if isinstance(target, str):
        return RedriveDecision(letter, "refused", reason=target)
    newer = newest.get(scope_role)
    if newer is not None and letter.refusal.origin.is_before(newer):
        return RedriveDecision(letter, "superseded", reason=f"by {newer.at}, which is newer")
    if letter.refusal.attempt >= max_attempts:
        reason = f"it was re-driven {letter.refusal.attempt} times, the limit is {max_attempts}"
        return RedriveDecision(letter, "refused", reason=reason)
    return RedriveDecision(letter, "redrive", target)


def target_of_request(letter: DeadLetter, original: LogRecord | None, requests: Topic) -> Target:
    """A request's own partition; or why it is refused. `original` is the record at its coordinates."""
    at = letter.refusal.at
    if at.topic != requests.name:
        return Unproven(
            f"it came from {at.topic}, which is not the requests topic of this installation"
        )
    if problem := _mismatch(letter, original) or _too_large(letter, original, requests):
        return problem
    return Partition(at.topic, at.partition)


def target_of_upload(
    letter: DeadLetter, original: LogRecord | None, topics: UploadTopics, codec: Codec
) -> Target:
    """The partition of an upload's scope key by murmur2; or why this release cannot fold it."""
    at = letter.refusal.at
    if at.topic not in topics.by_name:
        return Unproven(
            f"it came from {at.topic}, which is not an upload topic of this installation"
        )
    topic = topics.by_name[at.topic]
    if problem := _mismatch(letter, original) or _too_large(letter, original, topic):
        return problem
    partition = partition_for(letter.key or b"", topics.partitions)
    redriven_at = Coordinates(at.topic, partition, at.offset)
    value = original.value if original else None
    record = UploadRecord(redriven_at, letter.key, value, letter.refusal.appended_at_ms)
    try:
        read_upload(record, codec, topics)
    except BadRecord as fault:
        return f"this release cannot fold it: {fault}"
    return Partition(at.topic, partition)


def _mismatch(letter: DeadLetter, original: LogRecord | None) -> Unproven | None:
    """Why this is not the dead letter of the record at its coordinates; None if it is."""
    at, refusal = letter.refusal.at, letter.refusal
    if original is None:
        return Unproven(f"its record {at}, with which it must be compared, is not in the log")
    key, value, headers = original.key, original.value, original.headers
    if refusal.truncated is None:
        sha256 = None if value is None else hashlib.sha256(value).hexdigest().encode()
        is_same = letter.content == Refused(key, sha256, headers)
    else:
        is_same = refusal.truncated == checksums(Refused(key, value, headers))
    if is_same and refusal.appended_at_ms == original.appended_at_ms:
        return None
    return Unproven(f"it differs from its record {at}: no worker wrote it, or not from this topic")


def _too_large(letter: DeadLetter, original: LogRecord | None, topic: Topic) -> str | None:
    if letter.refusal.truncated is not None and original is not None:
        parts = (original.key, original.value, *(part for _, part in original.headers))
        size = sum(len(part or b"") for part in parts)
        return f"{size} bytes, too large for its topic; the whole record is {original.at}"
    headers = redriven_headers(letter.at, letter.refusal)
    header_bytes = sum(len(name) + len(value or b"") + 20 for name, value in headers)
    size = letter.value_bytes + len(letter.key or b"") + header_bytes + RECORD_OVERHEAD_BYTES
    if size <= topic.max_message_bytes:
        return None
    return f"{size} bytes with its headers, the limit of its topic is {topic.max_message_bytes}"


class NewestUploads:
    """The origin (first coordinates, append time) of the newest upload of each scope and role, as in the fold."""

    def __init__(
        self, scope_roles: Iterable[ScopeRole], topics: UploadTopics, codec: Codec
    ) -> None:
        self._wanted = frozenset(scope_roles)
        self._topics = topics
        self._codec = codec
        self.origins: dict[ScopeRole, Origin] = {}

    def wants(self, scope_role: ScopeRole) -> bool:
        """Whether uploads of this scope and role are looked for."""
        return scope_role in self._wanted

    def add(self, record: UploadRecord, origin: Origin) -> None:
        """Add one record of an upload topic, in log order; a record that the fold ignores changes nothing."""
        scope_role = record.at.topic, record.key
        if self.wants(scope_role) and self._folds(record):
            self.origins[scope_role] = origin

    def _folds(self, record: UploadRecord) -> bool:
        try:
            read_upload(record, self._codec, self._topics)
        except Malformed:
            return False
        except UnknownSchema:  # of a later release: it is newer in any case
            return True
        return True


def chunks(
    decisions: Iterable[RedriveDecision], max_letters: int, max_bytes: int
) -> Iterator[list[RedriveDecision]]:
    """Decisions in order, in chunks of up to `max_letters` letters and `max_bytes` bytes (or one larger letter)."""
    chunk, size = list[RedriveDecision](), 0
    for decision in decisions:
        if chunk and (len(chunk) == max_letters or size + decision.letter.value_bytes > max_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(decision)
        size += decision.letter.value_bytes
    if chunk:
        yield chunk
