"""Appends a key's last good upload anew, after a record that hides it.

An upload topic is compacted: after the horizon it keeps only the newest record of a key. If that one cannot be folded,
the good upload before it would be gone.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import Headers, LogRecord, Record, coordinates_of
from processors.kafka.transactional_producer import TransactionalProducer
from processors.log.reader import LogReader
from processors.log.upload_topics import upload_of
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import (
    Aborted,
    BadRecord,
    Fenced,
    Malformed,
    ReplicaBehind,
    UnknownSchema,
    Unreachable,
)
from schemas.partitioner import partition_for
from tables.replica import ContextReplica
from tables.upload_record import SET_ASIDE, UploadRecord, UploadTopics, read_upload

log = logging.getLogger("cjstream.uploads")
MAX_RACES = 20  # attempts, if records of the key keep arriving
REPLICA_WAIT_S = 30.0
TAKEOVER_S = 30.0
RETRY_S = 5.0
RESTORED = "cjstream-restored-after"  # a header: the offset of the record that hid the upload


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record that depends on the end of its partition: `at_end` gives it, or None if there is nothing to append."""

    partition: Partition
    at_end: Callable[[int], Record | None]


def last_good_value(
    settings: Settings, hidden_by: Coordinates, key: bytes, codec: Codec, topics: UploadTopics
) -> bytes | None:
    """The value of a key's newest upload that can be folded, in the partition of a record that cannot.

    None if there is none. Reads the whole partition. Raises Unreachable.
    """
    partition = Partition(hidden_by.topic, hidden_by.partition)
    found = None
    with LogReader(settings, [partition]) as log:
        log.seek_to_start()
        for record in log.records_until(high_watermarks_when_reachable(settings, [partition])):
            upload = upload_of(record)
            if record.key == key and record.at != hidden_by and _is_good(upload, codec, topics):
                found = record.value
    return found


def _is_good(record: UploadRecord, codec: Codec, topics: UploadTopics) -> bool:
    try:
        read_upload(record, codec, topics)
    except BadRecord:
        return False
    return True


def append_unless_newer(
    settings: Settings, producer: TransactionalProducer, new_record: NewRecord
) -> Coordinates | None:
    """Append what new_record gives for the end of the log; None if it gives nothing.

    1. read the end of the partition  2. get the record  3. produce it  4. look for others of its key between the
    end and it, in open transactions, too  5. commit; or if there is one, abort and start again

    Raises Aborted, Fenced, Unreachable.
    """
    partition = new_record.partition
    own = set[Coordinates]()
    for _ in range(MAX_RACES):
        (end,) = high_watermarks_when_reachable(settings, [partition]).values()  # 1
        record = new_record.at_end(end)  # 2
        if record is None:
            return None
        producer.begin()
        try:
            (at,) = map(coordinates_of, producer.produce_and_wait([record]))  # 3
            own.add(at)
            if not _is_overtaken(settings, partition, end, at, record.key, own):  # 4
                producer.commit()  # 5
                return at
        except Aborted:
            producer.abort()
            raise
        producer.abort()
    raise Aborted(f"records of the same key keep arriving in {partition}")


def _is_overtaken(
    settings: Settings,
    partition: Partition,
    end: int,
    at: Coordinates,
    key: bytes | None,
    own: set[Coordinates],
) -> bool:
    with LogReader(settings, [partition], uncommitted=True) as log:
        log.seek({partition: end})
        return any(
            record.key == key and record.at not in own
            for record in log.records_until({partition: at.offset})
        )


class UploadRestorer:
    """Appends a scope's last good upload anew if a record that cannot be folded hides it; for one owner at a time."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        replica: ContextReplica,
        producer: TransactionalProducer,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._replica = replica
        self._producer = producer
        self._lock = asyncio.Lock()

    async def restore_when_possible(self, hidden_by: UploadRecord) -> None:
        """Do as `restore`; if it fails, try again until it succeeds, because the record must not be forgotten."""
        async with self._lock:
            while True:
                try:
                    at = await asyncio.to_thread(self.restore, hidden_by)
                except (Aborted, Fenced, ReplicaBehind, Unreachable) as fault:
                    extra = {"hidden_by": str(hidden_by.at), "reason": str(fault)}
                    log.warning("a good upload could not be appended anew yet", extra=extra)
                    await asyncio.sleep(RETRY_S)
                    continue
                if at is not None:
                    extra = {"hidden_by": str(hidden_by.at), "at": str(at)}
                    log.warning("a good upload was appended anew", extra=extra)
                return

    def restore(self, hidden_by: UploadRecord) -> Coordinates | None:
        """The coordinates of the upload that was appended anew; None if there is none, or a newer one.

        Raises ReplicaBehind, Aborted, Fenced, Unreachable.
        """
        key, at = hidden_by.key or b"", hidden_by.at
        if at.partition != partition_for(key, self._settings.partitions):
            return None  # the scope's uploads are in another partition

        partition = Partition(at.topic, at.partition)

        def at_end(end: int) -> Record | None:
            behind = self._replica.wait_past({partition: end}, REPLICA_WAIT_S)
            if (stop := self._replica.stopped().get(partition)) is not None:
                # the replica stays there, and this record must not hold up the other partitions
                if self._has_later_record(key, partition, stop.record.at.offset, end):
                    return None
            elif behind:
                raise ReplicaBehind(f"the replica does not reach {partition}@{end}")
            newest = self._replica.newest_upload(key.decode(errors="replace"), at.topic)
            if newest is None or newest[0] > at.offset:
                return None
            return Record(at.topic, at.partition, key, newest[1], restored_headers(at.offset))

        if at_end(at.offset + 1) is None:
            return None
        if not self._producer.is_open:
            self._producer.take_over(TAKEOVER_S)
        new_record = NewRecord(partition, at_end)
        return append_unless_newer(self._settings, self._producer, new_record)

    def _has_later_record(self, key: bytes, partition: Partition, start: int, end: int) -> bool:
        """Whether an upload of the key, also one of a later release, is in a range that the replica has not read."""
        if start >= end:
            return False
        with LogReader(self._settings, [partition]) as log:
            log.seek({partition: start})
            return any(
                record.key == key and self._is_upload(record)
                for record in log.records_until({partition: end})
            )

    def _is_upload(self, record: LogRecord) -> bool:
        upload = upload_of(record)
        try:
            read_upload(upload, self._codec, self._replica.topics)
        except Malformed:
            return False
        except UnknownSchema:  # of a later release: newer in any case
            return True
        return True


def restored_headers(offset: int) -> Headers:
    """The headers of an upload that was appended anew after the record at this offset of its partition."""
    return [(RESTORED, str(offset).encode())]


def set_aside_headers(offset: int) -> Headers:
    """The headers of the record that sets aside the one at this offset of its partition."""
    return [(SET_ASIDE, str(offset).encode())]
