"""Calls that were committed and whose outcomes are not; the cycle thread alone uses them."""

from collections.abc import Collection
from contextlib import suppress
from queue import Empty, SimpleQueue

from processors.judging.calls import EndedCall, record_of
from processors.judging.cycle.draft import Draft
from processors.judging.cycle.endpoint_slots import EndpointSlots, endpoint_of_call
from processors.judging.judges.judge import CallId
from processors.judging.observer import CommittedCall
from processors.judging.open_runs import OpenRuns


class CallsInFlight:
    """alive: the calls, also for those who ask whether an outcome may still come."""

    def __init__(self, runs: OpenRuns, slots: EndpointSlots, alive: set[CallId]) -> None:
        self._runs = runs
        self._slots = slots
        self._alive = alive
        self._ended: dict[CallId, EndedCall] = {}  # not committed yet
        self.ended: SimpleQueue[EndedCall] = SimpleQueue()  # any thread may put

    def __len__(self) -> int:
        return len(self._alive)

    def take_ended(self) -> None:
        """Take note of the calls that have ended."""
        while not self.ended.empty():
            self._note_ended(self.ended.get())

    def wait_for_ended(self, seconds: float) -> None:
        """Take note of the next call that ends."""
        with suppress(Empty):
            self._note_ended(self.ended.get(timeout=seconds))

    def _note_ended(self, ended: EndedCall) -> None:
        """Free the slot of a call, and keep its outcome until it is committed."""
        call = ended.call.request.call
        self._slots.end(ended)
        if ended.outcome is None:
            self._alive.discard(call)
            self._runs.abandon(call)
            return
        self._ended[call] = ended

    def are_of(self, numbers: Collection[int]) -> bool:
        """Whether a call of these partitions is in flight."""
        runs = (self._runs.get(call.run_id) for call in self._alive - self._ended.keys())
        return any(one is not None and one.number in numbers for one in runs)

    def record_outcomes(self, draft: Draft) -> None:
        """Add the outcomes that came."""
        for call, ended in list(self._ended.items()):
            one = self._runs.get(call.run_id)
            run = draft.runs.get(call.run_id, one.run if one else None)
            record = record_of(run, ended) if run is not None else None
            if one is None or run is None or record is None:
                del self._ended[call]  # its run has another owner, or has ended, or the log has it
                self._alive.discard(call)
                continue
            draft.add(run, record, one.number)
            draft.ended.append(call)
            draft.outcomes.append(CommittedCall(*endpoint_of_call(ended.call), record))

    def committed(self, draft: Draft) -> None:
        """After the commit of a draft."""
        for call in draft.ended:
            del self._ended[call]
            self._alive.discard(call)
        self._alive.update(call.request.call for call in draft.calls)

    def not_committed(self, draft: Draft) -> None:
        """Give back the slots of calls whose intention was not committed."""
        for call in draft.calls:
            self._slots.release(call)
