"""Which items are compared in the next wave, and which of two is shown first.

Waves 1 to 3 are seeded random matchings whose union is connected; later ones are the matching that promises the most
information about the differences. Balance of an item: how often it was shown first minus second, audit repeats apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import rustworkx
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.judging_events import PlannedComparison
from tables.judging.bradley_terry import DECIMALS, Fit, Flags, Integers
from tables.judging.seeded import generator

COVER_WAVES = 3
BALANCE_MAX = 2
ALL_PARTNERS_MAX = 200  # with more items, each has its best partners only
PARTNERS = 20
PLANS_OF_A_PAIR_MAX = 2  # a lost pair is planned once more
AUDIT_SHARE = 0.05
CONNECTING_ATTEMPTS = 20
WEIGHT_SCALE = 1e6
SAME_INFORMATION = 1e-5
TIE_BITS = 30  # below the weight: makes the best matching unique, whatever finds it


class Pair(NamedTuple):
    """One comparison to ask; purpose is cover, inform or audit."""

    first: int
    second: int
    purpose: str


@dataclass(frozen=True, eq=False)
class Planned:
    """The comparisons planned so far, by number, all (m,); first and second are item numbers."""

    items: int
    first: Integers
    second: Integers
    is_audit: Flags
    is_answered: Flags
    is_lost: Flags

    @property
    def codes(self) -> Integers:
        """low * items + high of each comparison's pair (m,)."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return np.asarray(low * self.items + high)

    def balance(self) -> Integers:
        """Times shown first minus times shown second (n,), audit repeats apart."""
        counted = ~self.is_audit
        as_first = np.bincount(self.first[counted], minlength=self.items)
        return np.asarray(as_first - np.bincount(self.second[counted], minlength=self.items))

    def compared(self) -> Integers:
        """Comparisons of each item (n,) that are not lost, audit repeats apart."""
        counted = ~self.is_audit & ~self.is_lost
        as_first = np.bincount(self.first[counted], minlength=self.items)
        return np.asarray(as_first + np.bincount(self.second[counted], minlength=self.items))

    def is_used(self) -> Flags:
        """Pairs that are not planned again (n, n), symmetric."""
        counted = ~self.is_audit
        cells = self.items * self.items
        kept = np.bincount(self.codes[counted & ~self.is_lost], minlength=cells)
        plans = np.bincount(self.codes[counted], minlength=cells)
        used = ((kept > 0) | (plans >= PLANS_OF_A_PAIR_MAX)).reshape(self.items, self.items)
        return np.asarray(used | used.T)


def plan_wave(
    planned: Planned, fit: Fit | None, *, seed: int, wave: int, per_item_max: int, room: int
) -> tuple[Pair, ...]:
    """Up to `room` comparisons, the most informative first; empty if no pair is left. fit: needed after wave 3."""
    allowed = _allowed(planned, per_item_max)
    if wave > COVER_WAVES and fit is not None:
        information = _information(fit)
        shortlist = _shortlist(allowed, information, _closeness(fit))
        pairs = best_matching(shortlist, information)
    else:
        pairs = _cover(planned, allowed, seed, wave)
    purpose = "cover" if wave <= COVER_WAVES else "inform"
    first, second = _ordered(pairs, planned.balance(), seed, wave)
    wanted = [Pair(int(a), int(b), purpose) for a, b in zip(first, second, strict=True)]
    audits = _audits(planned, len(wanted), seed, wave) if wanted else []
    return (*wanted, *audits)[:room]


def is_as_good(
    fit: Fit, one: Iterable[PlannedComparison], other: Iterable[PlannedComparison]
) -> bool:
    """Whether two waves promise the same information to 1e-5: processors differ in the last digits of a fit."""
    information = _information(fit)
    first, second = (
        sum(int(information[plan.first, plan.second]) for plan in plans if plan.purpose == "inform")
        for plans in (one, other)
    )
    return abs(first - second) <= SAME_INFORMATION * max(first, second)


def _allowed(planned: Planned, per_item_max: int) -> Flags:
    """The pairs that may be planned (n, n), above the diagonal."""
    balance, compared = planned.balance(), planned.compared()
    high, low = balance >= BALANCE_MAX, balance <= -BALANCE_MAX
    tilted = np.logical_and.outer(high, high) | np.logical_and.outer(low, low)
    available = compared < per_item_max
    if available.sum() % 2:  # the most compared item rests
        available[np.argmax(np.where(available, compared, -1))] = False
    return np.triu(np.logical_and.outer(available, available) & ~tilted & ~planned.is_used(), 1)


def _information(fit: Fit) -> Integers:
    """round(1e6 log(1 + p (1 - p) Var(theta_i - theta_j))) (n, n)."""
    variance = np.diag(fit.cov)
    of_difference = variance[:, None] + variance[None, :] - 2.0 * fit.cov
    p = 1.0 / (1.0 + np.exp(fit.theta[None, :] - fit.theta[:, None]))
    expected = np.round(p * (1.0 - p) * of_difference, DECIMALS)
    return np.rint(WEIGHT_SCALE * np.log1p(np.maximum(expected, 0.0))).astype(np.int64)


def _closeness(fit: Fit) -> Integers:
    """Minus the distance in the ranking (n, n): without its neighbours, all would want the few least certain items."""
    position = np.argsort(np.argsort(fit.theta, kind="stable"))
    return np.asarray(-np.abs(position[:, None] - position[None, :]))


def _cover(planned: Planned, allowed: Flags, seed: int, wave: int) -> Integers:
    """A random matching; in the last wave of this kind one that connects all items, if one is found."""
    n = planned.items
    for attempt in range(CONNECTING_ATTEMPTS):
        random = generator(seed, "pairs", wave, attempt).integers(0, 1 << 20, (n, n))
        pairs = best_matching(_shortlist(allowed, random), random)
        if wave < COVER_WAVES or _is_connected(planned, pairs):
            break
    return pairs


def _is_connected(planned: Planned, pairs: Integers) -> bool:
    return (
        components(
            planned.items,
            np.concatenate([planned.first, pairs[:, 0]]),
            np.concatenate([planned.second, pairs[:, 1]]),
        )
        == 1
    )


def components(items: int, first: Integers, second: Integers) -> int:
    """Into how many parts the graph of these comparisons falls."""
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(items, items))
    count, _ = connected_components(graph, directed=False)
    return int(count)


def best_matching(allowed: Flags, weight: Integers) -> Integers:
    """The pairs (k, 2) of the largest matching with the highest sum of weights, the highest weight first."""
    n = len(allowed)
    low, high = np.nonzero(allowed)
    # the tie-breakers of a whole matching add up to less than one unit of weight
    shift = TIE_BITS + (n // 2).bit_length()
    ranks = (weight[low, high] << shift) + _tie_breakers(low * n + high)
    graph: rustworkx.PyGraph[None, int] = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from([None] * n)
    graph.add_edges_from(list(zip(low.tolist(), high.tolist(), ranks.tolist(), strict=True)))
    found = rustworkx.max_weight_matching(graph, max_cardinality=True, weight_fn=int)
    chosen = {(min(pair), max(pair)) for pair in found}
    is_chosen = [pair in chosen for pair in zip(low.tolist(), high.tolist(), strict=True)]
    low, high, ranks = low[is_chosen], high[is_chosen], ranks[is_chosen]
    order = np.argsort(-ranks)
    return np.column_stack([low[order], high[order]])


def _shortlist(allowed: Flags, *preferences: Integers) -> Flags:
    """The pairs (n, n) that are among the best 20 of one of their items by one of the preferences."""
    n = len(allowed)
    if n <= ALL_PARTNERS_MAX:
        return allowed
    either_way = allowed | allowed.T
    kept = np.zeros((n, n), np.bool_)
    for preference in preferences:
        values = np.where(either_way, preference, -np.inf)
        kept |= values >= np.partition(values, n - PARTNERS, axis=1)[:, n - PARTNERS, None]
    return (kept | kept.T) & allowed


def _tie_breakers(codes: Integers) -> Integers:
    """TIE_BITS bits that depend on the item numbers alone (SplitMix64: Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(64 - TIE_BITS)).astype(np.int64)


def _ordered(pairs: Integers, balance: Integers, seed: int, wave: int) -> tuple[Integers, Integers]:
    """First and second (k,): the item shown first more often goes second; a coin decides a tie."""
    low, high = pairs[:, 0], pairs[:, 1]
    coin = generator(seed, "order", wave).integers(0, 2, len(pairs)).astype(bool)
    low_first = np.where(balance[low] == balance[high], coin, balance[low] < balance[high])
    return np.where(low_first, low, high), np.where(low_first, high, low)


def _audits(planned: Planned, new: int, seed: int, wave: int) -> list[Pair]:
    """Answered pairs asked once more, the other way round: 5 % of all comparisons."""
    asked, audited_before = np.count_nonzero(~planned.is_audit), np.count_nonzero(planned.is_audit)
    wanted = max(0, int(AUDIT_SHARE * (asked + new)) - audited_before)
    codes = planned.codes
    audited = codes[planned.is_audit]
    once = np.flatnonzero(~planned.is_audit & planned.is_answered & ~np.isin(codes, audited))
    chosen = generator(seed, "audit", wave).permutation(once)[:wanted]
    return [Pair(int(planned.second[k]), int(planned.first[k]), "audit") for k in sorted(chosen)]
