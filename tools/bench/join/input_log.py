"""Writes the input of a measurement, uploads and requests, and remembers what each request's outcome must be."""

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate, islice

from processors.kafka.clients import plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import enqueue
from processors.kafka.records import Record
from processors.outcomes.encoding import encode_head
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.recipes import RECIPE
from processors.policy import Policy
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Discrepancy, Unreachable
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    Essay,
    UploadEvent,
)
from schemas.partitioner import partition_for
from tables.context import fold
from tables.scan.layout import FRAME_BYTES
from tools.bench.events import request_for, upload_of
from tools.bench.join.shape import Shape
from tools.bench.join.template import Template
from tools.progress import bar

SEED = 15
ROLES = ("instructions", "student_prompt")
CHUNK = 10_000
FLUSH_S = 60.0


def assignment_id_of(number: int) -> str:
    """The assignment id with that number: of the same length for all."""
    return f"assignment-{number:07d}"


def uuid_text(number: int) -> bytes:
    """A number of 128 bits, written like a UUID."""
    digits = b"%032x" % number
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass(slots=True)
class RequestPartition:
    """What was written into one request partition: entry n is the record at offset n."""

    assignments: "array[int]"  # the number of the assignment
    digests: "array[int]"  # of key and body

    def __len__(self) -> int:
        return len(self.assignments)


def digest_of(key: bytes | None, body: bytes) -> int:
    """A digest of a record's key and of its value without frame, valid in this process."""
    return hash((key, body))


def _no_requests(settings: Settings) -> dict[int, RequestPartition]:
    return {
        number: RequestPartition(array("L"), array("q")) for number in range(settings.partitions)
    }


class InputLog:
    """The uploads and requests of a shape. It is the only writer of its topics, so it counts the offsets itself."""

    def __init__(self, settings: Settings, shape: Shape) -> None:
        self.shape = shape
        self.requests = _no_requests(settings)
        self.request_bytes = 0  # of one request
        self._settings = settings
        self._topics = settings.topics
        self._codec = codec_for(settings)
        self._random = random.Random(SEED)
        self._upload_offsets = {role: array("L") for role in ROLES}
        self._uploads = {role: self._upload_template(role) for role in ROLES}
        self._context_parts = dict[int, bytes]()
        self._upload_ends = Counter[Partition]()
        self._written = Counter[Partition]()

    def _upload_template(self, role: str) -> Template:
        event = upload_of(role, assignment_id_of(0))
        digest = sha256(assignment_id_of(0).encode()).hexdigest()  # as `upload_of` has it
        ids = (event.event_id, assignment_id_of(0), event.correlation_id)
        return Template(self._codec.encode(event), (*ids, digest, digest))

    def write_uploads(self) -> None:
        """Append one upload of each role for each assignment of the shape."""
        self.write_uploads_of(range(self.shape.contexts))

    def write_uploads_of(self, assignments: range) -> None:
        """Append one upload of each role for these assignments, which must follow those that have uploads."""
        total = len(ROLES) * len(assignments)
        self._append(bar(self.upload_records(assignments), "uploads", total))

    def write_requests(self) -> None:
        """Append the requests of the shape."""
        self._append(bar(self.request_records(), "requests", self.shape.total))

    def begin_again(self, shape: Shape) -> None:
        """Forget all requests, for their topic is new; then those of another shape with the same uploads can follow."""
        self.shape = shape
        self.requests = _no_requests(self._settings)
        for partition in self.ends:
            del self._written[partition]

    def write_contexts(self, topic: str) -> None:
        """Append the context of each assignment to a topic of another system, by scope key."""
        self._write_by_scope(topic, lambda number: self._codec.encode(self._context(number)))

    def write_context_parts(self, topic: str) -> None:
        """Append the context part of each assignment to a topic of another system, by scope key."""
        self._write_by_scope(topic, self.context_part)

    def _write_by_scope(self, topic: str, value_of: Callable[[int], bytes]) -> None:
        numbers = bar(range(self.shape.contexts), "contexts", self.shape.contexts)
        keys = ((number, self._scope_key(number).encode()) for number in numbers)
        partitions = self._settings.partitions
        self._append(
            Record(topic, partition_for(key, partitions), key, value_of(number))
            for number, key in keys
        )

    def _append(self, records: Iterable[Record]) -> None:
        producer = plain_producer(self._settings)
        for record in records:
            enqueue(producer, record)
            self._written[Partition(record.topic, record.partition)] += 1
        if producer.flush(FLUSH_S):
            raise Unreachable("the broker did not acknowledge the input in time")
        if high_watermarks_when_reachable(self._settings, self._written) != self._written:
            raise Discrepancy("the input does not have the offsets that were counted")

    def upload_records(self, assignments: range) -> Iterator[Record]:
        """Their uploads, whose offsets are remembered in this order."""
        for role in ROLES:
            for number in assignments:
                partition = self._upload_partition(role, number)
                self._upload_offsets[role].append(self._upload_ends[partition])
                self._upload_ends[partition] += 1
                key = self._scope_key(number).encode()
                yield Record(*partition, key, self._upload(role, number))

    def _upload(self, role: str, number: int) -> bytes:
        index = ROLES.index(role)
        event_id = uuid_text(index << 64 | number)
        assignment_id = assignment_id_of(number).encode()
        digest = sha256(b"%d %d" % (index, number)).hexdigest().encode()
        return self._uploads[role].filled((event_id, assignment_id, event_id, digest, digest))

    def _upload_partition(self, role: str, number: int) -> Partition:
        topics = {
            "instructions": self._topics.instructions,
            "student_prompt": self._topics.student_prompts,
        }
        key = self._scope_key(number).encode()
        return Partition(topics[role].name, partition_for(key, self._settings.partitions))

    def _scope_key(self, number: int) -> str:
        return f"assignment:{assignment_id_of(number)}"

    def request_records(self) -> Iterator[Record]:
        """The requests of the shape, whose assignments and digests are remembered in this order."""
        return islice(self.endless_request_records(), self.shape.total)

    def endless_request_records(self) -> Iterator[Record]:
        """The same without end."""
        topic = self._topics.requests.name
        for number, key, value in self._requests_for(self._assignments()):
            partition = partition_for(key, self._settings.partitions)
            written = self.requests[partition]
            written.assignments.append(number)
            written.digests.append(digest_of(key, value[FRAME_BYTES:]))
            self.request_bytes = len(value)
            yield Record(topic, partition, key, value)

    def _requests_for(self, numbers: Iterator[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """The assignment number, key and value of a request for each of these assignments."""
        shape, bits = self.shape, self._random.getrandbits
        filled = self._request_template().filled
        for number in numbers:
            key = uuid_text(bits(128))
            texts = b"%0*x" % (64 * shape.essays, bits(256 * shape.essays))
            essays = [texts[start : start + 64] for start in range(0, len(texts), 64)]
            ids = (uuid_text(bits(128)), uuid_text(bits(128)), key)
            yield number, key, filled((*ids, assignment_id_of(number).encode(), *essays))

    def _request_template(self) -> Template:
        texts = [f"{number:064x}" for number in range(1, self.shape.essays + 1)]
        event = replace(
            request_for(assignment_id_of(0)),
            essays=tuple(
                Essay(essay_id=f"essay-{number:02d}", text_storage_id=text)
                for number, text in enumerate(texts)
            ),
        )
        strings = (event.event_id, event.correlation_id, event.batch_id, assignment_id_of(0))
        return Template(self._codec.encode(event), (*strings, *texts))

    def _assignments(self) -> Iterator[int]:
        """Endless numbers of assignments, with the frequencies of the shape."""
        shape = self.shape
        numbers = range(shape.contexts)
        weights = (
            [*accumulate((rank + 1) ** -shape.zipf for rank in numbers)] if shape.zipf else None
        )
        while True:
            yield from self._random.choices(numbers, cum_weights=weights, k=CHUNK)

    @property
    def ends(self) -> Positions:
        """The end of each request partition."""
        topic = self._topics.requests.name
        return {Partition(topic, number): len(written) for number, written in self.requests.items()}

    def context_part(self, number: int) -> bytes:
        """The bytes between head and request in each outcome for that assignment.

        They come from the slow path, which decodes and encodes, and not from the code that a worker runs.
        """
        if (part := self._context_parts.get(number)) is None:
            part = self._context_parts[number] = self._encode_context_part(number)
        return part

    def _encode_context_part(self, number: int) -> bytes:
        _, _, request = next(self._requests_for(iter((number,))))
        at = Coordinates(self._topics.requests.name, 0, 0)
        rows = {self._scope_key(number): self._context(number)}
        outcome = OutcomeBuilder(self._codec, Policy(), rows.get).encoded(request, at).value
        before, body = self.outcome_frame + encode_head(at, RECIPE), request[FRAME_BYTES:]
        if not (outcome.startswith(before) and outcome.endswith(body)):
            raise Discrepancy("an outcome is not laid out as head, context part and request")
        return outcome[len(before) : len(outcome) - len(body)]

    def _context(self, number: int) -> AssignmentContext:
        rows = dict[str, AssignmentContext]()
        for role in ROLES:
            partition = self._upload_partition(role, number)
            at = Coordinates(*partition, self._upload_offsets[role][number])
            event_class: type[UploadEvent] = type(upload_of(role, assignment_id_of(number)))
            fold(rows, self._codec.decode_as(event_class, self._upload(role, number)), at, 0)
        return rows[self._scope_key(number)]

    @property
    def request_frame(self) -> bytes:
        """The first bytes of each request."""
        return self._codec.frame_of(CJAssessmentRequested)

    @property
    def context_frame(self) -> bytes:
        """The first bytes of each context."""
        return self._codec.frame_of(AssignmentContext)

    @property
    def outcome_frame(self) -> bytes:
        """The first bytes of each outcome."""
        return self._codec.frame_of(CJBatchPrepared)
