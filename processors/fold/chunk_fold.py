"""Folds a chunk of an upload partition: publishes the rows of the scopes that it changes, from the replica's fold.

The replica has checked and folded every upload below its position. So an upload that is the replica's newest of a
scope and role is valid, and the scope's row is published. An older one changes nothing. Any other record is no upload,
for the reason for which the replica has not folded it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import aiokafka

from processors.fold.context_table import ContextTable
from processors.kafka.records import Headers, LogRecord, valid_time_ms
from processors.log.upload_topics import upload_of
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed, UnknownSchema
from schemas.events import ROLES, AssignmentContext
from tables.context import component_of
from tables.replica import ContextReplica
from tables.upload_record import UploadRecord, read_upload

MAX_HEADERS = 100_000  # librdkafka reads none of a record that has more
REPLICA_POLL_S = 0.2
MAX_PUBLISHED = 100_000  # scopes whose published uploads are kept in memory
Offsets = tuple[int | None, ...]  # of the newest upload of each role


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that is no upload, by its number in the chunk."""

    number: int
    record: UploadRecord
    headers: Headers
    fault: Malformed


@dataclass(slots=True)
class FoldedRecords:
    """How many records are folded, which are all before one that stops its partition, and those that are no uploads."""

    count: int = 0
    refused: list[RefusedRecord] = field(default_factory=list)


class ChunkFold:
    """Folds chunks, on the table's thread."""

    def __init__(self, table: ContextTable, codec: Codec, replica: ContextReplica) -> None:
        self._table = table
        self._codec = codec
        self._replica = replica
        self._role_numbers = {topic: n for n, topic in enumerate(replica.topics.by_name)}
        # the uploads in the row of a scope that was published in this generation: one row has those of three topics
        self._published: dict[bytes, Offsets] = {}
        self._generation = -1

    def fold(self, records: Sequence[aiokafka.ConsumerRecord], generation: int) -> FoldedRecords:
        """Publish the rows that these records of one partition change; returns once the broker has them.

        generation is that of the partition's assignment. Raises PartitionLost, StoreFailed, Unreachable.
        """
        if generation != self._generation:  # another worker may have published since
            self._published, self._generation = {}, generation
        partition = Partition(records[0].topic, records[0].partition)
        role = self._role_numbers[partition.topic]
        end = self._wait_for_replica(partition, records[-1].offset + 1)
        keys = {record.key for record in records if record.key and not self._has(record, role)}
        contexts = self._replica.contexts_of(keys)
        offsets = {key: _offsets_of(context) for key, context in contexts.items()}
        folded, changed = FoldedRecords(), set[bytes]()
        for record in records:
            if record.offset >= end:
                break
            known = offsets.get(record.key)
            if known is not None and known[role] == record.offset:
                changed.add(record.key)
            elif not self._has(record, role):
                try:
                    self._check(record, folded)
                except UnknownSchema:
                    break
            folded.count += 1
        rows = {key: self._codec.encode(contexts[key]) for key in changed}
        self._table.write(partition.partition, rows, generation)
        if len(self._published) > MAX_PUBLISHED:
            self._published.clear()
        self._published.update((key, offsets[key]) for key in changed)
        return folded

    def _has(self, record: aiokafka.ConsumerRecord, role: int) -> bool:
        """Whether a published row has this upload."""
        published = self._published.get(record.key)
        return published is not None and published[role] == record.offset

    def _wait_for_replica(self, partition: Partition, end: int) -> int:
        """The offset up to which the replica has folded the partition: `end`, or where it has stopped before."""
        while self._replica.wait_past({partition: end}, REPLICA_POLL_S):
            self._table.changelog.check_not_stopped()
            if (stop := self._replica.stopped().get(partition)) is not None:
                return stop.record.at.offset
        return end

    def _check(self, record: aiokafka.ConsumerRecord, folded: FoldedRecords) -> None:
        """Note a record that is no upload. Raises UnknownSchema."""
        at = Coordinates(record.topic, record.partition, record.offset)
        time_ms = valid_time_ms(record.timestamp)
        headers = _headers(record)
        upload = upload_of(LogRecord(at, record.key, record.value, headers, time_ms))
        if upload.sets_aside is not None and upload.value is None:
            return
        try:
            read_upload(upload, self._codec, self._replica.topics)
        except Malformed as fault:
            folded.refused.append(RefusedRecord(folded.count, upload, headers, fault))


def _offsets_of(context: AssignmentContext) -> Offsets:
    components = (component_of(context, role) for role in ROLES)
    return tuple(None if component is None else component.source.offset for component in components)


def _headers(record: aiokafka.ConsumerRecord) -> tuple[tuple[str, bytes | None], ...]:
    """The headers as librdkafka reads them, with which everything else is read: names end at a zero byte."""
    if len(record.headers) > MAX_HEADERS:
        return ()
    return tuple((name.partition("\0")[0], value) for name, value in record.headers)
