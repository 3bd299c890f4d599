"""The writer of one upload partition: decides at the log's end, and appends only if no other writer took over since.

Requests that arrive while a transaction commits are decided together in the next one, at most one per scope, so
that every request is decided in a context whose offsets are known.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from processors.fold.catch_up import ReplicaProgress, require_reached
from processors.upload_log.fenced_producer import AppendedEvent, FencedProducer
from schemas.coordinates import Partition, Positions
from schemas.errors import (
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

PAUSE_S = 0.02  # upper bound of the first pause before a new takeover; doubled after each failure in a row
MAX_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class DecidedWrite:
    """The result of a write request: the decision, the context after it, and its events in the log."""

    decision: WriteDecision
    context: AssignmentContext | None
    appended: tuple[AppendedEvent, ...]


@dataclass(frozen=True, slots=True, eq=False)
class WriteRequest:
    """A write command that waits for the writer; `until` is a `time.monotonic()` deadline."""

    command: WriteCommand
    metadata: WriteMetadata
    until: float
    future: "Future[DecidedWrite]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class WritePlan:
    """The decision on a request, and the context in which it was decided."""

    request: WriteRequest
    context: AssignmentContext | None
    decision: WriteDecision

    def finish(self, appended: Iterable[AppendedEvent] = ()) -> None:
        """Set the request's result: its events are in the log."""
        context, events = self.context, tuple(appended)
        for event in events:
            context = apply(context, event.event, event.at, event.appended_at_ms)
        self.request.future.set_result(DecidedWrite(self.decision, context, events))


@dataclass(frozen=True, slots=True)
class UnsettledWrites:
    """The plans of a transaction that may have been committed; their events are after `starts` or not in the log."""

    plans: tuple[WritePlan, ...]
    starts: Positions


class CurrentContexts(ReplicaProgress, Protocol):
    """What the writer needs of a replica."""

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The context of one scope."""


class PartitionWriter:
    """Decides and appends for one partition number of the upload topics, on its own thread."""

    def __init__(
        self,
        producer: FencedProducer,
        replica: CurrentContexts,
        partitions: Sequence[Partition],
        watermarks: Callable[[Iterable[Partition]], Positions],
        new_id: Callable[[], str],
    ) -> None:
        self._producer = producer
        self._replica = replica
        self._partitions = partitions
        self._watermarks = watermarks
        self._new_id = new_id
        self._incoming = SimpleQueue[WriteRequest | None]()
        self._waiting = list[WriteRequest]()
        self._unsettled: UnsettledWrites | None = None
        self._last_fault: CJStreamError | None = None  # why the last round failed
        self._failures_in_a_row = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="admin-writer", daemon=True)

    @property
    def fenced(self) -> int:
        """How often another instance has taken over the partition."""
        return self._producer.fenced

    def start(self) -> None:
        """Start the thread; the producer is opened for the first request."""
        self._thread.start()

    def submit(self, request: WriteRequest) -> None:
        """Queue a request for the writer; from any thread."""
        self._incoming.put(request)

    def stop(self) -> None:
        """Stop after the current round; requests that still wait are refused."""
        self._stopping.set()
        self._incoming.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end; a call inside librdkafka may take longer."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._receive()
            self._refuse_expired()
            if self._waiting:
                self._run_round()
            elif self._producer.may_have_open_transaction:
                self._end_open_transaction()
        self._end_open_transaction()
        self._receive_all()
        for request in self._waiting:
            self._refuse(request, Unreachable("the API is stopping"))
        self._producer.close()

    def _receive(self) -> None:
        """Receive new requests; block if there is nothing else to do."""
        if not self._waiting and not self._producer.may_have_open_transaction:
            self._accept(self._incoming.get())
        self._receive_all()

    def _receive_all(self) -> None:
        while not self._incoming.empty():
            self._accept(self._incoming.get())

    def _accept(self, request: WriteRequest | None) -> None:
        if request is not None and request.future.set_running_or_notify_cancel():
            self._waiting.append(request)

    def _refuse_expired(self) -> None:
        now = time.monotonic()
        for request in self._waiting:
            if request.until <= now:
                self._refuse(
                    request,
                    self._last_fault or Unreachable("the writer did not reach the request in time"),
                )
        self._drop_finished()

    def _refuse(self, request: WriteRequest, fault: Exception) -> None:
        unsettled = self._unsettled.plans if self._unsettled else ()
        if any(plan.request is request for plan in unsettled):
            unknown = OutcomeUnknown(request.command.scope_key)
            unknown.__cause__, fault = fault, unknown
        request.future.set_exception(fault)

    def _drop_finished(self) -> None:
        self._waiting = [request for request in self._waiting if not request.future.done()]

    def _run_round(self) -> None:
        """Run one round; requests that it leaves waiting are decided again in the next one."""
        group = self._first_of_each_scope()
        try:
            self._decide_and_append(group, min(request.until for request in group))
            self._last_fault, self._failures_in_a_row = None, 0
        except Fenced as fault:
            self._back_off(WriterContended(str(fault)))
        except (WriterContended, Unreachable, ReplicaBehind) as fault:
            self._back_off(fault)
        except Exception as fault:  # noqa: BLE001 (each request must get the error)
            for request in group:
                if not request.future.done():
                    self._refuse(request, fault)
            self._producer.close()
        self._drop_finished()

    def _end_open_transaction(self) -> None:
        """End the transaction that a failed append may have left open: no reader can pass it before that."""
        if not self._producer.may_have_open_transaction:
            return
        try:
            self._producer.open(time.monotonic())
        except (WriterContended, Unreachable) as fault:
            self._back_off(fault)

    def _first_of_each_scope(self) -> list[WriteRequest]:
        """The longest waiting request of each scope: a transaction's offsets are only known after it."""
        first = dict[str, WriteRequest]()
        for request in self._waiting:
            first.setdefault(request.command.scope_key, request)
        return list(first.values())

    def _back_off(self, fault: CJStreamError) -> None:
        """Pause, so that the current owner of the partition can finish; at random, so that two do not alternate."""
        self._last_fault = fault
        pause_s = min(MAX_PAUSE_S, PAUSE_S * 2**self._failures_in_a_row)
        self._failures_in_a_row += 1
        self._stopping.wait(random.uniform(0, pause_s))

    def _decide_and_append(self, group: list[WriteRequest], until: float) -> None:
        """Decide and append for a group of requests, one per scope.

        1. own the partition  2. get its high watermarks  3. wait until the replica passes them
        4. settle writes whose outcome is unknown  5. decide  6. append and commit, which proves that
        nobody else has owned the partition since 1
        """
        if not self._producer.is_open:
            self._producer.open(until)  # 1
        ends = self._watermarks(self._partitions)  # 2
        require_reached(self._replica, ends, until)  # 3
        self._settle_unknown(ends)  # 4
        plans = [plan for request in group if (plan := self._plan(request))]  # 5
        if plans:
            self._append(plans, ends, until)  # 6

    def _settle_unknown(self, ends: Positions) -> None:
        if self._unsettled is None:
            return
        plans, starts = self._unsettled.plans, self._unsettled.starts
        event_ids = {event.event_id for plan in plans for event in plan.decision.events}
        found = self._producer.find(event_ids, starts, ends)
        self._unsettled = None
        if found:
            _finish_plans([plan for plan in plans if not plan.request.future.done()], found)

    def _plan(self, request: WriteRequest) -> WritePlan | None:
        """The plan to append for a request; None if the request is refused or changes nothing, and so is finished."""
        if request.future.done():
            return None
        context = self._replica.context(request.command.scope_key)
        try:
            decision = decide(context, request.command, request.metadata, self._new_id)
        except (CJStreamError, ValueError) as refusal:
            request.future.set_exception(refusal)
            return None
        plan = WritePlan(request, context, decision)
        if decision.events:
            return plan
        plan.finish()
        return None

    def _append(self, plans: list[WritePlan], ends: Positions, until: float) -> None:
        events = [event for plan in plans for event in plan.decision.events]
        try:
            appended = self._producer.append(events, until)
        except Fenced:
            self._unsettled = UnsettledWrites(tuple(plans), ends)
            raise
        _finish_plans(plans, appended)


def _finish_plans(plans: list[WritePlan], appended: Iterable[AppendedEvent]) -> None:
    by_id = {event.event.event_id: event for event in appended}
    for plan in plans:
        plan.finish(by_id[event.event_id] for event in plan.decision.events)
