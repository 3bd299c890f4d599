"""The judging of one run without Kafka: the same steps and the same records as the judge process, in one thread.

Each record is folded as it is made, so a run that is judged here can be continued or audited like any other.
"""

from collections.abc import Callable, Generator, Sequence

from processors.judging.calls import EndedCall, TextOf, bounds_of, record_of
from processors.judging.deciding_records import intended_calls, planned_wave
from processors.judging.judges.judge import Answered, Failed, JudgeRequest
from schemas.judging_events import JudgingEvent, JudgingOpened
from tables.judging.next_step import Call, Intend, Plan, next_step
from tables.judging.run import Run, fold
from tables.judging.stopping_rule import Stop

SLOTS = 8  # calls that are intended together
Records = Generator[JudgingEvent, None, tuple[Run, Stop]]
Ask = Callable[[JudgeRequest], Answered | Failed]


class SimulatedClock:
    """Milliseconds since the epoch; nobody waits."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def advance_to(self, ms: int) -> None:
        """A time that has passed changes nothing."""
        self.now_ms = max(self.now_ms, ms)


def judging_records(
    opened: JudgingOpened,
    ask: Ask,
    text_of: TextOf,
    clock: SimulatedClock,
    keep: Callable[[bytes], str],
) -> Records:
    """The records of a run up to the last one before JudgingStopped; returns the run and why it stops.

    keep: stores a response and returns its storage id. The caller moves the clock on with every record.
    """
    run = fold(None, opened)
    yield opened
    bound_of = bounds_of(run, text_of)
    while True:
        step = next_step(run, clock.now_ms, bound_of, SLOTS)
        match step:
            case Plan():
                event = planned_wave(run, step)
                run = fold(run, event)
                yield event
            case Intend():
                run = yield from _asked(run, step.calls, ask, text_of, clock, keep)
            case Stop():
                return run, step
            case _:
                clock.advance_to(opened.deadline_at_ms if step.until_ms is None else step.until_ms)


def _asked(
    run: Run,
    calls: Sequence[Call],
    ask: Ask,
    text_of: TextOf,
    clock: SimulatedClock,
    keep: Callable[[bytes], str],
) -> Generator[JudgingEvent, None, Run]:
    event, to_send = intended_calls(run, calls, text_of, 0, clock.now_ms)
    run = fold(run, event)
    yield event
    for one in to_send:
        outcome = ask(one.request)
        kept = keep(outcome.response) if outcome.response else None
        record = record_of(run, EndedCall(one, outcome, 0, kept))
        if record is not None:
            run = fold(run, record)
            yield record
    return run
