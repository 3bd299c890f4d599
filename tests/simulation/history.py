"""A history: steps drawn by chance, taken one by one on a cluster in memory."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError

from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.events import UploadEvent, role_of, scope_key_of
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
SLOTS = ("one", "two", "")  # the third worker is another one whenever it is started
OF_SLOT = [SETTINGS.model_copy(update={"slot": slot}) for slot in SLOTS]
CODEC = Codec()
SCOPES = ("a1", "a2", "a3")
ROUNDS = 80  # in which everything must be done when faults have stopped
ERRORS = (
    (refused(KafkaError._TIMED_OUT, retriable=True), False),
    (refused(KafkaError._TIMED_OUT, retriable=True), True),
    (refused(KafkaError._TIMED_OUT, abort=True), False),
    (refused(KafkaError._FENCED, fatal=True), False),
    (refused(KafkaError._STATE), False),
    (refused(KafkaError._STATE), True),
)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as the admin side knows it; acknowledged says when, by the cluster's order."""

    event: UploadEvent
    stored: Stored
    acknowledged: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as its producer knows it."""

    stored: Stored
    is_valid: bool


class History:
    """One cluster, its workers, and what was sent to them."""

    def __init__(self, seed: int = 0) -> None:
        cluster = Cluster(SETTINGS.transaction_timeout_s)
        requests = [Partition(TOPICS.requests.name, number) for number in range(PARTITIONS)]
        self.world = World(cluster, Group(requests, SETTINGS.session_timeout_s), seed)
        self.world.on_advance = self._stay
        self.cluster = cluster
        self.uploads: list[Upload] = []
        self.requests: list[Request] = []
        self.faults: list[Exception] = []
        self._open: tuple[str, Transaction] | None = None  # the admin's
        self._names = 0
        self._stores = [MemoryStore() for _ in SLOTS]
        self._workers: list[Worker | None] = [None for _ in SLOTS]
        self._others: list[Worker] = []  # frozen, while another runs in their slot

    def _stay(self) -> None:
        for worker in self.all_workers:
            worker.stay()

    @property
    def all_workers(self) -> list[Worker]:
        return [*filter(None, self._workers), *self._others]

    def process(self, who: int) -> Process | None:
        """The process in a slot."""
        worker = self._workers[who]
        return worker.process if worker else None

    def take(self, step: Step) -> None:
        """Take one step; one that makes no sense here does nothing."""
        self.world.chance = random.Random(step.seed)
        self.world.tell(f"--- {step}")
        getattr(self, f"_{step.what}")(step.who % len(SLOTS), step.number)
        for worker in self.all_workers:
            if self.world.likely(0.4):
                worker.beat()
        self._bury()

    def _bury(self) -> None:
        """Workers that ended; their faults are told once."""
        for worker in [one for one in self.all_workers if not one.is_alive]:
            self.faults += worker.faults
            self._workers = [None if one is worker else one for one in self._workers]
            self._others = [one for one in self._others if one is not worker]

    # --- what is sent

    def _upload(self, scope: int, number: int) -> None:
        self._append_upload(scope, number, None)

    def _open_upload(self, scope: int, number: int) -> None:
        if self._open is None:
            name = f"admin-{self._name()}"
            epoch = self.cluster.init(name)
            self._open = name, self.cluster.transaction_of(name, epoch)
        if self._open[1].committed is None:
            self._append_upload(scope, number, self._open[1])

    def _append_upload(self, scope: int, number: int, transaction: Transaction | None) -> None:
        event = upload_of(scope, number, f"u-{self._name()}")
        topic = builders.TOPIC_OF[role_of(event)]
        key = scope_key_of(event).encode()
        at = Partition(topic, partition_for(key, PARTITIONS))
        stored = self.cluster.append(at, key, CODEC.encode(event), None, transaction)
        acknowledged = None if transaction else self.cluster.next_order()
        self.uploads.append(Upload(event, stored, acknowledged))

    def _close_upload(self, _who: int, number: int) -> None:
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
                replace(one, acknowledged=acknowledged)
                if one.stored.transaction is transaction
                else one
                for one in self.uploads
            ]
        if number % 3 and not self.world.is_calm:
            self.cluster.write_marker(transaction, transaction.targets[0])
        else:
            self.cluster.write_markers(transaction)

    def _request(self, scope: int, number: int) -> None:
        self._append_request(scope, number, None)

    def _request_in_transaction(self, scope: int, number: int) -> None:
        name = f"producer-{self._name()}"
        epoch = self.cluster.init(name)
        transaction = self.cluster.transaction_of(name, epoch)
        sent = self._append_request(scope, number, transaction)
        self.cluster.end(name, epoch, commit=number % 2 > 0)
        self.cluster.write_markers(transaction)
        if not transaction.committed:
            self.requests.remove(sent)

    def _append_request(self, scope: int, number: int, transaction: Transaction | None) -> Request:
        value = request_of(scope, number, f"q-{self._name()}")
        at = Partition(TOPICS.requests.name, number // 7 % PARTITIONS)
        key = f"batch-{number % 5}".encode() if number % 6 else None
        headers: Headers | None = [("traceparent", b"00-1")] if number % 2 else None
        stored = self.cluster.append(at, key, value, headers, transaction)
        sent = Request(stored, is_valid=number % 7 != 6)
        self.requests.append(sent)
        return sent

    def _name(self) -> int:
        self._names += 1
        return self._names

    # --- what befalls the workers

    def _start(self, who: int, number: int) -> None:
        if self._workers[who] is not None:
            return
        if number % 3 == 0 or not SLOTS[who]:
            self._stores[who] = MemoryStore()
        name = f"{SLOTS[who] or 'none'}-{self._name()}"
        self._workers[who] = Worker(self.world, OF_SLOT[who], CODEC, self._stores[who], name)

    def _fetch(self, who: int, number: int) -> None:
        if worker := self._workers[who]:
            worker.run(worker.fetching, number)

    def _commit(self, who: int, number: int) -> None:
        if worker := self._workers[who]:
            worker.run(worker.committing, number)

    def _work(self, who: int, number: int) -> None:
        """Some whole rounds."""
        for _ in range(1 + number % 3):
            self._beat(who, 0)
            self._fetch(who, 0)
            self._commit(who, 0)

    def _crash_fetch(self, who: int, number: int) -> None:
        if worker := self._workers[who]:
            worker.run(worker.fetching, number, kill=True)

    def _crash_commit(self, who: int, number: int) -> None:
        if worker := self._workers[who]:
            worker.run(worker.committing, number, kill=True)

    def _kill(self, who: int, _number: int) -> None:
        if worker := self._workers[who]:
            worker.kill()

    def _leave(self, who: int, _number: int) -> None:
        if worker := self._workers[who]:
            worker.leave()

    def _freeze(self, who: int, _number: int) -> None:
        if worker := self._workers[who]:
            worker.process.is_frozen = True

    def _thaw(self, who: int, _number: int) -> None:
        if worker := self._workers[who]:
            worker.process.is_frozen = False

    def _replace(self, who: int, number: int) -> None:
        """A worker is frozen and another takes its slot."""
        if worker := self._workers[who]:
            worker.process.is_frozen = True
            self._others.append(worker)
            self._workers[who] = None
            self._stores[who] = MemoryStore()
            self._start(who, number)

    def _thaw_others(self, _who: int, number: int) -> None:
        for worker in self._others:
            worker.process.is_frozen = False
            worker.run(worker.committing, number % 9)
            worker.run(worker.fetching)

    def _beat(self, who: int, _number: int) -> None:
        if worker := self._workers[who]:
            worker.beat()

    def _error(self, who: int, number: int) -> None:
        if worker := self._workers[who]:
            worker.process.errors.append(ERRORS[number % len(ERRORS)])

    def _tick(self, _who: int, number: int) -> None:
        self.world.advance(
            (0.1, 1, 5, 11, PATIENCE_S / 2 if number % 4 else PATIENCE_S)[number % 5]
        )

    def _feed(self, who: int, number: int) -> None:
        if worker := self._workers[who]:
            worker.replica.feed(1 + number % 3)

    def _marker(self, _who: int, number: int) -> None:
        if waiting := self.cluster.undelivered:
            self.cluster.write_marker(*waiting[number % len(waiting)])

    def _compact(self, _who: int, number: int) -> None:
        self.cluster.log(Partition(TOPICS.parked.name, number % PARTITIONS)).compact()

    # --- the end

    def settle(self, seconds: float) -> None:
        """No more faults: every worker runs, for so many seconds and until nothing happens any more."""
        self.world.is_calm = True
        self._close_upload(0, 1)
        self._thaw_others(0, 0)
        for who in range(len(SLOTS)):
            self._thaw(who, 0)
        until, quiet = self.cluster.now_s + seconds, 0
        leap_s = 1.0  # what was appended last is read before time leaps
        for _ in range(ROUNDS):
            before, left_s = self.progress, until - self.cluster.now_s
            self._round(leap_s)
            leap_s = max(1.0, left_s / 3) if self.progress == before else 1.0
            is_quiet = left_s <= 0 and self.is_done and self.progress == before
            quiet = quiet + 1 if is_quiet else 0
            if quiet > 1:
                return

    def _round(self, seconds: float) -> None:
        self._start(0, 1)
        for transaction, at in self.cluster.undelivered:
            self.cluster.write_marker(transaction, at)
        for worker in self.all_workers:
            worker.process.errors.clear()
            worker.beat()
            worker.replica.feed(1000)
            for _ in range(2):
                worker.run(worker.committing)
                worker.run(worker.fetching)
        self._bury()
        self.world.advance(seconds)

    @property
    def progress(self) -> int:
        """Grows with whatever is appended."""
        return sum(log.high_watermark for log in self.cluster.logs.values())

    @property
    def is_done(self) -> bool:
        """Whether every request was carried away from its topic."""
        ends = {
            at: log.high_watermark
            for at, log in self.cluster.logs.items()
            if at.topic == TOPICS.requests.name
        }
        committed = self.cluster.committed
        return all(self._records_from(at, committed.get(at, (0, 0))[0]) == 0 for at in ends)

    def _records_from(self, at: Partition, offset: int) -> int:
        log = self.cluster.log(at)
        return sum(log.read(one) is not None for one in range(offset, log.high_watermark))

    def end(self) -> None:
        """Nothing of it goes on."""
        for worker in self.all_workers:
            worker.kill()
        self._bury()


def upload_of(scope: int, number: int, event_id: str) -> UploadEvent:
    """An upload or, one time in five, a deletion; of a course one time in six."""
    version = number % 90 + 1
    if number % 6 == 5:
        return builders.instructions_uploaded(
            f"course {event_id}",
            version=version,
            assignment_id=None,
            course_id="ENG5",
            event_id=event_id,
        )
    said: dict[str, Any] = {
        "assignment_id": SCOPES[scope % 3],
        "event_id": event_id,
        "version": version,
    }
    if number % 5 == 4:
        deleted = (builders.instructions_deleted, builders.prompt_deleted)[number // 6 % 2]
        return deleted(**said)
    uploaded = (
        builders.instructions_uploaded,
        builders.prompt_uploaded,
        builders.prompt_uploaded,
        builders.rubric_uploaded,
    )[number // 6 % 4]
    return uploaded(f"text of {event_id}", **said)


def request_of(scope: int, number: int, event_id: str) -> bytes:
    """A request: of an assignment as a rule, else of a course, a guest's, or damaged."""
    kind = number % 7
    by_kind: dict[int, dict[str, str | None]] = {
        3: {"student_prompt_ref": "own-prompt", "assignment_id": SCOPES[scope % 3]},
        4: {"assignment_id": None},
        5: {"assignment_id": None, "course_code": "MATH1"},
    }
    changes = by_kind.get(kind, {"assignment_id": SCOPES[scope % 3]})
    whole = CODEC.encode(builders.requested(event_id=event_id, **changes))
    return whole[: len(whole) // 2] if kind == 6 else whole


def played(steps: Sequence[Step], *, tells: bool = False) -> History:
    """A history after these steps."""
    history = History()
    history.world.tells = tells
    for step in steps:
        history.take(step)
    return history
