"""What open runs write in a cycle: plans, intentions and results, as far as their records allow it."""

import logging
from collections.abc import Collection

from processors.judging.calls import bounds_of
from processors.judging.cycle.draft import Draft
from processors.judging.cycle.endpoint_slots import EndpointName, EndpointSlots, endpoint_of
from processors.judging.deciding_records import intended_calls, planned_wave, stopped_run
from processors.judging.observer import CommittedResult
from processors.judging.open_runs import OpenRun, OpenRuns
from processors.judging.run_texts import RunTexts
from processors.kafka.broker_clock import BrokerClock
from schemas.errors import (
    ContentCorrupt,
    ContentMissing,
    Malformed,
    Misconfigured,
    Unreachable,
)
from schemas.judging_events import RecordRange
from tables.judging.next_step import Intend, Plan, next_step
from tables.judging.result import result_of
from tables.judging.run import Run
from tables.judging.stopping_rule import Stop

log = logging.getLogger("cjstream.judging")


class RunSteps:
    """known: the judges that this process can ask. The cycle thread alone uses it."""

    def __init__(
        self,
        runs: OpenRuns,
        texts: RunTexts,
        slots: EndpointSlots,
        known: Collection[EndpointName],
        broker_clock: BrokerClock,
    ) -> None:
        self._runs = runs
        self._texts = texts
        self._slots = slots
        self._known = known
        self._broker_clock = broker_clock
        self._waiting_runs = set[str]()  # that were logged
        self.is_stopping = False  # nothing more is asked

    def take(self, draft: Draft, epoch: int) -> None:
        """Let each open run write what it can, the most urgent first; those that this draft opens begin later."""
        if self._broker_clock.now_ms:
            for one in self._runs.by_urgency():
                self._advance(one, draft, epoch)

    def _advance(self, one: OpenRun, draft: Draft, epoch: int) -> None:
        run_id, run = one.run.opened.run_id, draft.run_of(one)
        if run is None:
            return
        try:
            self._check_known(run)
            self._take_steps(one, run, draft, epoch)
            self._waiting_runs.discard(run_id)
        except (Unreachable, ContentMissing, ContentCorrupt, Malformed, Misconfigured) as fault:
            if run_id not in self._waiting_runs:
                fields = {"run_id": run_id, "reason": str(fault)}
                log.warning("a run cannot ask its judge", extra=fields)
                self._waiting_runs.add(run_id)
            now_ms = self._broker_clock.now_ms
            if now_ms >= run.opened.deadline_at_ms:  # its time goes on
                step = next_step(run, now_ms, slots=0)
                if isinstance(step, Stop):
                    self._stop(draft, run, step, one)

    def _check_known(self, run: Run) -> None:
        provider, model = endpoint_of(run.opened.judge)
        if (provider, model) not in self._known:
            raise Misconfigured(f"its judge {provider}/{model} is not configured here")

    def _take_steps(self, one: OpenRun, run: Run, draft: Draft, epoch: int) -> None:
        bound_of = bounds_of(run, self._texts.get)
        while True:
            slots = 0 if self.is_stopping else self._slots.free(endpoint_of(run.opened.judge))
            match next_step(run, self._broker_clock.now_ms, bound_of, slots):
                case Plan() as plan:
                    run = draft.add(run, planned_wave(run, plan), one.number)
                case Intend() as intend:
                    self._intend(draft, run, intend, one.number, epoch)
                    return
                case Stop() as stop:
                    self._stop(draft, run, stop, one)
                    return
                case _:
                    return

    def _intend(self, draft: Draft, run: Run, step: Intend, number: int, epoch: int) -> None:
        event, to_send = intended_calls(
            run, step.calls, self._texts.get, epoch, self._broker_clock.now_ms
        )
        draft.add(run, event, number)
        self._slots.take(endpoint_of(run.opened.judge), len(to_send))
        draft.calls += to_send

    def _stop(self, draft: Draft, run: Run, stop: Stop, one: OpenRun) -> None:
        run_id = run.opened.run_id
        if run_id in draft.runs:
            return  # in the next cycle: the result names the positions of all of its run's records
        judging = RecordRange(
            topic=draft.encoded.topics.judging.name,
            partition=one.number,
            start=one.start,
            end=one.end,
        )
        result = result_of(run, stop, judging)
        event = stopped_run(result, draft.encoded.codec, self._broker_clock.now_ms)
        draft.add(run, event, one.number)
        draft.runs[run_id] = None
        seconds = (event.decided_at_ms - run.opened.opened_at_ms) / 1000
        committed = CommittedResult(result, seconds, run.opened.judge.provider)
        draft.add_result(committed, one.number, run.opened.batch_key)
