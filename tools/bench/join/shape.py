"""The input of a measurement of the join, by its numbers."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Shape:
    """How many requests, of how many essays, for how many contexts."""

    requests: int = 600_000  # measured ones
    warm_up: int = 200_000  # requests before them, which are joined and checked but not measured
    contexts: int = 10_000  # each of two uploads: instructions and student prompt
    essays: int = 10
    zipf: float = 0.0  # exponent of the frequencies of contexts; 0: all equally frequent

    @property
    def total(self) -> int:
        """The number of requests in the log."""
        return self.warm_up + self.requests

    def scaled(self, factor: float) -> Self:
        """The same with fewer requests."""
        return replace(
            self,
            requests=max(1, round(self.requests * factor)),
            warm_up=max(1, round(self.warm_up * factor)),
        )


DEFAULT = Shape()
