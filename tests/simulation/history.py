"""A history: random steps that run one after the other on a cluster in memory."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError

from processors.kafka.records import coordinates_of
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.events import ParkedRequest, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from tables.store import MemoryStore
from tests.simulation.clients import Process
from tests.simulation.group import Group
from tests.simulation.log import Cluster, Headers, Stored, Transaction, refused
from tests.simulation.steps import Step
from tests.simulation.worker import Worker
from tests.simulation.world import World
from tests.support import builders

PARTITIONS = 2
PATIENCE_S = 100
SETTINGS = Settings(
    partitions=PARTITIONS,
    patience_s=PATIENCE_S,
    session_timeout_s=10,
    transaction_timeout_s=10,
    batch_max=3,
    release_max=2,
)
TOPICS = SETTINGS.topics
SLOTS = ("one", "two", "")  # the third worker has no slot: each start is a new member
SLOT_SETTINGS = [SETTINGS.model_copy(update={"slot": slot}) for slot in SLOTS]
CODEC = Codec()
SCOPES = ("a1", "a2", "a3")
MAX_ROUNDS = 80  # to finish all work after faults have stopped
QUIET_ROUNDS = (
    3  # a release after a takeover takes some rounds without an append: outcomes are read first
)
ERRORS = (  # of producer calls, and whether they are raised after the effect of the call
    (refused(KafkaError._TIMED_OUT, retriable=True), False),
    (refused(KafkaError._TIMED_OUT, retriable=True), True),
    (refused(KafkaError._TIMED_OUT, abort=True), False),
    (refused(KafkaError._FENCED, fatal=True), False),
    (refused(KafkaError._STATE), False),
    (refused(KafkaError._STATE), True),
)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as its sender knows it; acknowledged is the cluster's order number of its acknowledgement."""

    event: UploadEvent
    stored: Stored
    acknowledged: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as its producer knows it."""

    stored: Stored
    is_valid: bool


class History:
    """One cluster, its workers, and the uploads and requests sent."""

    def __init__(self, seed: int = 0) -> None:
        cluster = Cluster(SETTINGS.transaction_timeout_s)
        requests = [Partition(TOPICS.requests.name, number) for number in range(PARTITIONS)]
        self.world = World(cluster, Group(requests, SETTINGS.session_timeout_s), seed)
        self.world.on_advance = self._keep_sessions
        self.cluster = cluster
        self.uploads: list[Upload] = []
        self.requests: list[Request] = []
        self.faults: list[Exception] = []
        self.forged: set[bytes] = set()  # keys in the parked topic that another producer used
        self._open: tuple[str, Transaction] | None = None  # transaction of uploads
        self._last_number = 0
        self._stores = [MemoryStore() for _ in SLOTS]
        self._workers: list[Worker | None] = [None for _ in SLOTS]
        self._replaced: list[Worker] = []  # frozen, while another worker runs in their slot

    def _keep_sessions(self) -> None:
        for worker in self.all_workers:
            worker.keep_session()

    @property
    def all_workers(self) -> list[Worker]:
        return [*filter(None, self._workers), *self._replaced]

    def process(self, index: int) -> Process | None:
        """The process of a worker; None if it is not running."""
        worker = self._workers[index]
        return worker.process if worker else None

    def run(self, step: Step) -> None:
        """Run one step; a step that is not possible in this state does nothing."""
        self.world.random = random.Random(step.seed)
        self.world.record(f"--- {step}")
        getattr(self, f"_{step.kind}")(step.target % len(SLOTS), step.number)
        for worker in self.all_workers:
            if self.world.happens(0.4):
                worker.heartbeat()
        self._remove_ended()

    def _remove_ended(self) -> None:
        """Remove the workers that ended, and keep their faults."""
        for worker in [ended for ended in self.all_workers if not ended.is_alive]:
            self.faults += worker.faults
            self._workers = [None if other is worker else other for other in self._workers]
            self._replaced = [other for other in self._replaced if other is not worker]

    # --- uploads and requests

    def _upload(self, scope: int, number: int) -> None:
        self._append_upload(scope, number, None)

    def _open_upload(self, scope: int, number: int) -> None:
        if self._open is None:
            name = f"admin-{self._next_number()}"
            epoch = self.cluster.init(name)
            self._open = name, self.cluster.transaction_of(name, epoch)
        if self._open[1].committed is None:
            self._append_upload(scope, number, self._open[1])

    def _append_upload(self, scope: int, number: int, transaction: Transaction | None) -> None:
        event = upload_of(scope, number, f"u-{self._next_number()}")
        topic = builders.TOPIC_OF[role_of(event)]
        key = scope_key_of(event).encode()
        partition = Partition(topic, partition_for(key, PARTITIONS))
        stored = self.cluster.append(partition, key, CODEC.encode(event), None, transaction)
        acknowledged = None if transaction else self.cluster.next_order()
        self.uploads.append(Upload(event, stored, acknowledged))

    def _close_upload(self, _target: int, number: int) -> None:
        if self._open is None:
            return
        name, transaction = self._open
        self._open = None
        if transaction.committed is not None:
            return
        self.cluster.end(name, self.cluster.identities[name].epoch, commit=number % 4 > 0)
        if transaction.committed:
            acknowledged = self.cluster.next_order()
            self.uploads = [
                replace(upload, acknowledged=acknowledged)
                if upload.stored.transaction is transaction
                else upload
                for upload in self.uploads
            ]
        if number % 3 and not self.world.is_calm:
            self.cluster.write_marker(transaction, transaction.targets[0])
        else:
            self.cluster.write_markers(transaction)

    def _request(self, scope: int, number: int) -> None:
        self._append_request(scope, number, None)

    def _request_in_transaction(self, scope: int, number: int) -> None:
        name = f"producer-{self._next_number()}"
        epoch = self.cluster.init(name)
        transaction = self.cluster.transaction_of(name, epoch)
        sent = self._append_request(scope, number, transaction)
        self.cluster.end(name, epoch, commit=number % 2 > 0)
        self.cluster.write_markers(transaction)
        if not transaction.committed:
            self.requests.remove(sent)

    def _append_request(self, scope: int, number: int, transaction: Transaction | None) -> Request:
        value = request_of(scope, number, f"q-{self._next_number()}")
        partition = Partition(TOPICS.requests.name, number // 7 % PARTITIONS)
        key = f"batch-{number % 5}".encode() if number % 6 else None
        headers: Headers | None = [("traceparent", b"00-1")] if number % 2 else None
        stored = self.cluster.append(partition, key, value, headers, transaction)
        sent = Request(stored, is_valid=number % 7 != 6)
        self.requests.append(sent)
        return sent

    def _forge(self, kind: int, number: int) -> None:
        """Another producer writes an entry to the parked topic: garbage, or of any request, or with other bytes."""
        if not self.requests:
            return
        request, other = (
            self.requests[n % len(self.requests)].stored.message for n in (number, number // 3)
        )
        never_made = 1000 if number % 5 == 4 else 0
        at = coordinates_of(request)
        at = replace(at, offset=at.offset + never_made)
        copied = (request, other)[kind % 2]
        appended_at_ms = request.timestamp()[1]
        parked = ParkedRequest(
            request_at=at,
            scope_key="assignment:a1",
            missing=(),
            appended_at_ms=appended_at_ms,
            deadline_at_ms=2**60 if number % 2 else SETTINGS.policy.deadline_ms(appended_at_ms),
            request_key=copied.key(),
            request=copied.value() or b"",
        )
        key, value = str(at).encode(), b"garbage" if kind == 2 else CODEC.encode(parked)
        self.forged.add(key)
        self.cluster.append(Partition(TOPICS.parked.name, at.partition), key, value)

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    # --- events and faults of the workers

    def _start(self, index: int, number: int) -> None:
        if self._workers[index] is not None:
            return
        if number % 3 == 0 or not SLOTS[index]:
            self._stores[index] = MemoryStore()
        name = f"{SLOTS[index] or 'none'}-{self._next_number()}"
        self._workers[index] = Worker(
            self.world, SLOT_SETTINGS[index], CODEC, self._stores[index], name
        )

    def _fetch(self, index: int, number: int) -> None:
        if worker := self._workers[index]:
            worker.run(worker.fetching, number)

    def _commit(self, index: int, number: int) -> None:
        if worker := self._workers[index]:
            worker.run(worker.committing, number)

    def _work(self, index: int, number: int) -> None:
        """Run up to three whole rounds."""
        for _ in range(1 + number % 3):
            self._heartbeat(index, 0)
            self._fetch(index, 0)
            self._commit(index, 0)

    def _crash_fetch(self, index: int, number: int) -> None:
        if worker := self._workers[index]:
            worker.run(worker.fetching, number, kill=True)

    def _crash_commit(self, index: int, number: int) -> None:
        if worker := self._workers[index]:
            worker.run(worker.committing, number, kill=True)

    def _kill(self, index: int, _number: int) -> None:
        if worker := self._workers[index]:
            worker.kill()

    def _leave(self, index: int, _number: int) -> None:
        if worker := self._workers[index]:
            worker.leave()

    def _freeze(self, index: int, _number: int) -> None:
        if worker := self._workers[index]:
            worker.process.is_frozen = True

    def _thaw(self, index: int, _number: int) -> None:
        if worker := self._workers[index]:
            worker.process.is_frozen = False

    def _replace(self, index: int, number: int) -> None:
        """Freeze a worker and start another in its slot."""
        if worker := self._workers[index]:
            worker.process.is_frozen = True
            self._replaced.append(worker)
            self._workers[index] = None
            self._stores[index] = MemoryStore()
            self._start(index, number)

    def _thaw_replaced(self, _index: int, number: int) -> None:
        for worker in self._replaced:
            worker.process.is_frozen = False
            worker.run(worker.committing, number % 9)
            worker.run(worker.fetching)

    def _heartbeat(self, index: int, _number: int) -> None:
        if worker := self._workers[index]:
            worker.heartbeat()

    def _error(self, index: int, number: int) -> None:
        if worker := self._workers[index]:
            worker.process.errors.append(ERRORS[number % len(ERRORS)])

    def _tick(self, _index: int, number: int) -> None:
        self.world.advance(
            (0.1, 1, 5, 11, PATIENCE_S / 2 if number % 4 else PATIENCE_S)[number % 5]
        )

    def _feed(self, index: int, number: int) -> None:
        if worker := self._workers[index]:
            worker.replica.feed(1 + number % 3)

    def _marker(self, _index: int, number: int) -> None:
        if markers := self.cluster.unwritten_markers:
            self.cluster.write_marker(*markers[number % len(markers)])

    def _compact(self, _index: int, number: int) -> None:
        self.cluster.log(Partition(TOPICS.parked.name, number % PARTITIONS)).compact()

    # --- the end

    def settle(self, seconds: float) -> None:
        """Run every worker without faults for `seconds`, and until nothing more is appended."""
        self.world.is_calm = True
        self._close_upload(0, 1)
        self._thaw_replaced(0, 0)
        for index in range(len(SLOTS)):
            self._thaw(index, 0)
        until, quiet_rounds = self.cluster.now_s + seconds, 0
        step_s = 1.0  # the newest records are read before a longer step of time
        for _ in range(MAX_ROUNDS):
            before, left_s = self.progress, until - self.cluster.now_s
            self._round(step_s)
            step_s = max(1.0, left_s / 3) if self.progress == before else 1.0
            is_quiet = left_s <= 0 and self.is_done and self.progress == before
            quiet_rounds = quiet_rounds + 1 if is_quiet else 0
            if quiet_rounds > QUIET_ROUNDS:
                return

    def _round(self, seconds: float) -> None:
        self._start(0, 1)
        for transaction, partition in self.cluster.unwritten_markers:
            self.cluster.write_marker(transaction, partition)
        for worker in self.all_workers:
            worker.process.errors.clear()
            worker.heartbeat()
            worker.replica.feed(1000)
            for _ in range(2):
                worker.run(worker.committing)
                worker.run(worker.fetching)
        self._remove_ended()
        self.world.advance(seconds)

    @property
    def progress(self) -> int:
        """A number that grows with every append."""
        return sum(log.high_watermark for log in self.cluster.logs.values())

    @property
    def is_done(self) -> bool:
        """Whether the committed offsets have passed every request."""
        partitions = [tp for tp in self.cluster.logs if tp.topic == TOPICS.requests.name]
        committed = self.cluster.committed
        return all(self._records_from(tp, committed.get(tp, (0, 0))[0]) == 0 for tp in partitions)

    def _records_from(self, partition: Partition, start: int) -> int:
        log = self.cluster.log(partition)
        return sum(log.read(offset) is not None for offset in range(start, log.high_watermark))

    def end(self) -> None:
        """End every worker."""
        for worker in self.all_workers:
            worker.kill()
        self._remove_ended()


def upload_of(scope: int, number: int, event_id: str) -> UploadEvent:
    """An upload of a course (one in six) or an assignment; one in five of the latter is a deletion."""
    version = number % 90 + 1
    if number % 6 == 5:
        return builders.instructions_uploaded(
            f"course {event_id}",
            version=version,
            assignment_id=None,
            course_id="ENG5",
            event_id=event_id,
        )
    fields: dict[str, Any] = {
        "assignment_id": SCOPES[scope % 3],
        "event_id": event_id,
        "version": version,
    }
    if number % 5 == 4:
        deleted = (builders.instructions_deleted, builders.prompt_deleted)[number // 6 % 2]
        return deleted(**fields)
    uploaded = (
        builders.instructions_uploaded,
        builders.prompt_uploaded,
        builders.prompt_uploaded,
        builders.rubric_uploaded,
    )[number // 6 % 4]
    return uploaded(f"text of {event_id}", **fields)


def request_of(scope: int, number: int, event_id: str) -> bytes:
    """A request: of an assignment, a course or a guest, or damaged."""
    kind = number % 7
    by_kind: dict[int, dict[str, str | None]] = {
        3: {"student_prompt_ref": "own-prompt", "assignment_id": SCOPES[scope % 3]},
        4: {"assignment_id": None},
        5: {"assignment_id": None, "course_code": "MATH1"},
    }
    changes = by_kind.get(kind, {"assignment_id": SCOPES[scope % 3]})
    encoded = CODEC.encode(builders.requested(event_id=event_id, **changes))
    return encoded[: len(encoded) // 2] if kind == 6 else encoded


def history_after(steps: Sequence[Step], *, records_lines: bool = False) -> History:
    """A history in which these steps have run."""
    history = History()
    history.world.records_lines = records_lines
    for step in steps:
        history.run(step)
    return history
