"""What is to become of open dead letters: re-driven, superseded, refused, or held back. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from processors.dead_letters.open_letters import DeadLetter
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.dead_letters import Origin, redriven_headers
from schemas.errors import BadRecord, Malformed, UnknownSchema
from schemas.partitioner import partition_for
from schemas.topics import Topic
from tables.upload_record import UploadRecord, UploadTopics, read_upload

RECORD_OVERHEAD_BYTES = 256  # of a record batch of one record
Fate = Literal["redrive", "superseded", "refused", "held"]
Slot = tuple[str, bytes | None]  # an upload topic and a scope key: one role of one scope
Judged = Partition | str  # where the bytes may go, or why they may not


@dataclass(frozen=True, slots=True)
class RedriveDecision:
    """What is to become of one dead letter; to is its partition, reason why it does not go there."""

    letter: DeadLetter
    fate: Fate
    to: Partition | None = None
    reason: str = ""

    @property
    def attempt(self) -> int:
        """Which attempt a re-drive would be."""
        return self.letter.refusal.attempt + 1


def slot_of(letter: DeadLetter) -> Slot:
    """The topic and key of a dead letter: within one, order counts."""
    return letter.refusal.at.topic, letter.key


def decide(
    letters: Iterable[DeadLetter],
    judged: Mapping[Coordinates, Judged],
    newest: Mapping[Slot, Origin],
    *,
    most_attempts: int,
) -> list[RedriveDecision]:
    """Decide on dead letters, in the order in which their records stood.

    judged has a verdict on each, by its coordinates; newest the newest upload of each slot, nothing for
    requests. One that is refused holds back the later ones of its key.
    """
    decisions = []
    refused: dict[Slot, Coordinates] = {}
    for letter in sorted(letters, key=lambda letter: letter.refusal.at):
        decision = _decided(letter, judged[letter.at], newest, refused, most_attempts)
        if decision.fate == "refused" and letter.key is not None:
            refused.setdefault(slot_of(letter), letter.at)
        decisions.append(decision)
    return decisions


def _decided(
    letter: DeadLetter,
    judged: Judged,
    newest: Mapping[Slot, Origin],
    refused: Mapping[Slot, Coordinates],
    most_attempts: int,
) -> RedriveDecision:
    slot = slot_of(letter)
    if slot in refused:
        return RedriveDecision(
            letter, "held", reason=f"comes after {refused[slot]} of the same key"
        )
    if isinstance(judged, str):
        return RedriveDecision(letter, "refused", reason=judged)
    there = newest.get(slot)
    if there is not None and letter.refusal.origin.is_before(there):
        return RedriveDecision(letter, "superseded", reason=f"by {there.at}, which is newer")
    if letter.refusal.attempt >= most_attempts:
        reason = f"was re-driven {letter.refusal.attempt} times, allowed are {most_attempts}"
        return RedriveDecision(letter, "refused", reason=reason)
    return RedriveDecision(letter, "redrive", judged)


def judge_request(letter: DeadLetter, requests: Topic, partitions: int) -> Judged:
    """A request goes to the partition it came from; where that is no more, to its key's."""
    at = letter.refusal.at
    if at.topic != requests.name:
        return f"came from {at.topic}, which is not the requests topic here"
    if why := _too_large(letter, requests):
        return why
    if at.partition < partitions:
        return Partition(at.topic, at.partition)
    return Partition(at.topic, partition_for(letter.key or b"", partitions))


def judge_upload(
    letter: DeadLetter, value: bytes | None, topics: UploadTopics, codec: Codec
) -> Judged:
    """An upload that this release can read goes to the partition that murmur2 of its scope key says."""
    at = letter.refusal.at
    if at.topic not in topics.by_name:
        return f"came from {at.topic}, which is no upload topic here"
    if why := _too_large(letter, topics.by_name[at.topic]):
        return why
    belongs = partition_for(letter.key or b"", topics.partitions)
    there = Coordinates(at.topic, belongs, at.offset)
    record = UploadRecord(there, letter.key, value, letter.refusal.appended_at_ms)
    try:
        read_upload(record, codec, topics)
    except BadRecord as fault:
        return f"this release cannot fold it: {fault}"
    return Partition(at.topic, belongs)


def _too_large(letter: DeadLetter, topic: Topic) -> str | None:
    headers = redriven_headers(letter.at, letter.refusal)
    told = sum(len(name) + len(value or b"") + 20 for name, value in headers)
    size = letter.value_bytes + len(letter.key or b"") + told + RECORD_OVERHEAD_BYTES
    if size <= topic.max_message_bytes:
        return None
    return f"{size} bytes with its headers, its topic takes {topic.max_message_bytes}"


class NewestUploads:
    """Where the newest upload of some slots stood first: the fold's view, told by origins."""

    def __init__(self, slots: Iterable[Slot], topics: UploadTopics, codec: Codec) -> None:
        self._wanted = frozenset(slots)
        self._topics = topics
        self._codec = codec
        self.origins: dict[Slot, Origin] = {}

    def wants(self, slot: Slot) -> bool:
        """Whether an upload of this slot matters here."""
        return slot in self._wanted

    def learn(self, record: UploadRecord, origin: Origin) -> None:
        """One record of an upload topic, in log order; the fold leaves out what is not an upload."""
        slot = record.at.topic, record.key
        if self.wants(slot) and self._folds(record):
            self.origins[slot] = origin

    def _folds(self, record: UploadRecord) -> bool:
        try:
            read_upload(record, self._codec, self._topics)
        except Malformed:
            return False
        except UnknownSchema:  # a later release's: newer all the same
            return True
        return True


def chunks(
    decisions: Iterable[RedriveDecision], most: int, most_bytes: int
) -> Iterator[list[RedriveDecision]]:
    """Decisions in order, cut into transactions of at most so many records or bytes."""
    chunk, size = list[RedriveDecision](), 0
    for decision in decisions:
        if chunk and (len(chunk) == most or size + decision.letter.value_bytes > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(decision)
        size += decision.letter.value_bytes
    if chunk:
        yield chunk
