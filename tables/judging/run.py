"""A run as its records tell it: `fold` applies one record; values never change.

Repeated records change nothing. A record that contradicts an earlier one is a Discrepancy. Everything that is decided
from a run is in `next_step.py`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial

import numpy as np

from schemas.errors import Discrepancy
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    IntendedCall,
    JudgingEvent,
    JudgingOpened,
    JudgingStopped,
    PlannedComparison,
    RunItem,
    WavePlanned,
)
from schemas.scales import get_scale
from tables.judging.bradley_terry import Answers, fit
from tables.judging.cost_ledger import Ledger
from tables.judging.grade_projection import Grades, NoGrades, project
from tables.judging.pair_selection import Planned
from tables.judging.retries import NO_FAILURES, Retries, halts, is_in_doubt
from tables.judging.stopping_rule import Targets, WaveScores

ENGINE = 1  # of these formulas; a change of what they decide is a new engine beside this one
ITEMS_MIN = 2


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call and its outcome; is_in_doubt: it may have been paid."""

    intent: IntendedCall
    outcome: CallAnswered | CallFailed | None = None
    is_in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """One planned question. is_abandoned: the process that sent its last attempt is gone."""

    plan: PlannedComparison
    attempts: tuple[Attempt, ...] = ()
    answer: CallAnswered | None = None
    retries: Retries = NO_FAILURES
    is_abandoned: bool = False

    @property
    def is_answered(self) -> bool:
        return self.answer is not None

    @property
    def is_lost(self) -> bool:
        return self.answer is None and self.retries.is_lost

    @property
    def is_settled(self) -> bool:
        return self.answer is not None or self.retries.is_lost

    @property
    def is_open(self) -> bool:
        """Whether an answer of its last attempt may still come."""
        return bool(self.attempts and self.attempts[-1].outcome is None and not self.is_abandoned)

    @property
    def is_pending(self) -> bool:
        """Whether it has to be asked, once its time has come."""
        return not self.is_settled and not self.is_open

    @property
    def next_attempt(self) -> int:
        return len(self.attempts) + 1


@dataclass(frozen=True)
class Wave:
    """Comparisons planned together, with consecutive numbers."""

    comparisons: tuple[Comparison, ...]

    @property
    def start(self) -> int:
        return self.comparisons[0].plan.number

    @cached_property
    def pending(self) -> tuple[Comparison, ...]:
        return tuple(one for one in self.comparisons if one.is_pending)

    @cached_property
    def open_calls(self) -> int:
        return sum(one.is_open for one in self.comparisons)

    @cached_property
    def lost(self) -> int:
        return sum(one.is_lost for one in self.comparisons)

    @cached_property
    def is_refused(self) -> bool:
        return any(one.retries.is_refused for one in self.comparisons)

    @cached_property
    def settled(self) -> int:
        return sum(one.is_settled for one in self.comparisons)

    def is_over(self, quorum: float) -> bool:
        """Whether enough of it is answered or lost, and each comparison was tried."""
        if self.settled < quorum * len(self.comparisons):
            return False
        return all(one.attempts for one in self.comparisons)

    def with_comparison(self, changed: Comparison) -> "Wave":
        index = changed.plan.number - self.start
        return Wave((*self.comparisons[:index], changed, *self.comparisons[index + 1 :]))


@dataclass(frozen=True)
class Run:
    """Everything known of a run; previous: the scores at the end of the wave before the last one."""

    opened: JudgingOpened
    targets: Targets
    ledger: Ledger
    waves: tuple[Wave, ...] = ()
    previous: WaveScores | None = field(default=None, compare=False)
    is_halted: bool = False  # the provider refuses every call
    stopped: JudgingStopped | None = None

    @cached_property
    def items(self) -> tuple[RunItem, ...]:
        """Essays, then anchors: an item's number is its index."""
        return (*self.opened.essays, *self.opened.anchors)

    @property
    def planned(self) -> int:
        """How many comparisons were planned."""
        return self.waves[-1].start + len(self.waves[-1].comparisons) if self.waves else 0

    @property
    def open_calls(self) -> int:
        return sum(wave.open_calls for wave in self.waves)

    @property
    def comparisons(self) -> Iterator[Comparison]:
        return (one for wave in self.waves for one in wave.comparisons)

    @cached_property
    def pairs(self) -> Planned:
        """Its comparisons as arrays."""
        rows = [
            (
                one.plan.first,
                one.plan.second,
                one.plan.purpose == "audit",
                one.is_answered,
                one.is_lost,
            )
            for one in self.comparisons
        ]
        columns = np.array(rows, np.int64).reshape(-1, 5).T
        first, second = columns[:2]
        return Planned(len(self.items), first, second, *columns[2:].astype(np.bool_))

    @cached_property
    def answers(self) -> Answers:
        """Its answered comparisons, by number."""
        rows = [
            (one.plan.first, one.plan.second, one.answer.winner == "first")
            for one in self.comparisons
            if one.answer is not None
        ]
        first, second, first_won = np.array(rows, np.int64).reshape(-1, 3).T
        return Answers(len(self.items), first, second, first_won.astype(np.bool_))

    @cached_property
    def scores(self) -> WaveScores:
        """The scores from all answers so far."""
        regular = np.count_nonzero(self.pairs.is_answered & ~self.pairs.is_audit)
        return WaveScores(
            wave=len(self.waves),
            compared=2.0 * regular / len(self.items),
            compute=partial(fit, self.answers, self.opened.seed, len(self.waves)),
        )

    @cached_property
    def grades(self) -> Grades | NoGrades | None:
        """The pupils' grades from all answers so far; None: its batch has no grade scale. Needs an answer."""
        opened = self.opened
        if opened.context.grade_scale is None:
            return None
        if not opened.anchors:
            return NoGrades("anchors_of_another_scale" if opened.anchors_from else "no_anchors")
        fit = self.scores.fit
        return project(
            get_scale(opened.context.grade_scale),
            [anchor.grade or "" for anchor in opened.anchors],
            fit.theta,
            fit.se**2,
            opened.seed,
            len(self.waves),
        )

    def certainty_of_grades(self) -> float | None:
        """The pupils' mean probability of their grades, from 0 to 1; None if there are no grades."""
        return self.grades.certainty if isinstance(self.grades, Grades) else None

    def comparison(self, number: int) -> Comparison:
        """Raises Discrepancy if none was planned with this number."""
        if not 0 <= number < self.planned:
            raise Discrepancy(f"run {self.opened.run_id}: comparison {number} was never planned")
        wave = next(wave for wave in reversed(self.waves) if wave.start <= number)
        return wave.comparisons[number - wave.start]

    def with_comparison(self, changed: Comparison, ledger: Ledger | None = None) -> "Run":
        waves = list(self.waves)
        index = next(
            k for k in reversed(range(len(waves))) if waves[k].start <= changed.plan.number
        )
        waves[index] = waves[index].with_comparison(changed)
        return replace(self, waves=tuple(waves), ledger=ledger or self.ledger)


def fold(run: Run | None, record: JudgingEvent) -> Run:
    """The run after one more of its records. Raises Discrepancy."""
    if isinstance(record, JudgingOpened):
        return _opened(run, record)
    if run is None:
        raise Discrepancy(f"run {record.run_id}: {type(record).__name__} before JudgingOpened")
    if record.run_id != run.opened.run_id:
        raise Discrepancy(f"run {run.opened.run_id}: a record of run {record.run_id}")
    match record:
        case WavePlanned():
            return _planned(run, record)
        case CallsIntended():
            for call in record.calls:
                run = _intended(run, call)
            return run
        case CallAnswered() | CallFailed():
            return _ended(run, record)
        case JudgingStopped():
            return _stopped(run, record)


def abandon_calls(run: Run) -> Run:
    """The run as its new owner sees it: no answer of an open call will come, so that each is asked again."""
    for one in list(run.comparisons):
        if one.is_open:
            run = run.with_comparison(replace(one, is_abandoned=True))
    return run


def _opened(run: Run | None, record: JudgingOpened) -> Run:
    if run is not None and run.opened != record:
        raise Discrepancy(f"run {run.opened.run_id} was opened twice, differently")
    if run is not None:
        return run
    if record.engine != ENGINE:
        raise Discrepancy(
            f"run {record.run_id} was opened for engine {record.engine}; this release has {ENGINE}"
        )
    policy = json.loads(record.policy)
    known = {name: policy[name] for name in (f.name for f in fields(Targets)) if name in policy}
    return Run(record, Targets(**known), Ledger(max_cost_pusd=record.max_cost_pusd))


def _planned(run: Run, record: WavePlanned) -> Run:
    name = f"run {run.opened.run_id}: wave {record.wave}"
    if record.wave <= len(run.waves):
        known = tuple(one.plan for one in run.waves[record.wave - 1].comparisons)
        if known != record.comparisons:
            raise Discrepancy(f"{name} was planned twice, differently")
        return run
    _check_not_stopped(run, record)
    numbers = [one.number for one in record.comparisons]
    if record.wave != len(run.waves) + 1 or not numbers:
        raise Discrepancy(f"{name} is empty, or does not follow wave {len(run.waves)}")
    if numbers != list(range(run.planned, run.planned + len(numbers))):
        raise Discrepancy(f"{name}: its comparisons are not numbered from {run.planned}")
    last = len(run.items) - 1
    if not all(
        0 <= one.first <= last and 0 <= one.second <= last and one.first != one.second
        for one in record.comparisons
    ):
        raise Discrepancy(f"{name} compares items that the run does not have")
    wave = Wave(tuple(map(Comparison, record.comparisons)))
    return replace(run, waves=(*run.waves, wave), previous=run.scores if run.waves else None)


def _intended(run: Run, call: IntendedCall) -> Run:
    one = run.comparison(call.number)
    name = f"run {run.opened.run_id}: attempt {call.attempt} of comparison {call.number}"
    if call.attempt < one.next_attempt:
        if one.attempts[call.attempt - 1].intent != call:
            raise Discrepancy(f"{name} was intended twice, differently")
        return run
    _check_not_stopped(run, call)
    if call.attempt > one.next_attempt or one.is_settled:
        raise Discrepancy(f"{name} was intended, but {one.next_attempt - 1} attempts were enough")
    ledger, attempts = run.ledger, one.attempts
    if attempts and attempts[-1].outcome is None:  # its process ended in between
        ledger = ledger.doubt(attempts[-1].intent.bound_pusd)
        attempts = (*attempts[:-1], replace(attempts[-1], is_in_doubt=True))
    if not ledger.fits(call.bound_pusd):
        raise Discrepancy(f"{name} was intended beyond the budget")
    changed = replace(one, attempts=(*attempts, Attempt(call)), is_abandoned=False)
    return run.with_comparison(changed, ledger.reserve(call.bound_pusd))


def _ended(run: Run, record: CallAnswered | CallFailed) -> Run:
    one = run.comparison(record.number)
    name = f"run {run.opened.run_id}: attempt {record.attempt} of comparison {record.number}"
    if not 1 <= record.attempt < one.next_attempt:
        raise Discrepancy(f"{name} has an outcome, but was never intended")
    attempt = one.attempts[record.attempt - 1]
    if attempt.outcome is not None:
        if attempt.outcome != record:
            raise Discrepancy(f"{name} has two different outcomes")
        return run
    _check_not_stopped(run, record)
    _check_asked(run, one, attempt, record, name)
    ledger = _paid(run.ledger, attempt, record)
    doubtful = isinstance(record, CallFailed) and is_in_doubt(record)
    ended = replace(attempt, outcome=record, is_in_doubt=doubtful)
    changed = replace(
        one, attempts=(*one.attempts[: record.attempt - 1], ended, *one.attempts[record.attempt :])
    )
    if isinstance(record, CallAnswered):
        if not one.is_settled:
            changed = replace(changed, answer=record)
        return run.with_comparison(changed, ledger)
    changed = replace(changed, retries=one.retries.after(record, run.opened.seed))
    run = run.with_comparison(changed, ledger)
    return replace(run, is_halted=True) if halts(record) else run


def _check_asked(
    run: Run, one: Comparison, attempt: Attempt, record: CallAnswered | CallFailed, name: str
) -> None:
    asked = (
        run.items[one.plan.first].id,
        run.items[one.plan.second].id,
        attempt.intent.prompt_sha256,
    )
    if (record.first_id, record.second_id, record.prompt_sha256) != asked:
        raise Discrepancy(f"{name} has an outcome with other items or another prompt")
    if isinstance(record, CallAnswered) and record.winner not in ("first", "second"):
        raise Discrepancy(f"{name} has an unknown winner")


def _paid(ledger: Ledger, attempt: Attempt, record: CallAnswered | CallFailed) -> Ledger:
    bound = attempt.intent.bound_pusd
    if attempt.is_in_doubt:
        ledger = ledger.resolve(bound)
    if isinstance(record, CallFailed) and is_in_doubt(record):
        return ledger.doubt(bound)
    return ledger.pay(bound, record.cost_pusd, record.usage)


def _stopped(run: Run, record: JudgingStopped) -> Run:
    if run.stopped is not None and run.stopped != record:
        raise Discrepancy(f"run {run.opened.run_id} was stopped twice, differently")
    return replace(run, stopped=record)


def _check_not_stopped(run: Run, record: object) -> None:
    if run.stopped is not None:
        raise Discrepancy(f"run {run.opened.run_id}: {type(record).__name__} after JudgingStopped")
