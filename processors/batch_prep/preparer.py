"""Batch preparation: requests in, outcomes out, one transaction a batch.

Two halves, each on a thread of its own: `next_batch` fetches, waits for the replica and resolves; `commit`
carries one such batch through its transaction. A Faust agent on a channel stands between them.
"""

from collections.abc import Callable

from confluent_kafka import Message

from processors.batch_prep.batch import BatchBuilder
from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer, log
from processors.exactly_once.group_consumer import FetchedRecords, GroupConsumer
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.records import Headers, Record, headers_of
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import POSITIONS_HEADER, encode_positions
from processors.outcomes.resolve import Prepared, Unresolved
from processors.outcomes.splice import BuiltOutcome
from processors.parking.parked_topic import DueRequest, ParkedTopic
from processors.settings import Settings
from schemas.coordinates import Coordinates, Positions
from schemas.dead_letters import OUTCOME_REFUSED, dead_letter_headers
from schemas.errors import BadRecord, Malformed, Unreachable
from tables.replica import ContextReplica

PATIENCE_S = 3.0  # for the replica to pass the watermarks, before the batch is fetched anew


class Preparer:
    """Makes batches of what is fetched and what is due: every request gets one outcome, or is parked.

    All answers of one batch rest on one state of the replica.
    """

    def __init__(
        self,
        settings: Settings,
        fetcher: GroupConsumer,
        parking: ParkedTopic,
        clock: BrokerClock,
        replica: ContextReplica,
        answers: OutcomeBuilder,
        watermarks: Callable[[], Positions],
        ownership: AssignmentEpoch,
        committer: Committer,
    ) -> None:
        self._consumer = fetcher
        self._parking = parking
        self._clock = clock
        self._replica = replica
        self._outcomes = answers
        self._topics = settings.topics
        self._partitions = settings.partitions
        self._policy = settings.policy
        self._watermarks = watermarks
        self._epochs = ownership
        self._committer = committer
        self._batch_max = settings.batch_max
        self._release_max = settings.release_max

    def next_batch(self, wait_s: float) -> Batch | None:
        """The next prepared batch, or None where there is nothing to do just now.

        1. fetch, and take what is due  2. take the high watermarks of the upload topics  3. let the replica
        pass them  4. resolve each request against one state of the replica
        """
        refused = (
            self._committer.too_large
        )  # halved until the one request that does not fit is alone
        self._consumer.limit = max(1, refused // 2) if refused else self._batch_max
        fetched = self._consumer.poll(min(wait_s, self._parking.wait_s))  # 1
        if fetched is None:
            return None
        self._clock.observe(fetched.appended_at_ms)
        left = self._consumer.limit - len(fetched.messages) if refused else self._release_max
        self._parking.advance()
        released = self._parking.due(left)
        clock = self._parking.clock_record()
        if not (fetched.messages or released or clock) or not self._caught_up():  # 2, 3
            return None
        with self._replica.frozen() as positions:  # 4
            told = encode_positions(positions, self._topics, self._partitions)
            batch = BatchBuilder((POSITIONS_HEADER, told))
            for message in fetched.messages:
                self._prepare_fetched(message, batch)
            for one in released:
                self._prepare_released(one, batch)
        if clock is not None:
            batch.add_internal(clock)
        return self._finish(batch, fetched)

    def _finish(self, batch: "BatchBuilder", fetched: FetchedRecords) -> Batch | None:
        """Under real positions of every partition it touches: without offsets, the group fences nothing."""
        if not batch.records:
            return None
        held = {
            at: position
            for at, position in fetched.owned_positions.items()
            if at.partition in batch.parked_in and at not in fetched.end
        }
        return Batch(
            batch.records,
            batch.requests,
            {**held, **fetched.start},
            {**held, **fetched.end},
            fetched.group,
            fetched.epoch,
            batch.internal,
            self._parking.offsets(batch.parked_in),
            batch.only_request if batch.requests == 1 else None,
        )

    def _caught_up(self) -> bool:
        """Whether the replica passed what was acknowledged before the fetch; otherwise the batch is dropped."""
        try:
            behind = self._replica.wait_past(self._watermarks(), PATIENCE_S)
        except Unreachable as fault:
            log.warning("batch waits for the upload topics", extra={"reason": str(fault)})
        else:
            if not behind:
                return True
            named = ", ".join(f"{at.topic}/{at.partition}" for at in behind)
            log.warning("batch waits for uploads (an open transaction?)", extra={"behind": named})
        self._epochs.end()
        return False

    def _prepare_fetched(self, message: Message, batch: "BatchBuilder") -> None:
        """A fetched request's one record: its outcome, or its entry in the parked topic."""
        at = Coordinates(
            self._topics.requests.name, int(message.partition() or 0), int(message.offset() or 0)
        )
        try:
            answer = self._build_outcome(message.value(), at)
        except BadRecord as fault:
            letter = self._dead_letter(
                at,
                message.timestamp()[1],
                message.key(),
                message.value(),
                headers_of(message),
                fault,
            )
            batch.add_outcome(at, letter)
            return
        if isinstance(answer.resolution, Unresolved) and answer.resolution.may_wait:
            appended_at_ms = message.timestamp()[1]
            if self._clock.now_ms < self._policy.deadline_ms(appended_at_ms):
                batch.park(at, self._parking.entry(message, at, answer.resolution))
                return
        batch.add_outcome(at, self._outcome_record(at, message.key(), answer, batch.header))

    def _prepare_released(self, one: DueRequest, batch: "BatchBuilder") -> None:
        """A parked request's outcome and tombstone; nothing where it is not complete after all."""
        at, parked = one.waiting.request_at, one.parked
        try:
            answer = self._build_outcome(parked.request, at)
        except BadRecord as fault:
            outcome = self._dead_letter(
                at, parked.appended_at_ms, parked.request_key, parked.request, one.headers, fault
            )
        else:
            waits = isinstance(answer.resolution, Unresolved)
            if waits and self._clock.now_ms < one.waiting.deadline_at_ms:
                self._parking.keep_waiting([one.waiting])
                return
            outcome = self._outcome_record(at, parked.request_key, answer, batch.header)
        batch.add_outcome(at, outcome)
        batch.add_internal(self._parking.tombstone(at))

    def _build_outcome(self, request: bytes | None, at: Coordinates) -> BuiltOutcome:
        if at == self._committer.refused_at:
            raise Malformed(OUTCOME_REFUSED)
        return self._outcomes.build(request, at)

    def _outcome_record(
        self,
        at: Coordinates,
        key: bytes | None,
        answer: BuiltOutcome,
        header: tuple[str, bytes],
    ) -> Record:
        prepared = isinstance(answer.resolution, Prepared)
        topic = self._topics.batches if prepared else self._topics.unresolved
        return Record(topic.name, at.partition, key, answer.value, (header,))

    def _dead_letter(
        self,
        at: Coordinates,
        appended_at_ms: int,
        key: bytes | None,
        value: bytes | None,
        kept: Headers,
        fault: BadRecord,
    ) -> Record:
        told = dead_letter_headers(at, appended_at_ms, fault, kept)
        return Record(self._topics.requests_dlq.name, at.partition, key, value, told)
