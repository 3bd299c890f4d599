"""What a run will cost: before it begins from the sizes of its texts, after wave 1 from what its calls used. Pure.

A run needs about 8.5 comparisons per item until its scores are reliable, at most its own limit. Tokens of a call are
taken at the 0.9 quantile.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from processors.judging.calls import TextOf, prompt_of
from processors.judging.prompt import prompt_bytes
from schemas.judging_events import Judge, JudgingOpened, TokenPrices, TokenUsage
from schemas.models import CLASSES, usd_of
from tables.judging.cost_ledger import cost_pusd
from tables.judging.run import Run

COMPARISONS_PER_ITEM = 8.5
QUANTILE = 0.9
BYTES_PER_TOKEN = 3.5  # fewer than in English; the simulated judge has 4
ANSWER_TOKENS = 150  # a winner, a confidence and one or two sentences
REASONING_TOKENS = 1_500
MAX_PLAIN_ANSWER_TOKENS = 2_000  # a model that may answer with more reasons first


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Comparisons of a run until it is reliable and at most, and the tokens of a call at the 0.9 quantile."""

    judge: Judge
    items: int
    comparisons: int
    comparisons_max: int
    tokens: TokenUsage  # of one call

    @property
    def cost_pusd(self) -> int | None:
        """The cost of the run; None if no price is known."""
        return self._cost(self.comparisons)

    @property
    def cost_max_pusd(self) -> int | None:
        """The cost if every allowed comparison is asked; None if no price is known."""
        return self._cost(self.comparisons_max)

    def _cost(self, comparisons: int) -> int | None:
        prices = self.judge.prices
        return None if prices is None else comparisons * cost_pusd(self.tokens, prices)


def estimate_of(opened: JudgingOpened, text_of: TextOf) -> Estimate:
    """The estimate before a run: every token is an uncached one."""
    sizes = [item.size_bytes for item in (*opened.essays, *opened.anchors)]
    shared = prompt_bytes(prompt_of(opened, "", "", 0, text_of))
    size = shared + 2 * quantile(sizes, QUANTILE)
    most = opened.judge.max_output_tokens
    answer = ANSWER_TOKENS if most <= MAX_PLAIN_ANSWER_TOKENS else REASONING_TOKENS
    tokens = TokenUsage(
        input=math.ceil(size / BYTES_PER_TOKEN),
        cache_write=0,
        cache_read=0,
        output=min(answer, most),
        reasoning=0,
    )
    return _estimate(opened, tokens)


def revised_estimate(run: Run) -> Estimate | None:
    """The estimate from the answers of wave 1; None if none of them says what it used."""
    answers = [one.answer for one in run.waves[0].comparisons] if run.waves else []
    used = [answer.usage for answer in answers if answer is not None and answer.usage is not None]
    return _estimate(run.opened, _typical(used)) if used else None


def estimate_document(estimate: Estimate) -> dict[str, Any]:
    """The estimate as JSON: money in US dollars as exact texts, null if no price is known."""
    judge = estimate.judge
    return {
        "provider": judge.provider,
        "model": judge.model,
        "price_id": judge.price_id,
        "items": estimate.items,
        "comparisons": estimate.comparisons,
        "comparisons_max": estimate.comparisons_max,
        "tokens_per_call": asdict(estimate.tokens),
        "classes": [_class_document(estimate, name, judge.prices) for name in CLASSES],
        "cost_usd": usd_of(estimate.cost_pusd),
        "cost_max_usd": usd_of(estimate.cost_max_pusd),
    }


def quantile(values: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _estimate(opened: JudgingOpened, tokens: TokenUsage) -> Estimate:
    items = len(opened.essays) + len(opened.anchors)
    return Estimate(
        judge=opened.judge,
        items=items,
        comparisons=min(math.ceil(COMPARISONS_PER_ITEM * items), opened.max_comparisons),
        comparisons_max=opened.max_comparisons,
        tokens=tokens,
    )


def _typical(used: Sequence[TokenUsage]) -> TokenUsage:
    """The call at the 0.9 quantile of input, with the shares of its classes over all calls."""
    inputs = [usage.input + usage.cache_write + usage.cache_read for usage in used]
    total, large = sum(inputs), quantile(inputs, QUANTILE)

    def share(name: str) -> int:
        of_class = sum(getattr(usage, name) for usage in used)
        return math.ceil(large * of_class / total) if total else 0

    return TokenUsage(
        input=share("input"),
        cache_write=share("cache_write"),
        cache_read=share("cache_read"),
        output=quantile([usage.output for usage in used], QUANTILE),
        reasoning=quantile([usage.reasoning for usage in used], QUANTILE),
    )


def _class_document(estimate: Estimate, name: str, prices: TokenPrices | None) -> dict[str, Any]:
    per_call: int = getattr(estimate.tokens, name)
    price: int | None = getattr(prices, name) if prices else None

    def cost(comparisons: int) -> str | None:
        return usd_of(None if price is None else comparisons * per_call * price)

    return {
        "class": name,
        "tokens": estimate.comparisons * per_call,
        "tokens_max": estimate.comparisons_max * per_call,
        "cost_usd": cost(estimate.comparisons),
        "cost_max_usd": cost(estimate.comparisons_max),
    }
