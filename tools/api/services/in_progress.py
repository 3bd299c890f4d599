"""How much may be in progress at the same time: of each subject, and in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tools.api.errors.problems import Problem


class InProgress:
    """Counts what is in progress; used only in the event loop. `what` is for the detail of the problem."""

    def __init__(
        self, what: str, *, per_subject: int, per_process: int, retry_after_s: int
    ) -> None:
        self._what = what
        self._per_subject = per_subject
        self._per_process = per_process
        self._retry_after = {"Retry-After": str(retry_after_s)}
        self._by_subject = Counter[str]()

    @property
    def total(self) -> int:
        """How many are in progress in this process."""
        return self._by_subject.total()

    @contextmanager
    def one(self, subject: str) -> Iterator[None]:
        """Count one while the block runs. Raises 429 if there are too many already."""
        if self._by_subject[subject] >= self._per_subject:
            raise self._refusal(f"more than {self._per_subject} {self._what} at the same time")
        if self.total >= self._per_process:
            raise self._refusal(f"this process already has {self._per_process} {self._what}")
        self._by_subject[subject] += 1
        try:
            yield
        finally:
            self._by_subject[subject] -= 1
            self._by_subject += Counter()  # forgets subjects that have none

    def _refusal(self, detail: str) -> Problem:
        return Problem("too-many-in-progress", detail, headers=self._retry_after)
