"""A judge that tosses coins: its runs must end as having no signal, and never as reliable."""

from collections import Counter
from functools import cache

from tests.simulation.judging.test_claims import ITEMS, Ended, Record, ended, samples
from tests.support.judging_in_memory import coin_tosser, judged


@cache
def coin_tosses(seed: int) -> Ended:
    judge = coin_tosser(ITEMS, seed)
    return ended(judged(judge, seed=seed), judge)


@samples(100, 1_000)
def test_a_coin_tosser_is_never_reliable(record_property: Record, runs: int) -> None:
    found = [coin_tosses(seed) for seed in range(runs)]
    record_property("highest bound", str(max(run.highest_bound for run in found)))
    assert Counter(run.reason for run in found)["reliable"] == 0


@samples(100, 1_000)
def test_a_coin_tosser_ends_as_no_signal(record_property: Record, runs: int) -> None:
    reasons = Counter(coin_tosses(seed).reason for seed in range(runs))
    record_property("reasons", str(dict(reasons)))
    assert reasons["no_signal"] >= 0.95 * runs
