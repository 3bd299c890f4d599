"""Batch preparation: reads requests and makes outcomes, in one transaction per batch.

It has two halves on two threads: `next_batch` fetches, waits for the replica and resolves; the committer commits
the batch in a transaction. A Faust agent on a channel connects them.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from confluent_kafka import Message

from processors.batch_prep.request_load import RequestLoad
from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer
from processors.exactly_once.group_consumer import FetchedRecords, GroupConsumer
from processors.exactly_once.observer import NoObserver, Observer
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Repeats
from processors.kafka.records import Record, RecordColumns, append_time_of, headers_of
from processors.outcomes.batch_splicer import BatchSplicer
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import POSITIONS_HEADER, encode_positions
from processors.outcomes.resolve import Prepared, Unresolved
from processors.outcomes.splice import BuiltOutcome
from processors.parking.entry_check import DueRequest
from processors.parking.parked_topic import ParkedTopic
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.dead_letters import OUTCOME_REFUSED, Refused, dead_letter
from schemas.errors import BadRecord, Malformed, ReplicaDamaged, Unreachable
from schemas.events import AssignmentContext
from schemas.partitioner import partition_for
from schemas.topics import MAX_OUTCOME_BYTES
from tables.replica import ContextReplica

log = logging.getLogger("cjstream.batch_prep")
PREPARED_AT_ONCE = 1000  # contexts: about 15 ms, in which the group is not served
REPLICA_WAIT_S = 3.0  # how long to wait for the replica before the batch is fetched again


class BatchBuilder:
    """Collects the records of a batch: the outcomes of requests as columns, all others one by one."""

    def __init__(self, header: tuple[str, bytes]) -> None:
        self.header = header
        self.topics: list[str] = []
        self.values: list[bytes | None] = []
        self.keys: list[bytes | None] = []
        self.partitions: list[int] = []
        self.records: list[Record] = []
        self.requests = 0
        self.internal = 0
        self.parked_in: set[int] = set()  # partitions of the parked topic that it writes to
        self.only_request: Coordinates | None = None  # if there is exactly one
        self.parked = self.released = 0  # requests
        self.refusals = Counter[str]()  # dead letters by fault

    @property
    def outcomes(self) -> RecordColumns:
        """The outcomes of requests, in their order."""
        return RecordColumns(
            self.topics, self.values, self.keys, self.partitions, headers=(self.header,)
        )

    def add_outcomes(self, outcomes: RecordColumns) -> None:
        """Add the outcomes of requests, one for each."""
        self.requests += len(outcomes)
        self.topics += outcomes.topics
        self.values += outcomes.values
        self.keys += outcomes.keys
        self.partitions += outcomes.partitions

    def add_record(self, record: Record) -> None:
        """Add the one record of a request that is not its outcome."""
        self.requests += 1
        self.records.append(record)

    def park(self, entry: Record) -> None:
        """Add the one record of a request that is parked: its entry in the parked topic."""
        self.add_record(entry)
        self.parked += 1
        self.parked_in.add(entry.partition)

    def refuse(self, letter: Record, fault: BadRecord) -> None:
        """Add the one record of a request that is damaged: its dead letter."""
        self.add_record(letter)
        self.refusals[type(fault).__name__] += 1

    def add_internal(self, record: Record) -> None:
        """Add a record of the parked topic that is not the one record of a request."""
        self.internal += 1
        self.records.append(record)
        self.parked_in.add(record.partition)


class Preparer:
    """Makes batches of fetched and due requests: every request gets one outcome, or is parked.

    All outcomes of one batch use the same state of the replica.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: GroupConsumer,
        parked: ParkedTopic,
        replica: ContextReplica,
        outcomes: OutcomeBuilder,
        splicer: BatchSplicer,
        watermarks: Callable[[], Positions],
        committer: Committer,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or NoObserver()
        self._consumer = consumer
        self._parked = parked
        self._clock = parked.broker_clock
        self._replica = replica
        self._outcomes = outcomes
        self._splicer = splicer
        self._topics = settings.topics
        self._partitions = settings.partitions
        self._policy = settings.policy
        self._watermarks = watermarks
        self._committer = committer
        self._batch_max = settings.batch_max
        self._release_max = settings.release_max
        self._stopped: Collection[Partition] = frozenset()  # as of the last batch
        self._waits = Repeats(tolerated=3)  # longer than writers' transactions or a new leader take
        self.load = RequestLoad(settings.batch_max)
        self._prepared_until: str | None = (
            ""  # scope key; None: prepare nothing in advance any more
        )

    def next_batch(self, wait_s: float) -> Batch | None:
        """The next prepared batch, or None if there is nothing to do at the moment.

        1. fetch requests, and take due ones  2. read the high watermarks of the upload topics  3. wait until the
        replica passes them  4. resolve each request against one state of the replica
        """
        # after a size refusal, halve the limit until the request that is too large is alone in its batch
        refused = self._committer.too_large_inputs
        self._consumer.limit = max(1, refused // 2) if refused else self._batch_max
        started_s = SYSTEM_CLOCK.monotonic()
        fetched = self._consumer.poll(min(wait_s, self._parked.max_wait_s))  # 1
        if fetched is None:
            self._prepare_contexts()
            return None
        self._prepared_until = None
        fetched_s = SYSTEM_CLOCK.monotonic()
        self.load.fetched(len(fetched.messages))
        self._clock.observe(fetched.appended_at_ms)
        left = self._consumer.limit - len(fetched.messages) if refused else self._release_max
        self._parked.advance()
        due_requests = self._due_requests(left)
        clock_records = self._parked.clock_records()
        if not (fetched.messages or due_requests or clock_records):
            return None
        asked_s = SYSTEM_CLOCK.monotonic()
        stopped = self._caught_up()  # 2, 3
        if stopped is None:
            return None
        waited_s = SYSTEM_CLOCK.monotonic()
        must_wait = self._is_in(stopped)
        with self._replica.frozen() as positions:  # 4
            header = encode_positions(positions, self._topics, self._partitions)
            batch = BatchBuilder((POSITIONS_HEADER, header))
            self._prepare_fetched(fetched, batch, must_wait, some_wait=bool(stopped))
            for due in due_requests:
                self._prepare_due(due, batch, must_wait)
        for clock_record in clock_records:
            batch.add_internal(clock_record)
        if fetched.messages:  # without records it only waited for some
            self._observer.took("fetch", fetched_s - started_s)
        self._observer.took("wait_for_uploads", waited_s - asked_s)
        self._observer.took("prepare", SYSTEM_CLOCK.monotonic() - waited_s)
        return self._finish(batch, fetched)

    def _prepare_contexts(self) -> None:
        """Prepare some contexts in advance, while this worker waits for its first partitions."""
        if self._prepared_until is None:
            return
        scope_keys, has_room = list[str](), False
        # a row that cannot be read is the problem of the first request that needs it
        with self._replica.frozen(), suppress(ReplicaDamaged):
            scope_keys = self._replica.scope_keys(self._prepared_until, PREPARED_AT_ONCE)
            has_room = self._splicer.prepare(scope_keys)
        self._prepared_until = scope_keys[-1] if scope_keys and has_room else None

    def _finish(self, batch: BatchBuilder, fetched: FetchedRecords) -> Batch | None:
        """The batch with a position for every partition it touches: only its offsets let Kafka fence a former owner."""
        if not batch.requests and not batch.internal:
            return None
        unmoved = {
            tp: position
            for tp, position in fetched.owned_positions.items()
            if tp.partition in batch.parked_in and tp not in fetched.end
        }
        return Batch(
            batch.records,
            batch.requests,
            {**unmoved, **fetched.start},
            {**unmoved, **fetched.end},
            fetched.group,
            fetched.epoch,
            batch.internal,
            self._parked.offsets_to_commit(batch.parked_in),
            batch.only_request if batch.requests == 1 else None,
            batch.outcomes,
            kinds=self._kinds_of(batch),
            refusals=batch.refusals,
        )

    def _kinds_of(self, batch: BatchBuilder) -> dict[str, int]:
        prepared = batch.topics.count(self._topics.batches.name)
        return {
            "prepared": prepared,
            "unresolved": len(batch.topics) - prepared,
            "dead_letter": batch.refusals.total(),
            "parked": batch.parked,
            "released": batch.released,
        }

    def _due_requests(self, limit: int) -> list[DueRequest]:
        must_wait = self._is_in(self._stopped)
        if (stopped := self._replica.stopped().keys()) != self._stopped:
            self._stopped, must_wait = frozenset(stopped), self._is_in(stopped)
            self._parked.release_held(must_wait)
        return self._parked.due(limit, must_wait)

    def _is_in(self, partitions: Collection[Partition]) -> Callable[[str], bool]:
        """Whether a scope's uploads are in one of these partitions, or have its number in another topic."""
        numbers = {partition.partition for partition in partitions}
        return lambda scope_key: (
            bool(numbers) and partition_for(scope_key.encode(), self._partitions) in numbers
        )

    def _caught_up(self) -> Collection[Partition] | None:
        """Whether the replica has every upload acknowledged before the fetch, but for the partitions returned.

        An upload of a later release stopped those; only requests of their scopes wait. None: drop the batch.
        """
        try:
            behind = self._replica.wait_past(self._watermarks(), REPLICA_WAIT_S)
        except Unreachable as fault:
            level = self._waits.next_level()
            log.log(level, "batch waits for the upload topics", extra={"reason": str(fault)})
        else:
            if behind.keys() <= self._replica.stopped().keys():
                self._waits.end()
                return behind.keys()
            partitions = ", ".join(map(str, behind))
            log.log(
                self._waits.next_level(),
                "batch waits for uploads (an open transaction?)",
                extra={"behind": partitions},
            )
        self._consumer.fetch_again()
        return None

    def _prepare_fetched(
        self,
        fetched: FetchedRecords,
        batch: BatchBuilder,
        must_wait: Callable[[str], bool],
        *,
        some_wait: bool,
    ) -> None:
        """Add the one record of each fetched request: its outcome, its parked entry or its dead letter."""
        messages, keys = fetched.messages, [message.key() for message in fetched.messages]
        values, are_prepared = self._splice(fetched, keys, some_wait=some_wait)
        of_kinds = (self._outcome_topic(False), self._outcome_topic(True))
        topics = [of_kinds[is_prepared] for is_prepared in are_prepared]
        has_outcome = [True] * len(messages)
        for number in [number for number, value in enumerate(values) if value is None]:
            outcome = self._prepare_one(messages[number], batch, must_wait)
            if outcome is None:
                has_outcome[number] = False
            else:
                values[number] = outcome.value
                topics[number] = self._outcome_topic(isinstance(outcome.resolution, Prepared))
        columns = RecordColumns(topics, values, keys, fetched.partitions)
        batch.add_outcomes(columns if all(has_outcome) else columns.rows(has_outcome))
        if len(messages) == 1:
            batch.only_request = self._coordinates_of(messages[0])

    def _splice(
        self, fetched: FetchedRecords, keys: Sequence[bytes | None], *, some_wait: bool
    ) -> tuple[list[bytes | None], Sequence[bool]]:
        """The outcomes of fetched requests, and whether each is prepared; None for one that must be prepared alone."""
        count = len(fetched.messages)
        refused = self._committer.refused_at
        # must_wait depends on the scope, which the splicer does not return
        if some_wait or (refused and self._is_among(refused, fetched)):
            return [None] * count, [False] * count
        requests = [message.value() or b"" for message in fetched.messages]
        values, are_prepared = self._splicer.splice(requests, fetched.partitions, fetched.offsets)
        if _longest(values) + _longest(keys) > MAX_OUTCOME_BYTES:
            values = [
                None if len(value or b"") + len(key or b"") > MAX_OUTCOME_BYTES else value
                for value, key in zip(values, keys, strict=True)
            ]
        return list(values), are_prepared

    def _is_among(self, at: Coordinates, fetched: FetchedRecords) -> bool:
        partition = Partition(at.topic, at.partition)
        return fetched.start.get(partition, 0) <= at.offset < fetched.end.get(partition, 0)

    def _prepare_one(
        self, message: Message, batch: BatchBuilder, must_wait: Callable[[str], bool]
    ) -> BuiltOutcome | None:
        """The outcome of a request; None if the record added to the batch is its parked entry or its dead letter."""
        at = self._coordinates_of(message)
        try:
            outcome = self._build_outcome(message.value(), at)
            resolution = outcome.resolution
            if must_wait(outcome.scope_key):
                unknown: Unresolved[AssignmentContext] = Unresolved(outcome.scope_key, (), None)
                batch.park(self._parked.entry_record(message, at, unknown))
                return None
            if (
                isinstance(resolution, Unresolved)
                and resolution.may_wait
                and self._clock.now_ms < self._parked.deadline_ms(message)
            ):
                batch.park(self._parked.entry_record(message, at, resolution))
                return None
            _check_size(message.key(), outcome.value)
        except BadRecord as fault:
            refused = Refused(message.key(), message.value(), headers_of(message))
            letter = self._dead_letter(at, append_time_of(message), fault, refused)
            batch.refuse(letter, fault)
            return None
        return outcome

    def _prepare_due(
        self, due: DueRequest, batch: BatchBuilder, must_wait: Callable[[str], bool]
    ) -> None:
        """Add the outcome and tombstone of a parked request; nothing if its context is still incomplete."""
        at, request = due.entry.request_at, due.request
        if must_wait(due.entry.scope_key):
            self._parked.hold([due.entry])
            return
        try:
            outcome = self._build_outcome(request.value(), at)
            is_prepared = isinstance(outcome.resolution, Prepared)
            if not is_prepared and self._clock.now_ms < due.entry.deadline_at_ms:
                self._parked.keep_waiting([due.entry])
                return
            _check_size(request.key(), outcome.value)
        except BadRecord as fault:
            refused = Refused(request.key(), request.value(), headers_of(request))
            batch.refuse(self._dead_letter(at, append_time_of(request), fault, refused), fault)
        else:
            topic = self._outcome_topic(is_prepared)
            row = RecordColumns([topic], [outcome.value], [request.key()], [at.partition])
            batch.add_outcomes(row)
        batch.only_request = at
        batch.released += 1
        batch.add_internal(self._parked.tombstone(at))

    def _build_outcome(self, request: bytes | None, at: Coordinates) -> BuiltOutcome:
        if at == self._committer.refused_at:
            raise Malformed(OUTCOME_REFUSED)
        return self._outcomes.build(request, at)

    def _coordinates_of(self, message: Message) -> Coordinates:
        return Coordinates(
            self._topics.requests.name, int(message.partition() or 0), int(message.offset() or 0)
        )

    def _outcome_topic(self, is_prepared: bool) -> str:
        return self._topics.batches.name if is_prepared else self._topics.unresolved.name

    def _dead_letter(
        self, at: Coordinates, appended_at_ms: int, fault: BadRecord, refused: Refused
    ) -> Record:
        letter = dead_letter(at, appended_at_ms, fault, refused)
        return Record(self._topics.requests_dlq.name, at.partition, *letter)


def _longest(texts: Iterable[bytes | None]) -> int:
    return max(map(len, filter(None, texts)), default=0)


def _check_size(key: bytes | None, value: bytes) -> None:
    """Raises Malformed if no broker can accept an outcome, which would abort its batch."""
    if len(value) + len(key or b"") > MAX_OUTCOME_BYTES:
        raise Malformed(OUTCOME_REFUSED)
