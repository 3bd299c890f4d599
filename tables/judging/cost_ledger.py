"""What a run has spent, in integer pico-dollars: sums are exact.

spent + in_doubt + reserved <= max_cost after every record, so that no answer can take a run over its budget.
"""

from dataclasses import dataclass, replace

from schemas.judging_events import TokenPrices, TokenUsage

REQUEST_OVERHEAD_BYTES = 1024
NO_TOKENS = TokenUsage(input=0, cache_write=0, cache_read=0, output=0, reasoning=0)


def cost_pusd(usage: TokenUsage, prices: TokenPrices) -> int:
    """The cost of one call; reasoning tokens are part of the output."""
    return (
        usage.input * prices.input
        + usage.cache_write * prices.cache_write
        + usage.cache_read * prices.cache_read
        + usage.output * prices.output
    )


def bound_pusd(request_bytes: int, max_output_tokens: int, prices: TokenPrices) -> int:
    """The highest possible cost of a call: a token has at least one byte."""
    dearest_input = max(prices.input, prices.cache_write, prices.cache_read)
    tokens = request_bytes + REQUEST_OVERHEAD_BYTES
    return tokens * dearest_input + max_output_tokens * prices.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """reserved: bounds of the open calls; in_doubt: bounds of calls that may or may not have been paid."""

    max_cost_pusd: int | None = None
    spent_pusd: int = 0
    in_doubt_pusd: int = 0
    reserved_pusd: int = 0
    unknown_calls: int = 0  # without usage or cost, counted at their bound
    tokens: TokenUsage = NO_TOKENS

    @property
    def committed_pusd(self) -> int:
        """What the run may have cost at most."""
        return self.spent_pusd + self.in_doubt_pusd + self.reserved_pusd

    def fits(self, bound: int | None) -> bool:
        """Whether a call with this bound may be intended; with a budget, an unknown bound never fits."""
        if self.max_cost_pusd is None:
            return True
        return bound is not None and self.committed_pusd + bound <= self.max_cost_pusd

    def reserve(self, bound: int | None) -> "Ledger":
        """After a call was intended."""
        return replace(self, reserved_pusd=self.reserved_pusd + (bound or 0))

    def doubt(self, bound: int | None) -> "Ledger":
        """After an open call turned out to be lost from sight: a process ended, or a call timed out."""
        return replace(
            self,
            reserved_pusd=self.reserved_pusd - (bound or 0),
            in_doubt_pusd=self.in_doubt_pusd + (bound or 0),
        )

    def resolve(self, bound: int | None) -> "Ledger":
        """After a call in doubt did have an outcome: it is open again, to be paid."""
        return replace(
            self,
            reserved_pusd=self.reserved_pusd + (bound or 0),
            in_doubt_pusd=self.in_doubt_pusd - (bound or 0),
        )

    def pay(self, bound: int | None, cost: int | None, usage: TokenUsage | None) -> "Ledger":
        """After an outcome of an open call; an unknown cost counts as the bound."""
        return replace(
            self,
            reserved_pusd=self.reserved_pusd - (bound or 0),
            spent_pusd=self.spent_pusd + ((bound or 0) if cost is None else cost),
            unknown_calls=self.unknown_calls + (cost is None),
            tokens=self.tokens if usage is None else _added(self.tokens, usage),
        )


def _added(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    return TokenUsage(
        input=one.input + other.input,
        cache_write=one.cache_write + other.cache_write,
        cache_read=one.cache_read + other.cache_read,
        output=one.output + other.output,
        reasoning=one.reasoning + other.reasoning,
    )
