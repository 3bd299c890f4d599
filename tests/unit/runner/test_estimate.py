from dataclasses import replace
from functools import cache

import pytest

from schemas.judging_events import JudgingOpened, TokenPrices
from schemas.models import PUSD_PER_USD
from tests.support.simulated_runs import run_of, texts_of
from tools.runner.collected_run import CollectedRun
from tools.runner.estimate import (
    Estimate,
    estimate_document,
    estimate_of,
    quantile,
    revised_estimate,
)
from tools.runner.judged_run import judged_run

PRICES = TokenPrices(input=2_000_000, cache_write=2_500_000, cache_read=200_000, output=8_000_000)


@cache
def whole_run() -> CollectedRun:
    return run_of(6, 2)


def estimate(max_output_tokens: int = 400, prices: TokenPrices | None = PRICES) -> Estimate:
    opened = whole_run().judging[0].event
    assert isinstance(opened, JudgingOpened)
    judge = replace(opened.judge, max_output_tokens=max_output_tokens, prices=prices)
    texts = {one["storage_id"]: text for one, text in texts_of(6, 2, 1)}
    return estimate_of(replace(opened, judge=judge), texts.__getitem__)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5], 0.9, 5), ([*range(1, 11)], 0.9, 9), ([3, 1, 2], 0.5, 2), ([1, 2], 0.0, 1)],
)
def test_a_quantile_is_one_of_the_values(values: list[int], share: float, expected: int) -> None:
    assert quantile(values, share) == expected


def test_an_estimate_has_8_comparisons_and_a_half_per_item_and_costs_its_tokens() -> None:
    found = estimate()
    assert (found.items, found.comparisons) == (8, 68)
    assert found.comparisons_max > found.comparisons
    per_call = found.tokens.input * PRICES.input + found.tokens.output * PRICES.output
    assert found.cost_pusd == 68 * per_call
    assert found.cost_max_pusd == found.comparisons_max * per_call


def test_a_model_that_reasons_is_expected_to_answer_with_more_tokens() -> None:
    assert estimate(8_000).tokens.output == 1_500
    assert estimate(1_000).tokens.output == 150
    assert estimate(100).tokens.output == 100


def test_without_a_price_the_cost_is_unknown_and_never_0() -> None:
    document = estimate_document(estimate(prices=None))
    assert (document["cost_usd"], document["cost_max_usd"]) == (None, None)
    assert {one["cost_usd"] for one in document["classes"]} == {None}
    assert document["classes"][0]["tokens"] > 0


def test_costs_by_class_add_up_to_the_estimate() -> None:
    found = estimate()
    document = estimate_document(found)
    for member, whole in (("cost_usd", found.cost_pusd), ("cost_max_usd", found.cost_max_pusd)):
        parts = [one[member].replace(".", "") for one in document["classes"]]
        assert sum(map(int, parts)) == whole
    assert int(document["cost_usd"].split(".")[0]) == (found.cost_pusd or 0) // PUSD_PER_USD


def test_wave_1_revises_the_estimate_by_what_its_calls_used() -> None:
    run = judged_run(whole_run()).run
    assert run is not None
    revised = revised_estimate(run)
    assert revised is not None
    used = [one.answer.usage for one in run.waves[0].comparisons if one.answer]
    assert revised.tokens.input in {usage.input for usage in used if usage}
    assert revised.tokens.output < estimate().tokens.output
    assert revised_estimate(replace(run, waves=())) is None
