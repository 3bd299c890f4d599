"""CPU time of a fit and of planning a wave, by number of items."""

import time
from collections.abc import Callable

import numpy as np

from tables.judging.bradley_terry import Answers, fit
from tables.judging.pair_selection import Planned, plan_wave
from tools.bench.percentiles import Figures

COMPARISONS = 12  # of each item
WAVE = 13
SEED = 1


def engine_times(sizes: tuple[int, ...] = (42, 100, 300, 1_000), rounds: int = 3) -> Figures:
    """The quickest of some rounds, in milliseconds of CPU: fit (with covariance and reliability), wave."""
    return {str(items): _times_of(items, rounds) for items in sizes}


def _times_of(items: int, rounds: int) -> Figures:
    planned = _planned(items)
    wins = np.random.default_rng(SEED).random(len(planned.first)) < 0.5

    def answers() -> Answers:  # anew each time: it keeps what it has computed
        return Answers(items, planned.first, planned.second, wins)

    scores = fit(answers(), SEED, WAVE)
    return {
        "fit_ms": _quickest(lambda: fit(answers(), SEED, WAVE), rounds),
        "wave_ms": _quickest(
            lambda: plan_wave(planned, scores, seed=SEED, wave=WAVE, per_item_max=24, room=items),
            rounds,
        ),
    }


def _planned(items: int) -> Planned:
    """Random pairs, all answered."""
    random = np.random.default_rng(SEED)
    first = random.integers(0, items, items * COMPARISONS // 2)
    second = (first + random.integers(1, items, len(first))) % items
    nothing = np.zeros(len(first), np.bool_)
    return Planned(items, first, second, nothing, ~nothing, nothing)


def _quickest(call: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return round(1_000 * min(taken), 1)
