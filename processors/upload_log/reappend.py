"""Appends a key's last good upload anew, after a record that hides it.

An upload topic is compacted: after the horizon it keeps only the newest record of a key. If that one cannot be folded,
the good upload before it would be gone.
"""

from collections.abc import Callable

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import Headers, Record, coordinates_of
from processors.kafka.transactional_producer import TransactionalProducer
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Aborted, BadRecord
from tables.upload_record import SET_ASIDE, UploadRecord, UploadTopics, read_upload

MAX_RACES = 20  # attempts, if records of the key keep arriving


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
            upload = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
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
    settings: Settings,
    producer: TransactionalProducer,
    record: Record,
    value: Callable[[], bytes | None],
) -> Coordinates:
    """Append a record with the value of the moment; it is taken back if another one of its key came between.

    1. read the end of the partition  2. get the value  3. produce the record  4. look for records of the key
    between the end and it, those of open transactions included  5. commit, or abort and start again

    Raises Aborted, Fenced, Unreachable.
    """
    partition = Partition(record.topic, record.partition)
    own = set[Coordinates]()
    for _ in range(MAX_RACES):
        (end,) = high_watermarks_when_reachable(settings, [partition]).values()  # 1
        current = Record(record.topic, record.partition, record.key, value(), record.headers)  # 2
        producer.begin()
        try:
            (at,) = map(coordinates_of, producer.produce_and_wait([current]))  # 3
            own.add(at)
            with LogReader(settings, [partition], uncommitted=True) as log:  # 4
                log.seek({partition: end})
                is_overtaken = any(
                    between.key == record.key and between.at not in own
                    for between in log.records_until({partition: at.offset})
                )
            if not is_overtaken:
                producer.commit()  # 5
                return at
        except Aborted:
            producer.abort()
            raise
        producer.abort()
    raise Aborted(f"records of the same key keep arriving in {record.topic}/{record.partition}")


def set_aside_headers(offset: int) -> Headers:
    """The headers of the record that sets aside the one at this offset of its partition."""
    return [(SET_ASIDE, str(offset).encode())]
