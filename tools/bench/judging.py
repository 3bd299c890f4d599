"""`cjstream bench judging`: how fast one judge process judges, without any latency of its judge."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from time import monotonic

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.log.reader import LogReader
from processors.outcomes.outcome_builder import outcome_of
from processors.outcomes.resolve import Prepared
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import CJStreamError
from schemas.events import AssignmentContext, CJAssessmentRequested, Essay
from schemas.judging_events import CJBatchJudged
from tables.content_store import ContentStore
from tools.bench.events import now_ms
from tools.bench.join.resources import Samples, sampling
from tools.bench.judging_engine import engine_times
from tools.bench.percentiles import Figures
from tools.bench.processes import WAIT_S
from tools.demo.essays import KnownEssay, essays_of_known_quality
from tools.installation import installation_and_broker
from tools.processes import Say, running, wait_for_judge

LETTERS = 4  # of the template in one essay: about 2 KB, as pupils write


@dataclass(frozen=True, slots=True)
class Measured:
    """Some batches judged at once: from their append until the last result is committed."""

    runs: int
    answers: int
    seconds: float
    answers_per_s: int
    cpu_ms_per_answer: float
    reliable: int  # runs
    comparisons_per_essay: float


def run(say: Say, *, essays: int, runs: int, rounds: int) -> Figures:
    """Measure single batches, then `runs` batches at once, each `rounds` times; then the engine alone."""
    known = essays_of_known_quality(essays, seed=3)
    thetas = {_storage_id(essay): essay.theta for essay in known}
    judge = {
        "judge": "simulated/sim-1",
        "judge_first_start": "beginning",
        "judge_runs_max": max(16, runs),
        "simulated_judge": json.dumps({"thetas": thetas}),
        "slot": "bench",
        "environment": "development",
    }
    with installation_and_broker(say, **judge) as (settings, broker):
        store = ContentStore.open(settings.content)
        for essay in known:
            store.put(_text(essay).encode())
        results = settings.partitions_of(settings.topics.results)
        with running("judge", settings, say) as process, LogReader(settings, results) as log:
            log.seek(dict.fromkeys(results, 0))
            with sampling([process.pid], broker.pid or 0) as samples:
                bench = _Bench(settings, Codec(), log, process, samples, [*thetas])
                bench.judge(1)  # the first call of each numeric function is slow
                one = [bench.judge(1) for _ in range(rounds)]
                together = [bench.judge(runs) for _ in range(rounds)]
    return {
        "essays": essays,
        "essay_bytes": round(sum(len(_text(essay).encode()) for essay in known) / essays),
        "one_run": _summary(one),
        "runs_at_once": _summary(together),
        "engine_cpu_by_essays": engine_times(),
    }


class _Bench:
    """A running judge, and the batches that it is given."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        log: LogReader,
        process: "subprocess.Popen[bytes]",
        samples: Samples,
        storage_ids: Sequence[str],
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._log = log
        self._process = process
        self._samples = samples
        self._storage_ids = storage_ids
        self._batches = 0
        wait_for_judge(settings, process)

    def judge(self, count: int) -> Measured:
        """Append prepared batches and wait for their results."""
        records = [self._batch(self._batches + number) for number in range(count)]
        self._batches += count
        started_ms, started_at = now_ms(), monotonic()
        deliver(plain_producer(self._settings), records)
        results = list[CJBatchJudged]()
        while len(results) < count:
            results += [
                self._codec.decode_as(CJBatchJudged, record.value) for record in self._log.read()
            ]
            if self._process.poll() is not None or monotonic() - started_at > WAIT_S:
                raise CJStreamError("the judge ended, or judges too slowly to be measured")
        seconds = monotonic() - started_at
        cpu_s, _ = self._samples.cpu_s(started_ms, now_ms())
        answers = sum(result.counts.answered for result in results)
        return Measured(
            runs=count,
            answers=answers,
            seconds=round(seconds, 2),
            answers_per_s=round(answers / seconds),
            cpu_ms_per_answer=round(1000 * cpu_s / answers, 2),
            reliable=sum(result.reason == "reliable" for result in results),
            comparisons_per_essay=round(2 * answers / count / len(self._storage_ids), 1),
        )

    def _batch(self, number: int) -> Record:
        """A prepared batch of a guest; the batches go round the partitions."""
        request = CJAssessmentRequested(
            event_id=f"request-{number}",
            occurred_at_ms=0,
            source_service="bench",
            correlation_id="bench",
            batch_id=f"batch-{number}",
            assignment_id=None,
            course_code="ENG5",
            language="en",
            student_prompt_ref=None,
            user_id=None,
            org_id=None,
            llm_config_overrides=None,
            essays=tuple(
                Essay(essay_id=f"essay-{n}", text_storage_id=storage_id)
                for n, storage_id in enumerate(self._storage_ids)
            ),
        )
        partition = number % self._settings.partitions
        at = Coordinates(self._settings.topics.requests.name, partition, number)
        guest: Prepared[AssignmentContext] = Prepared("guest", None)
        value = self._codec.encode(outcome_of(request, at, guest))
        key = request.batch_id.encode()
        return Record(self._settings.topics.batches.name, partition, key, value)


def _summary(measured: Sequence[Measured]) -> Mapping[str, object]:
    """The measurement with the median rate, and the rates of all."""
    ordered = sorted(measured, key=lambda one: one.answers_per_s)
    return {
        **asdict(ordered[len(ordered) // 2]),
        "all_answers_per_s": [one.answers_per_s for one in measured],
        "all_seconds": [one.seconds for one in measured],
    }


def _text(essay: KnownEssay) -> str:
    return "\n\n".join([essay.text] * LETTERS)


def _storage_id(essay: KnownEssay) -> str:
    return sha256(_text(essay).encode()).hexdigest()
