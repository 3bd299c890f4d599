"""What a run needs next: a pure function of its records, of the time and of the calls' bounds."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.judging_events import PlannedComparison
from tables.judging.pair_selection import components, plan_wave
from tables.judging.run import ITEMS_MIN, Comparison, Run
from tables.judging.stopping_rule import Stop, after_wave, is_provider_failing

BoundOf = Callable[[int, int], int | None]  # of the call that shows these two items, pico-dollars


@dataclass(frozen=True, slots=True)
class Plan:
    """Write WavePlanned."""

    wave: int
    comparisons: tuple[PlannedComparison, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that may be intended."""

    number: int
    attempt: int
    first: int
    second: int
    bound_pusd: int | None


@dataclass(frozen=True, slots=True)
class Intend:
    """Write CallsIntended with these calls or the first ones of them."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to write before an outcome comes or until_ms, if it is not None."""

    until_ms: int | None = None


Step = Plan | Intend | Stop | Wait


def unpriced(first: int, second: int) -> int | None:
    """The bound of a call whose price is unknown."""
    return None


def next_step(
    run: Run, now_ms: int, bound_of: BoundOf = unpriced, slots: int | None = None
) -> Step:
    """slots: how many calls may be intended now, None: any number. A run stops only with no call open.

    Every pending comparison's bound is asked for, so bound_of should be cheap.
    """
    if run.stopped is not None:
        return Wait()
    decision = _refused(run) or _over(run, bound_of, now_ms)
    if isinstance(decision, Stop):
        return Wait() if run.open_calls else _with_enough_answers(run, decision)
    if decision is not None:
        return decision
    return _asking(run, now_ms, bound_of, slots)


def _refused(run: Run) -> Stop | None:
    """A provider refuses everything, or refused a request before it ever answered one."""
    if run.is_halted:
        return Stop("failed", "provider_refused")
    if any(wave.is_refused for wave in run.waves) and not run.answers.count:
        return Stop("failed", "provider_refused")
    return None


def _over(run: Run, bound_of: BoundOf, now_ms: int) -> Plan | Stop | None:
    """The decision at the end of a wave; None: the wave goes on."""
    is_late = now_ms >= run.opened.deadline_at_ms
    if run.waves and not run.waves[-1].is_over(run.targets.quorum):
        return Stop("partial", "deadline") if is_late else None
    if len(run.items) < ITEMS_MIN:
        return Stop("failed", "too_few_answers")
    if run.waves:
        if is_provider_failing([(wave.lost, len(wave.comparisons)) for wave in run.waves]):
            return Stop("failed", "provider_failing")
        if verdict := after_wave(run.scores, run.previous, run.targets, run.certainty_of_grades):
            return verdict
    return Stop("partial", "deadline") if is_late else _plan(run, bound_of)


def _plan(run: Run, bound_of: BoundOf) -> Plan | Stop:
    room = run.opened.max_comparisons - run.planned
    wave = len(run.waves) + 1
    pairs = plan_wave(
        run.pairs,
        run.scores.fit if run.waves else None,
        seed=run.opened.seed,
        wave=wave,
        per_item_max=run.targets.per_item_max,
        room=max(0, room),
    )
    if not pairs:
        below_maximum = (run.pairs.compared() < run.targets.per_item_max).sum() >= ITEMS_MIN
        return Stop("partial", "exhausted" if room > 0 and below_maximum else "comparisons")
    if not any(run.ledger.fits(bound_of(pair.first, pair.second)) for pair in pairs):
        return Stop("partial", "budget")
    return Plan(
        wave,
        tuple(
            PlannedComparison(
                number=number, first=pair.first, second=pair.second, purpose=pair.purpose
            )
            for number, pair in enumerate(pairs, run.planned)
        ),
    )


def _asking(run: Run, now_ms: int, bound_of: BoundOf, slots: int | None) -> Step:
    """Calls that are due and fit into the budget, together."""
    pending = [one for wave in run.waves for one in wave.pending]
    affordable = [one for one in pending if run.ledger.fits(_bound(one, bound_of))]
    if pending and not affordable:
        stop = Stop("partial", "budget")
        return Wait() if run.open_calls else _with_enough_answers(run, stop)
    calls: list[Call] = []
    ledger = run.ledger
    for one in affordable:
        if len(calls) == slots:
            break
        bound = _bound(one, bound_of)
        if one.retries.not_before_ms <= now_ms and ledger.fits(bound):
            ledger = ledger.reserve(bound)
            plan = one.plan
            calls.append(Call(plan.number, one.next_attempt, plan.first, plan.second, bound))
    if calls:
        return Intend(tuple(calls))
    later = [one.retries.not_before_ms for one in affordable if one.retries.not_before_ms > now_ms]
    return Wait(min([*later, run.opened.deadline_at_ms]))


def _bound(one: Comparison, bound_of: BoundOf) -> int | None:
    return bound_of(one.plan.first, one.plan.second)


def _with_enough_answers(run: Run, stop: Stop) -> Stop:
    """A result with scores needs an answer for each item, and a connected graph."""
    answers = run.answers
    is_connected = components(answers.items, answers.first, answers.second) == 1
    return stop if stop.outcome == "failed" or is_connected else Stop("failed", "too_few_answers")
