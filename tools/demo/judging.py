"""The demo's research run: essays of known quality, a faulty judge that is killed midway, and what came out."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import correlation
from time import monotonic
from typing import Any

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, coordinates_from
from schemas.errors import CJStreamError
from schemas.judging_events import CallAnswered, CJBatchJudged, JudgingEvent
from schemas.models import PUSD_PER_USD
from schemas.scales import get_scale
from tables.judging.run import Run, fold
from tools.admin.dev_token import dev_token
from tools.demo.essays import KnownEssay, essays_of_known_quality
from tools.processes import Say, child_command, running, started, wait_for_judge
from tools.runner.publish import REQUEST
from tools.runner.run_folder import REPORT, RunFolder

PUPILS, ANCHORS = 30, 12
LABEL = "demo"
SCALE = "swedish_8_anchor"
TEXTS = {
    "instructions": "Count the reasons that are supported by an example or a figure.",
    "prompt": "Your town wants to close the youth centre. Write a letter to the editor.",
}
KILLED_AFTER = 80  # answers
PATIENCE_S = 60.0
FAULTS = {
    "latency_s": 0.02,
    "rate_limited": 0.004,
    "server_error": 0.005,
    "timeout": 0.003,
    "garbage": 0.02,
}
CALL_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """The result of the batch, the run as its records tell it, and the report on it."""

    essays: list[KnownEssay]
    result: CJBatchJudged
    run: Run
    request_at: Coordinates
    report_file: Path
    judged_in_s: float
    seconds: float  # with the start of its processes, and the report

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
            "anchors": len(result.anchors),
            "grades": result.grading and result.grading.status,
            "pupils_by_grade": dict(
                Counter(sorted(essay.grade or "none" for essay in result.essays))
            ),
            "cost_usd": (result.cost.spent_pusd or 0) / PUSD_PER_USD,
            "judged_in_s": round(self.judged_in_s, 1),
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
                f" its true rank is {true_rank[essay.essay_id]}; its grade is {essay.grade}"
                f" ({essay.grade_probability or 0:.0%})"
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
        essays = essays_of_known_quality(PUPILS + ANCHORS, seed=7)
        self.anchors = _spread(essays)
        self.essays = [essay for essay in essays if essay not in self.anchors]
        thetas = {essay.storage_id: essay.theta for essay in essays}
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

    def play(self, api: str) -> JudgedBatch:
        """Execute a research run; its judge is killed on the way. Raises CJStreamError."""
        started_at = monotonic()
        topics, folder = self._settings.topics, RunFolder(self._settings.data_dir / "run")
        logs = self._settings.partitions_of(topics.judging, topics.results)
        with LogReader(self._settings, logs) as log:
            log.seek(dict.fromkeys(logs, 0))
            reading = _Reading(log, self._codec)
            with started("judge", self._settings, self._say) as judge:
                wait_for_judge(self._settings, judge)
                with self._runner(api, folder) as runner:
                    self._until(lambda: reading.answers >= KILLED_AFTER, reading, judge, runner)
                    judge.kill()
                    judge.wait()
                    killed = f"the judge is killed after {reading.answers} answers"
                    self._say(f"{killed}, and starts again")
                    with running("judge", self._settings, self._say) as judge:
                        self._until(lambda: reading.result is not None, reading, judge)
                        self._until(lambda: runner.poll() is not None, reading, judge)
                        if runner.returncode:
                            raise CJStreamError(f"the research run ended with {runner.returncode}")
        assert reading.result is not None
        assert reading.run is not None
        return JudgedBatch(
            self.essays,
            reading.result,
            reading.run,
            coordinates_from(folder.facts_of(REQUEST)["at"]),
            folder.path / REPORT,
            reading.judged_in_s,
            monotonic() - started_at,
        )

    def _runner(
        self, api: str, folder: RunFolder
    ) -> "AbstractContextManager[subprocess.Popen[bytes]]":
        """`run execute` on the essays and anchors, as a process."""
        root = self._settings.data_dir / "research"
        self._write_inputs(root)
        options = ("--scale", SCALE, "--label", LABEL, "--folder", str(folder.path))
        execute = ("run", "execute", "--root", str(root), *options, "--base-url", api)
        token = {"CJ_ADMIN_TOKEN": dev_token(LABEL, environment=self._settings.environment)}
        return started("research-run", self._settings, self._say, child_command(*execute), token)

    def _write_inputs(self, root: Path) -> None:
        """The texts of the run as files, and the grades of the anchors."""
        grades = get_scale(SCALE).grades
        rows = ["anchor_id,grade"]
        files = {f"{name}.txt": text for name, text in TEXTS.items()}
        for number, anchor in enumerate(self.anchors):
            name = f"anchor-{number + 1:02d}"
            files[f"anchors/{name}.txt"] = anchor.text
            rows.append(f"{name},{grades[number * len(grades) // ANCHORS]}")
        files["grades.csv"] = "\n".join(rows)
        files |= {f"students/{essay.essay_id}.txt": essay.text for essay in self.essays}
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")

    def _until(
        self,
        condition: Callable[[], bool],
        reading: "_Reading",
        *needed: "subprocess.Popen[bytes]",
    ) -> None:
        """Wait while these processes run. Raises CJStreamError."""
        deadline = monotonic() + PATIENCE_S
        while not condition():
            reading.read()
            for process in needed:
                if process.poll() is not None:
                    raise CJStreamError(
                        f"the judge or the research run ended by itself: {process.returncode}"
                    )
            if monotonic() > deadline:
                raise CJStreamError(f"the batch is not judged after {PATIENCE_S:g} s")


def _spread(essays: list[KnownEssay]) -> list[KnownEssay]:
    """The anchors: essays at equal distances in the order of their quality, the worst first."""
    ordered, step = sorted(essays, key=lambda essay: essay.theta), len(essays) / ANCHORS
    return [ordered[int((number + 0.5) * step)] for number in range(ANCHORS)]


class _Reading:
    """The run and the result of the batch, as the committed log tells them."""

    def __init__(self, log: LogReader, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        self.run: Run | None = None
        self.result: CJBatchJudged | None = None
        self.answers = 0
        self.opened_at_ms = self.judged_at_ms = 0

    @property
    def judged_in_s(self) -> float:
        """From the first record of the run to its result, by the times of the log."""
        return (self.judged_at_ms - self.opened_at_ms) / 1000

    def read(self) -> None:
        """Read what is new."""
        for record in self._log.read():
            event = self._codec.decode(record.value)
            if isinstance(event, CJBatchJudged):
                self.result, self.judged_at_ms = event, record.appended_at_ms
            elif isinstance(event, JudgingEvent):
                self.opened_at_ms = self.opened_at_ms or record.appended_at_ms
                self.run = fold(self.run, event)
                self.answers += isinstance(event, CallAnswered)
