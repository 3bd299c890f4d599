"""The events of an erasure: appended through the fenced writer of the scope's partition, as the API's are.

An erasure that is asked for twice appends nothing the second time. So what became of a transaction that nobody
answered is found out by trying again.
"""

import random
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Self

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.log.reader import LogReader
from processors.settings import Settings, upload_topics
from processors.upload_log.fenced_producer import FencedProducer
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Aborted, Fenced, Malformed, OutcomeUnknown, WriterContended
from schemas.events import ROLES, AssignmentContext, UploadEvent, role_of
from schemas.partitioner import partition_for
from tables.commands import WriteMetadata, decide, erasure_of
from tables.context import apply
from tables.upload_record import UploadRecord, read_upload

PATIENCE_S = 30.0
LONGEST_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class ScopeEvent:
    """An upload event of the scope, and where it stands."""

    event: UploadEvent
    at: Coordinates


class ScopeLog:
    """The events of one scope, in log order by role, up to where its partitions were last read."""

    def __init__(self, settings: Settings, codec: Codec, scope_key: str) -> None:
        self.scope_key = scope_key
        self.partition = partition_for(scope_key.encode(), settings.partitions)
        self.events = list[ScopeEvent]()
        self.context: AssignmentContext | None = None
        self._settings = settings
        self._codec = codec
        self._topics = upload_topics(settings)
        partitions = [Partition(name, self.partition) for name in self._topics.by_name]
        self._log = LogReader(settings, partitions)
        self._positions: Positions = {
            one: low for one, (low, _) in self._log.offset_ranges().items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: object, at: TracebackType | None
    ) -> None:
        self._log.__exit__(kind, fault, at)

    def read(self) -> None:
        """Read on to the high watermarks. Raises Unreachable, and UnknownSchema as the fold does."""
        ends = high_watermarks_when_reachable(self._settings, self._positions)
        self._log.seek(self._positions)
        for record in self._log.records_until(ends, PATIENCE_S):
            if record.key == self.scope_key.encode():
                stood = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
                self._take(stood)
        self._positions = ends

    def _take(self, record: UploadRecord) -> None:
        try:
            event = read_upload(record, self._codec, self._topics)
        except Malformed:  # the fold leaves it out, too
            return
        self.events.append(ScopeEvent(event, record.at))
        self.context = apply(self.context, event, record.at, record.appended_at_ms)


def append_erasure(
    settings: Settings,
    codec: Codec,
    known: ScopeLog,
    writing: WriteMetadata,
    new_id: Callable[[], str],
) -> None:
    """Erase every role that the scope ever had and that is not erased; known has the events afterwards.

    1. have the partition  2. read to its end  3. decide  4. append and commit: nobody has had it since 1

    Raises Unreachable or WriterContended where nothing was appended; OutcomeUnknown.
    """
    until = time.monotonic() + settings.write_timeout_s
    with closing(FencedProducer(settings, codec, known.partition)) as appender:
        while True:
            try:
                appender.open(until)  # 1
                known.read()  # 2
                decision = decide(known.context, erasure_of(known.scope_key), writing, new_id)  # 3
                if decision.events:
                    appender.append(decision.events, until)  # 4
                known.read()
                return
            except (WriterContended, Aborted, Fenced) as fault:
                if time.monotonic() > until:
                    raise _given_up(known.scope_key, fault) from fault
            Event().wait(random.uniform(0, LONGEST_PAUSE_S))  # so that two do not keep step


def _given_up(scope_key: str, fault: WriterContended | Aborted | Fenced) -> Exception:
    if isinstance(fault, Fenced):
        return OutcomeUnknown(scope_key)
    return WriterContended(f"nothing was appended: {fault}")


def events_of(known: ScopeLog, writing: WriteMetadata) -> Iterable[ScopeEvent]:
    """What one asking has appended, in the order of roles."""
    own = [one for one in known.events if one.event.correlation_id == writing.correlation_id]
    return sorted(own, key=lambda one: ROLES.index(role_of(one.event)))
