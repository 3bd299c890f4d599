"""What is measured of each batch. A process without metrics measures nothing."""

from typing import Literal, Protocol

from processors.exactly_once.batch import Batch

Stage = Literal["fetch", "wait_for_uploads", "prepare", "produce", "commit"]
Result = Literal["committed", "aborted", "fenced"]


class Observer(Protocol):
    """Gets figures once per batch, never per record; any thread may call it."""

    def took(self, stage: Stage, seconds: float) -> None:
        """Note how long a stage of one batch took."""

    def ended(self, batch: Batch, result: Result) -> None:
        """Note how the transaction of a batch ended."""


class NoObserver:
    """The observer of a process without metrics."""

    def took(self, stage: Stage, seconds: float) -> None:
        pass

    def ended(self, batch: Batch, result: Result) -> None:
        pass
