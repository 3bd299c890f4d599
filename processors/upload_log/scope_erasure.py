"""Appends the events of an erasure, through the writer of the scope's partition, as the API does.

An erasure that is run twice appends nothing the second time. So if the outcome of a transaction is unknown, it is
found out by running the erasure again.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Self

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.settings import Settings
from processors.upload_log.fenced_producer import AppendedEvent, FencedProducer
from processors.upload_log.partition_writer import PartitionWriter, WriteRequest
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import Malformed
from schemas.events import ADMINISTERED_ROLES, AssignmentContext, role_of
from schemas.partitioner import partition_for
from tables.commands import WriteMetadata, erase_command
from tables.context import apply
from tables.replica import StoppedAt
from tables.upload_record import UploadRecord, read_upload

READ_TIMEOUT_S = 30.0


class ScopeLog:
    """The events of one scope, in log order by role, up to where its partitions were last read."""

    def __init__(self, settings: Settings, codec: Codec, scope_key: str) -> None:
        self.scope_key = scope_key
        self.partition = partition_for(scope_key.encode(), settings.partitions)
        self.events = list[AppendedEvent]()
        self._settings = settings
        self._codec = codec
        self._topics = administered_topics_with_set_aside(settings)
        self._context: AssignmentContext | None = None
        self.partitions = tuple(settings.administered_partitions_with(self.partition))
        self._log = LogReader(settings, self.partitions)
        self._positions: Positions = {
            partition: low for partition, (low, _) in self._log.offset_ranges().items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self._log.__exit__(*fault)

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The context of the scope, as far as its partitions were read."""
        return self._context if scope_key == self.scope_key else None

    def read(self) -> None:
        """Read on to the high watermarks. Raises Unreachable, and UnknownSchema as the fold does."""
        ends = high_watermarks_when_reachable(self._settings, self._positions)
        self.wait_past(ends, READ_TIMEOUT_S)

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """Read up to these watermarks; returns no others. Raises Unreachable if no position moves for that long."""
        self._log.seek(self._positions)
        for record in self._log.records_until(watermarks, seconds):
            if record.key == self.scope_key.encode():
                self._add(upload_of(record))
        self._positions = watermarks
        return {}

    def stopped(self) -> Mapping[Partition, StoppedAt]:
        """None: `wait_past` raises UnknownSchema instead."""
        return {}

    def _add(self, record: UploadRecord) -> None:
        try:
            event = read_upload(record, self._codec, self._topics)
        except Malformed:  # the fold ignores it, too
            return
        self.events.append(AppendedEvent(event, record.at, record.appended_at_ms))
        self._context = apply(self._context, event, record.at, record.appended_at_ms)


def append_erasure(
    settings: Settings,
    codec: Codec,
    scope_log: ScopeLog,
    metadata: WriteMetadata,
    new_id: Callable[[], str],
) -> None:
    """Erase every role that the scope ever had and that is not erased; `scope_log` then has the new events.

    Raises Unreachable or WriterContended if nothing was appended; OutcomeUnknown.
    """
    writer = PartitionWriter(
        FencedProducer(settings, codec, scope_log.partition),
        scope_log,
        scope_log.partitions,
        partial(high_watermarks_when_reachable, settings),
        new_id,
    )
    until = time.monotonic() + settings.write_timeout_s
    request = WriteRequest(erase_command(scope_log.scope_key), metadata, until)
    writer.start()
    writer.submit(request)
    try:
        request.future.result()
    finally:
        writer.stop()
        writer.join(settings.write_timeout_s)
    scope_log.read()


def events_of(scope_log: ScopeLog, metadata: WriteMetadata) -> Iterable[AppendedEvent]:
    """The events that one run has appended, in the order of roles."""
    correlation_id = metadata.correlation_id
    appended = [item for item in scope_log.events if item.event.correlation_id == correlation_id]
    return sorted(appended, key=lambda item: ADMINISTERED_ROLES.index(role_of(item.event)))
