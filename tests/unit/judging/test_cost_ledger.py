"""Integer pico-dollars: sums are exact, and no order of events passes the budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.judging_events import TokenPrices, TokenUsage
from tables.judging.cost_ledger import Ledger, bound_pusd, cost_pusd

PRICES = TokenPrices(input=1_250_000, cache_write=1_562_500, cache_read=125_000, output=10_000_000)


def test_a_cost_is_the_sum_over_four_classes_and_reasoning_is_part_of_the_output() -> None:
    usage = TokenUsage(input=1000, cache_write=200, cache_read=3000, output=50, reasoning=40)
    assert cost_pusd(usage, PRICES) == 1_250_000_000 + 312_500_000 + 375_000_000 + 500_000_000


def test_a_bound_takes_the_dearest_input_class() -> None:
    assert bound_pusd(1_000, 10, PRICES) == 2_024 * 1_562_500 + 10 * 10_000_000


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**5),
    st.tuples(*[st.integers(0, 10**8)] * 4),
    st.data(),
)
def test_no_call_costs_more_than_its_bound(
    request_bytes: int, output_max: int, prices: tuple[int, int, int, int], data: st.DataObject
) -> None:
    fresh = data.draw(st.integers(0, request_bytes))
    written = data.draw(st.integers(0, request_bytes - fresh))
    usage = TokenUsage(
        input=fresh,
        cache_write=written,
        cache_read=request_bytes - fresh - written,
        output=data.draw(st.integers(0, output_max)),
        reasoning=0,
    )
    priced = TokenPrices(
        input=prices[0], cache_write=prices[1], cache_read=prices[2], output=prices[3]
    )
    assert cost_pusd(usage, priced) <= bound_pusd(request_bytes, output_max, priced)


@given(st.integers(0, 10**14), st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 3))))
def test_what_fits_never_passes_the_budget_whatever_becomes_of_it(
    budget: int, calls: list[tuple[int, int]]
) -> None:
    ledger, exact, unknown = Ledger(max_cost_pusd=budget), 0, 0
    for bound, fate in calls:
        if not ledger.fits(bound):
            assert ledger.committed_pusd + bound > budget
            continue
        ledger = ledger.reserve(bound)
        if fate == 0:
            cost = bound // 3
            ledger, exact = ledger.pay(bound, cost, None), exact + cost
        elif fate == 1:
            ledger, exact, unknown = ledger.pay(bound, None, None), exact + bound, unknown + 1
        elif fate == 2:
            ledger, exact = ledger.doubt(bound), exact + bound
        else:
            ledger = ledger.doubt(bound).resolve(bound).pay(bound, bound, None)
            exact += bound
        assert ledger.committed_pusd <= budget
    assert (ledger.committed_pusd, ledger.unknown_calls) == (exact, unknown)
    assert ledger.reserved_pusd == 0


def test_what_is_in_doubt_is_not_spent_again() -> None:
    ledger = Ledger(max_cost_pusd=10).reserve(6).doubt(6)
    assert (ledger.committed_pusd, ledger.fits(4), ledger.fits(5)) == (6, True, False)
    assert ledger.resolve(6).pay(6, 1, None).fits(9)


def test_without_a_budget_everything_fits_and_with_one_no_unknown_bound_does() -> None:
    assert Ledger().fits(None)
    assert Ledger().fits(10**30)
    assert not Ledger(max_cost_pusd=10**30).fits(None)
    assert Ledger(max_cost_pusd=5).fits(5)
    assert not Ledger(max_cost_pusd=5).fits(6)


def test_tokens_are_summed_by_class() -> None:
    one = TokenUsage(input=1, cache_write=2, cache_read=3, output=4, reasoning=5)
    ledger = Ledger().pay(None, 0, one).pay(None, None, None).pay(None, 0, one)
    assert ledger.tokens == TokenUsage(input=2, cache_write=4, cache_read=6, output=8, reasoning=10)


@pytest.mark.parametrize("cost", [0, 7])
def test_a_known_cost_replaces_the_bound(cost: int) -> None:
    ledger = Ledger(max_cost_pusd=10).reserve(10).pay(10, cost, None)
    assert (ledger.spent_pusd, ledger.reserved_pusd) == (cost, 0)
