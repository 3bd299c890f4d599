"""The input of a measurement of the join, by its numbers."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Shape:
    """How many requests, of how many essays, for how many contexts."""

    requests: int = 600_000  # measured ones
    # requests before and after them, which are joined and checked, too. Before: after 200,000, Java's compiler still
    # takes a third of the CPU time of `splicing-streams`. After: at the end, all is fetched already
    warm_up: int = 600_000
    cool_down: int = 100_000
    contexts: int = 10_000  # each of two uploads: instructions and student prompt
    essays: int = 10
    zipf: float = 0.0  # exponent of the frequencies of contexts; 0: all equally frequent

    @property
    def total(self) -> int:
        """The number of requests in the log."""
        return self.warm_up + self.requests + self.cool_down

    def scaled(self, factor: float) -> Self:
        """The same with fewer requests."""
        return replace(
            self,
            requests=max(1, round(self.requests * factor)),
            warm_up=max(1, round(self.warm_up * factor)),
            cool_down=round(self.cool_down * factor),
        )


DEFAULT = Shape()
