"""A collected run, folded: what was judged, the scores after each wave, and the result. Pure."""

from dataclasses import dataclass

from schemas.coordinates import Coordinates
from schemas.errors import Discrepancy
from schemas.judging_events import CallAnswered, CallFailed, CJBatchJudged, WavePlanned
from tables.judging.cost_ledger import Ledger
from tables.judging.result import result_of
from tables.judging.run import Run, fold
from tables.judging.stopping_rule import Stop, WaveScores
from tools.runner.collected_run import CollectedRun

NOT_FINISHED = Stop("partial", "not_finished")


@dataclass(frozen=True)
class WaveEnd:
    """A run when its next wave was planned, or after its last record. scores are computed when asked for."""

    run: Run
    planned_at_ms: int

    @property
    def scores(self) -> WaveScores:
        return self.run.scores

    @property
    def ledger(self) -> Ledger:
        return self.run.ledger


@dataclass(frozen=True)
class JudgedRun:
    """run: None if nothing was judged. result: None if there are no scores at all.

    is_provisional: the run has no result yet; its scores are those of the answers so far.
    at: coordinates of the outcome of each call, by comparison and attempt.
    """

    run: Run | None
    waves: tuple[WaveEnd, ...]
    result: CJBatchJudged | None
    is_provisional: bool
    at: dict[tuple[int, int], Coordinates]


def judged_run(collected: CollectedRun) -> JudgedRun:
    """Fold the records of a run. Raises Discrepancy, which names the record."""
    run: Run | None = None
    planned_at_ms = list[int]()
    ends = list[Run]()
    at = dict[tuple[int, int], Coordinates]()
    for record in collected.judging:
        event = record.event
        if isinstance(event, WavePlanned):
            planned_at_ms.append(record.appended_at_ms)
            if run is not None and run.waves:
                ends.append(run)
        try:
            run = fold(run, event)
        except Discrepancy as fault:
            raise Discrepancy(f"{record.at}: {fault}") from fault
        if isinstance(event, CallAnswered | CallFailed):
            at[event.number, event.attempt] = record.at
    if run is not None and run.waves:
        ends.append(run)
    waves = tuple(map(WaveEnd, ends, planned_at_ms))
    is_provisional = collected.result is None
    result = collected.result.event if collected.result else None
    if result is None and run is not None:
        result = result_of(run, NOT_FINISHED)
    return JudgedRun(run, waves, result, is_provisional, at)
