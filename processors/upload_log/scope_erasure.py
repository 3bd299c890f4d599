"""Appends the events of an erasure, through the fenced producer of the scope's partition, as the API does.

An erasure that is run twice appends nothing the second time. So if the outcome of a transaction is unknown, it is
found out by running the erasure again.
"""

import random
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from threading import Event
from typing import Self

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.log.reader import LogReader
from processors.settings import Settings, upload_topics
from processors.upload_log.fenced_producer import AppendedEvent, FencedProducer
from schemas.codec import Codec
from schemas.coordinates import Positions
from schemas.errors import Aborted, Fenced, Malformed, OutcomeUnknown, WriterContended
from schemas.events import ROLES, AssignmentContext, role_of
from schemas.partitioner import partition_for
from tables.commands import WriteMetadata, decide, erase_command
from tables.context import apply
from tables.upload_record import UploadRecord, read_upload

READ_TIMEOUT_S = 30.0
MAX_PAUSE_S = 0.2


class ScopeLog:
    """The events of one scope, in log order by role, up to where its partitions were last read."""

    def __init__(self, settings: Settings, codec: Codec, scope_key: str) -> None:
        self.scope_key = scope_key
        self.partition = partition_for(scope_key.encode(), settings.partitions)
        self.events = list[AppendedEvent]()
        self.context: AssignmentContext | None = None
        self._settings = settings
        self._codec = codec
        self._topics = upload_topics(settings)
        self._log = LogReader(settings, settings.upload_partitions_with(self.partition))
        self._positions: Positions = {
            partition: low for partition, (low, _) in self._log.offset_ranges().items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self._log.__exit__(*fault)

    def read(self) -> None:
        """Read on to the high watermarks. Raises Unreachable, and UnknownSchema as the fold does."""
        ends = high_watermarks_when_reachable(self._settings, self._positions)
        self._log.seek(self._positions)
        for record in self._log.records_until(ends, READ_TIMEOUT_S):
            if record.key == self.scope_key.encode():
                self._add(UploadRecord(record.at, record.key, record.value, record.appended_at_ms))
        self._positions = ends

    def _add(self, record: UploadRecord) -> None:
        try:
            event = read_upload(record, self._codec, self._topics)
        except Malformed:  # the fold ignores it, too
            return
        self.events.append(AppendedEvent(event, record.at, record.appended_at_ms))
        self.context = apply(self.context, event, record.at, record.appended_at_ms)


def append_erasure(
    settings: Settings,
    codec: Codec,
    scope_log: ScopeLog,
    metadata: WriteMetadata,
    new_id: Callable[[], str],
) -> None:
    """Erase every role that the scope ever had and that is not erased; `scope_log` then has the new events.

    1. own the partition  2. read to its end  3. decide
    4. append and commit, which proves that nobody else has owned it since 1

    Raises Unreachable or WriterContended if nothing was appended; OutcomeUnknown.
    """
    until = time.monotonic() + settings.write_timeout_s
    with closing(FencedProducer(settings, codec, scope_log.partition)) as producer:
        while True:
            try:
                producer.open(until)  # 1
                scope_log.read()  # 2
                command = erase_command(scope_log.scope_key)
                decision = decide(scope_log.context, command, metadata, new_id)  # 3
                if decision.events:
                    producer.append(decision.events, until)  # 4
                scope_log.read()
                return
            except (WriterContended, Aborted, Fenced) as fault:
                if time.monotonic() > until:
                    raise _final_error(scope_log.scope_key, fault) from fault
            Event().wait(random.uniform(0, MAX_PAUSE_S))  # so that two instances do not alternate


def _final_error(scope_key: str, fault: WriterContended | Aborted | Fenced) -> Exception:
    if isinstance(fault, Fenced):
        return OutcomeUnknown(scope_key)
    return WriterContended(f"nothing was appended: {fault}")


def events_of(scope_log: ScopeLog, metadata: WriteMetadata) -> Iterable[AppendedEvent]:
    """The events that one run has appended, in the order of roles."""
    correlation_id = metadata.correlation_id
    appended = [item for item in scope_log.events if item.event.correlation_id == correlation_id]
    return sorted(appended, key=lambda item: ROLES.index(role_of(item.event)))
