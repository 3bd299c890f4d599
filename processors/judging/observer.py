"""What is measured of a judge process. A process without metrics measures nothing."""

from typing import NamedTuple, Protocol

from schemas.judging_events import CallAnswered, CallFailed, CJBatchJudged


class CommittedCall(NamedTuple):
    """The outcome of a call; provider and model as they were asked."""

    provider: str
    model: str
    record: CallAnswered | CallFailed


class CommittedResult(NamedTuple):
    """The result of a batch. None for one that was refused: how long its run took, and whom it asked."""

    result: CJBatchJudged
    seconds: float | None = None
    provider: str | None = None


class JudgingObserver(Protocol):
    """Gets figures once per cycle and per commit."""

    def cycle_took(self, seconds: float) -> None:
        """Note how long a cycle took, without its wait for records."""

    def committed_call(self, call: CommittedCall) -> None:
        """Note the committed outcome of a call."""

    def committed_result(self, result: CommittedResult) -> None:
        """Note a committed result."""


class NoJudgingObserver:
    """The observer of a process without metrics."""

    def cycle_took(self, seconds: float) -> None:
        pass

    def committed_call(self, call: CommittedCall) -> None:
        pass

    def committed_result(self, result: CommittedResult) -> None:
        pass
