"""The writer of one upload partition: decides at the log's end, and appends what it decided while that holds.

Requests that come while a transaction commits are decided together in the next one, at most one of each scope, so
that every request is decided in a context whose offsets are known.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue

from processors.upload_log.fenced_producer import AppendedEvent, FencedProducer
from schemas.coordinates import Partition, Positions
from schemas.errors import (
    Aborted,
    CJStreamError,
    Fenced,
    OutcomeUnknown,
    ReplicaBehind,
    Unreachable,
    WriterContended,
)
from schemas.events import AssignmentContext
from tables.commands import WriteCommand, WriteDecision, WriteMetadata, decide
from tables.context import apply
from tables.replica import ContextReplica

PAUSE_S = 0.02  # before the partition is taken back, at most, and twice that each time in a row
LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class DecidedWrite:
    """What a request came to: the context after it, and the events that are in the log for it."""

    decision: WriteDecision
    context: AssignmentContext | None
    placed: tuple[AppendedEvent, ...]


@dataclass(frozen=True, slots=True, eq=False)
class WriteRequest:
    """A change that waits for the writer; until is monotonic."""

    change: WriteCommand
    writing: WriteMetadata
    until: float
    answer: "Future[DecidedWrite]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class WritePlan:
    """A request as it was decided, in the context that it was decided in."""

    request: WriteRequest
    context: AssignmentContext | None
    decision: WriteDecision

    def done(self, placed: Iterable[AppendedEvent] = ()) -> None:
        """Answer the request: its events are in the log."""
        context, own = self.context, tuple(placed)
        for one in own:
            context = apply(context, one.event, one.at, one.appended_at_ms)
        self.request.answer.set_result(DecidedWrite(self.decision, context, own))


@dataclass(frozen=True, slots=True)
class UnsettledWrites:
    """A transaction of which it is not known whether it was committed; its events stand after starts or nowhere."""

    plans: tuple[WritePlan, ...]
    starts: Positions


class PartitionWriter:
    """Decides and appends for one partition number of the upload topics, on a thread of its own."""

    def __init__(
        self,
        appender: FencedProducer,
        replica: ContextReplica,
        partitions: tuple[Partition, ...],
        watermarks: Callable[[Iterable[Partition]], Positions],
        new_id: Callable[[], str],
    ) -> None:
        self._appender = appender
        self._replica = replica
        self._partitions = partitions
        self._watermarks = watermarks
        self._new_id = new_id
        self._asked = SimpleQueue[WriteRequest | None]()
        self._waiting = list[WriteRequest]()
        self._unsettled: UnsettledWrites | None = None
        self._fault: CJStreamError | None = None  # why the last round came to nothing
        self._in_a_row = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="admin-writer", daemon=True)

    @property
    def fenced(self) -> int:
        """How often another instance has taken the partition over."""
        return self._appender.fenced

    def start(self) -> None:
        """Start the thread; the producer is opened for the first request."""
        self._thread.start()

    def submit(self, request: WriteRequest) -> None:
        """Let the writer decide the request; from any thread."""
        self._asked.put(request)

    def stop(self) -> None:
        """Refuse what waits, after what is under way."""
        self._stopping.set()
        self._asked.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end; one inside librdkafka may take longer."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._gather()
            self._refuse_the_late()
            if self._waiting:
                self._advance()
            elif self._appender.has_left_open:
                self._end_what_is_open()
        self._end_what_is_open()
        self._gather_the_rest()
        for request in self._waiting:
            self._refuse(request, Unreachable("the API stops"))
        self._appender.close()

    def _gather(self) -> None:
        """Take in what was asked; wait where there is nothing to do."""
        if not self._waiting and not self._appender.has_left_open:
            self._take_in(self._asked.get())
        self._gather_the_rest()

    def _gather_the_rest(self) -> None:
        while not self._asked.empty():
            self._take_in(self._asked.get())

    def _take_in(self, request: WriteRequest | None) -> None:
        if request is not None and request.answer.set_running_or_notify_cancel():
            self._waiting.append(request)

    def _refuse_the_late(self) -> None:
        now = time.monotonic()
        for request in self._waiting:
            if request.until <= now:
                self._refuse(request, self._fault or Unreachable("the writer did not get to it"))
        self._forget_the_answered()

    def _refuse(self, request: WriteRequest, fault: Exception) -> None:
        unsettled = self._unsettled.plans if self._unsettled else ()
        if any(plan.request is request for plan in unsettled):
            unknown = OutcomeUnknown(request.change.scope_key)
            unknown.__cause__, fault = fault, unknown
        request.answer.set_exception(fault)

    def _forget_the_answered(self) -> None:
        self._waiting = [one for one in self._waiting if not one.answer.done()]

    def _advance(self) -> None:
        """One round; what it leaves waiting is decided anew in the next."""
        group = self._one_of_each_scope()
        try:
            self._round(group, min(request.until for request in group))
            self._fault, self._in_a_row = None, 0
        except (WriterContended, Fenced) as fault:
            self._step_back(WriterContended(str(fault)))
        except (Unreachable, Aborted) as fault:
            self._step_back(Unreachable(str(fault)))
        except ReplicaBehind as fault:
            self._step_back(fault)
        except Exception as fault:  # noqa: BLE001 (each request must come to know of it)
            for request in group:
                if not request.answer.done():
                    self._refuse(request, fault)
            self._appender.close()
        self._forget_the_answered()

    def _end_what_is_open(self) -> None:
        """End the transaction that a failed append may have left: nobody can read past it before that."""
        if not self._appender.has_left_open:
            return
        try:
            self._appender.open(time.monotonic())
        except (WriterContended, Unreachable) as fault:
            self._step_back(fault)

    def _one_of_each_scope(self) -> list[WriteRequest]:
        """The request of each scope that has waited longest: offsets of a transaction are known after it."""
        first = dict[str, WriteRequest]()
        for request in self._waiting:
            first.setdefault(request.change.scope_key, request)
        return list(first.values())

    def _step_back(self, fault: CJStreamError) -> None:
        """Let the instance that has the partition come to an end; at random, so that two do not keep step."""
        self._fault = fault
        pause_s = min(LONGEST_PAUSE_S, PAUSE_S * 2**self._in_a_row)
        self._in_a_row += 1
        self._stopping.wait(random.uniform(0, pause_s))

    def _round(self, group: list[WriteRequest], until: float) -> None:
        """Decide and append for a group of requests, one of each scope.

        1. have the partition  2. take its high watermarks  3. let the replica pass them  4. settle what is unknown
        5. decide  6. append and commit: proof that nobody has had the partition since 1
        """
        if not self._appender.is_open:
            self._appender.open(until)  # 1
        ends = self._watermarks(self._partitions)  # 2
        behind = self._replica.wait_past(ends, max(0.0, until - time.monotonic()))  # 3
        if behind:
            raise ReplicaBehind(f"the replica is behind at {len(behind)} upload partitions")
        self._settle(ends)  # 4
        plans = [plan for request in group if (plan := self._decided(request))]  # 5
        if plans:
            self._append(plans, ends, until)  # 6

    def _settle(self, ends: Positions) -> None:
        if self._unsettled is None:
            return
        plans, starts = self._unsettled.plans, self._unsettled.starts
        wanted = {event.event_id for plan in plans for event in plan.decision.events}
        found = self._appender.find(wanted, starts, ends)
        self._unsettled = None
        if found:
            _answer([plan for plan in plans if not plan.request.answer.done()], found)

    def _decided(self, request: WriteRequest) -> WritePlan | None:
        """What is to be appended for a request; one that is refused or changes nothing is answered."""
        if request.answer.done():
            return None
        context = self._replica.context(request.change.scope_key)
        try:
            decision = decide(context, request.change, request.writing, self._new_id)
        except (CJStreamError, ValueError) as refusal:
            request.answer.set_exception(refusal)
            return None
        plan = WritePlan(request, context, decision)
        if decision.events:
            return plan
        plan.done()
        return None

    def _append(self, plans: list[WritePlan], ends: Positions, until: float) -> None:
        events = [event for plan in plans for event in plan.decision.events]
        try:
            placed = self._appender.append(events, until)
        except Fenced:
            self._unsettled = UnsettledWrites(tuple(plans), ends)
            raise
        _answer(plans, placed)


def _answer(plans: list[WritePlan], placed: Iterable[AppendedEvent]) -> None:
    by_id = {one.event.event_id: one for one in placed}
    for plan in plans:
        plan.done(by_id[event.event_id] for event in plan.decision.events)
