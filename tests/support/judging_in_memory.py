"""A judge of known quality without a process, a network or a clock, and runs against it."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.coordinates import Coordinates
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    IntendedCall,
    Judge,
    JudgePrompt,
    JudgingContext,
    JudgingEvent,
    JudgingOpened,
    JudgingStopped,
    RunItem,
    TokenPrices,
    WavePlanned,
)
from tables.judging.next_step import Call, Intend, Plan, next_step
from tables.judging.run import Run, fold
from tables.judging.seeded import WORD
from tables.judging.stopping_rule import Stop

NOW_MS = 1_000
DEADLINE_MS = 10_000_000


def opened(
    items: int = 42,
    *,
    seed: int = 1,
    anchors: int = 0,
    policy: str = "{}",
    max_cost_pusd: int | None = None,
    max_comparisons: int = 1_000_000,
    prices: TokenPrices | None = None,
) -> JudgingOpened:
    """The first record of a run."""

    def item(number: int) -> RunItem:
        name = f"item-{number}"
        return RunItem(
            id=name,
            grade="A" if number >= items else None,
            storage_id=hashlib.sha256(name.encode()).hexdigest(),
            size_bytes=2_000,
        )

    return JudgingOpened(
        run_id=f"run-{seed}",
        batch_id="batch-1",
        batch=Coordinates("batches", 0, 7),
        request=Coordinates("requests", 0, 5),
        opened_at_ms=NOW_MS,
        engine=1,
        seed=seed,
        judge=Judge(
            provider="simulated",
            model="sim-1",
            adapter="simulated",
            parameters="{}",
            answer_method="direct",
            context_window=100_000,
            max_output_tokens=200,
            prices=prices,
            judge_sha256="0" * 64,
        ),
        prompt=JudgePrompt(recipe=1),
        context=JudgingContext(context_source="guest", prompt_source="none"),
        essays=tuple(map(item, range(items))),
        anchors=tuple(map(item, range(items, items + anchors))),
        anchors_position=0,
        policy=policy,
        max_comparisons=max_comparisons,
        max_cost_pusd=max_cost_pusd,
        deadline_at_ms=DEADLINE_MS,
        warnings=(),
    )


@dataclass
class SimulatedJudge:
    """theta (items,): true qualities; noisy: items judged at random; a repeated pair mostly gets the same uniform."""

    theta: NDArray[np.float64]
    seed: int
    delta: float = -0.2
    lapse: float = 0.02
    persistence: float = 0.8
    noisy: frozenset[int] = frozenset()

    def first_wins(self, number: int, first: int, second: int) -> bool:
        persists, uniform, lapses = _uniforms(self.seed, number)
        if persists < self.persistence:
            low, high = sorted((first, second))
            uniform = _uniforms(self.seed, -1 - low * len(self.theta) - high)[1]
            uniform = uniform if first == low else 1.0 - uniform
        if lapses < self.lapse or {first, second} & self.noisy:
            return bool(uniform < 0.5)
        gap = self.theta[first] - self.theta[second]
        return bool(uniform < expit(gap + self.delta))


def _uniforms(seed: int, number: int) -> list[float]:
    key = np.array([seed, number & WORD], np.uint64)
    return [float(x) for x in np.random.Generator(np.random.Philox(key=key)).random(3)]


def coin_tosser(items: int, seed: int) -> SimulatedJudge:
    return SimulatedJudge(np.zeros(items), seed, delta=0.0)


def judge_of(items: int, seed: int, spread: float = 1.5, delta: float = -0.2) -> SimulatedJudge:
    theta = np.random.default_rng([seed, 99]).normal(0.0, spread, items)
    return SimulatedJudge(theta, seed, delta=delta)


def prompt_sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def planned(run: Run, plan: Plan) -> WavePlanned:
    return WavePlanned(run_id=run.opened.run_id, wave=plan.wave, comparisons=plan.comparisons)


def intended(run: Run, calls: tuple[Call, ...]) -> CallsIntended:
    return CallsIntended(
        run_id=run.opened.run_id,
        mode="live",
        calls=tuple(
            IntendedCall(
                number=call.number,
                attempt=call.attempt,
                prompt_sha256=prompt_sha256(call.number),
                bound_pusd=call.bound_pusd,
            )
            for call in calls
        ),
    )


def answered(run: Run, call: Call, first_wins: bool) -> CallAnswered:
    return CallAnswered(
        run_id=run.opened.run_id,
        number=call.number,
        attempt=call.attempt,
        first_id=run.items[call.first].id,
        second_id=run.items[call.second].id,
        winner="first" if first_wins else "second",
        prompt_sha256=prompt_sha256(call.number),
        provider="simulated",
        model="sim-1",
        asked_at_ms=NOW_MS,
        took_ms=5,
    )


def call_failed(run: Run, call: Call, reason: str) -> CallFailed:
    return CallFailed(
        run_id=run.opened.run_id,
        number=call.number,
        attempt=call.attempt,
        first_id=run.items[call.first].id,
        second_id=run.items[call.second].id,
        prompt_sha256=prompt_sha256(call.number),
        provider="simulated",
        model="sim-1",
        asked_at_ms=NOW_MS,
        took_ms=5,
        reason=reason,
        will_retry=True,
    )


def stopped(run: Run, stop: Stop) -> JudgingStopped:
    return JudgingStopped(
        run_id=run.opened.run_id,
        outcome=stop.outcome,
        reason=stop.reason,
        decided_at_ms=NOW_MS,
        result_sha256="0" * 64,
    )


def records(run: Run, judge: SimulatedJudge) -> Iterator[tuple[JudgingEvent, Run]]:
    """Each further record of a run that meets no fault, with the run after it, until it stops."""
    while run.stopped is None:
        step = next_step(run, NOW_MS)
        new: list[JudgingEvent] = []
        match step:
            case Plan():
                new = [planned(run, step)]
            case Intend(calls):
                new = [intended(run, calls)]
                new += [
                    answered(run, call, judge.first_wins(call.number, call.first, call.second))
                    for call in calls
                ]
            case Stop():
                new = [stopped(run, step)]
        assert new, step
        for record in new:
            run = fold(run, record)
            yield record, run


def judged(
    judge: SimulatedJudge,
    *,
    seed: int,
    policy: str = "{}",
    at_wave_end: Callable[[Run], bool] = lambda run: False,
) -> Run:
    """A run to its end, or to the end of the first wave at which at_wave_end holds."""
    run = fold(None, opened(len(judge.theta), seed=seed, policy=policy))
    for record, after in records(run, judge):
        if isinstance(record, WavePlanned) and run.waves and at_wave_end(run):
            return run
        run = after
    return run


def squared_correlation(run: Run, judge: SimulatedJudge) -> float:
    """Of the run's scores with the true qualities."""
    return float(np.corrcoef(run.scores.fit.theta, judge.theta)[0, 1] ** 2)
