"""The demo's judging: a batch of essays of known quality, a faulty judge that is killed midway, and what came out."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import correlation
from time import monotonic
from typing import Any

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import CJStreamError
from schemas.judging_events import CallAnswered, CJBatchJudged, JudgingEvent
from schemas.models import PUSD_PER_USD
from tables.judging.run import Run, fold
from tools.demo.essays import KnownEssay, essays_of_known_quality
from tools.processes import Say, running, started, wait_for_judge

ESSAYS = 30
BATCH = "eng5-judged"
ASSIGNMENT = "eng5-letter-to-the-editor"
KILLED_AFTER = 80  # answers
PATIENCE_S = 60.0
FAULTS = {
    "latency_s": 0.02,
    "rate_limited": 0.01,
    "server_error": 0.01,
    "timeout": 0.003,
    "garbage": 0.04,
}
CALL_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """The result of the batch, and the run as its records tell it."""

    essays: list[KnownEssay]
    result: CJBatchJudged
    run: Run
    seconds: float

    def report(self) -> dict[str, Any]:
        """What is shown; r2 is the squared correlation of the published scores with the known qualities."""
        result = self.result
        scores = {essay.essay_id: essay.theta for essay in result.essays}
        pairs = [(scores.get(essay.essay_id) or 0, essay.theta) for essay in self.essays]
        true_r2 = correlation(*zip(*pairs, strict=True)) ** 2 if any(scores.values()) else None
        reliability = result.reliability
        in_doubt = sum(
            attempt.is_in_doubt for one in self.run.comparisons for attempt in one.attempts
        )
        return {
            "essays": len(result.essays),
            "outcome": result.outcome,
            "reason": result.reason,
            "comparisons": result.counts.answered,
            "calls": result.counts.calls,
            "failed": {count.reason: count.calls for count in result.counts.failed},
            "in_doubt": in_doubt,  # calls in flight at the kill, and timeouts
            "claimed_r2": reliability and round(reliability.pr, 3),
            "claimed_r2_at_least": reliability and round(reliability.bound, 3),
            "true_r2": true_r2 and round(true_r2, 3),
            "cost_usd": (result.cost.spent_pusd or 0) / PUSD_PER_USD,
            "seconds": round(self.seconds, 1),
        }

    def explain(self, say: Say) -> None:
        """Tell some ranks beside the true ones, and why the first essay is the first."""
        by_quality = sorted(self.essays, key=lambda essay: essay.theta, reverse=True)
        true_rank = {essay.essay_id: rank for rank, essay in enumerate(by_quality, 1)}
        ranked = sorted(self.result.essays, key=lambda essay: essay.rank or len(self.essays))
        for essay in (*ranked[:2], ranked[len(ranked) // 2], ranked[-1]):
            say(
                f"{essay.essay_id} has rank {essay.rank} ({essay.rank_low} to {essay.rank_high} with 90 %),"
                f" its true rank is {true_rank[essay.essay_id]}"
            )
        best = ranked[0]
        won, lost = self._opponents(best.essay_id)
        beaten_by = f", not to {', '.join(lost)}" if lost else ""
        say(f"{best.essay_id} was preferred to {', '.join(won)}{beaten_by}")

    def _opponents(self, essay_id: str) -> tuple[list[str], list[str]]:
        """The essays that it won and lost against, each once."""
        won, lost = dict[str, None](), dict[str, None]()
        for one in self.run.comparisons:
            if (answer := one.answer) is None or essay_id not in (
                answer.first_id,
                answer.second_id,
            ):
                continue
            is_first = answer.first_id == essay_id
            other = answer.second_id if is_first else answer.first_id
            (won if is_first == (answer.winner == "first") else lost)[other] = None
        return list(won), list(lost)


class Judging:
    """Judges one batch while the worker runs."""

    def __init__(self, settings: Settings, codec: Codec, say: Say) -> None:
        self.essays = essays_of_known_quality(ESSAYS, seed=7)
        thetas = {essay.storage_id: essay.theta for essay in self.essays}
        self._settings = settings.model_copy(
            update={
                "judge": "simulated/sim-1",
                "judge_first_start": "end",  # the other batches name texts that do not exist
                "simulated_judge": json.dumps({**FAULTS, "thetas": thetas}),
                "call_timeout_s": CALL_TIMEOUT_S,
            }
        )
        self._codec = codec
        self._say = say

    def play(self, send: Callable[[Path], None]) -> JudgedBatch:
        """Send the batch and let it be judged; the judge is killed on the way. Raises CJStreamError."""
        started_at = monotonic()
        topics = self._settings.topics
        logs = self._settings.partitions_of(topics.judging, topics.results)
        with LogReader(self._settings, logs) as log:
            log.seek(dict.fromkeys(logs, 0))
            reading = _Reading(log, self._codec)
            with started("judge", self._settings, self._say) as judge:
                wait_for_judge(self._settings, judge)
                send(self._write_batch())
                self._until(lambda: reading.answers >= KILLED_AFTER, reading, judge)
                judge.kill()
                judge.wait()
                self._say(f"the judge is killed after {reading.answers} answers, and starts again")
            with running("judge", self._settings, self._say) as judge:
                self._until(lambda: reading.result is not None, reading, judge)
        assert reading.result is not None
        assert reading.run is not None
        return JudgedBatch(self.essays, reading.result, reading.run, monotonic() - started_at)

    def _write_batch(self) -> Path:
        """The request with the texts of its essays, as a file for `requests send`."""
        request = {
            "batch_id": BATCH,
            "assignment_id": ASSIGNMENT,
            "course_code": "ENG5",
            "language": "en",
            "essays": [{"essay_id": essay.essay_id, "text": essay.text} for essay in self.essays],
        }
        path = self._settings.data_dir / f"{BATCH}.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        return path

    def _until(
        self, condition: Callable[[], bool], reading: "_Reading", judge: "subprocess.Popen[bytes]"
    ) -> None:
        deadline = monotonic() + PATIENCE_S
        while not condition():
            reading.read()
            if judge.poll() is not None:
                raise CJStreamError(f"the judge ended by itself: {judge.returncode}")
            if monotonic() > deadline:
                raise CJStreamError(f"the batch is not judged after {PATIENCE_S:g} s")


class _Reading:
    """The run and the result of the batch, as the committed log tells them."""

    def __init__(self, log: LogReader, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        self.run: Run | None = None
        self.result: CJBatchJudged | None = None
        self.answers = 0

    def read(self) -> None:
        """Read what is new."""
        for record in self._log.read():
            event = self._codec.decode(record.value)
            if isinstance(event, CJBatchJudged) and event.batch_id == BATCH:
                self.result = event
            elif isinstance(event, JudgingEvent):
                self.run = fold(self.run, event)
                self.answers += isinstance(event, CallAnswered)
