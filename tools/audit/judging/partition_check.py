"""The judging of one partition: its runs, its results, and one of them for each prepared batch.

Memory holds some 300 bytes for each batch and each run that has stopped, and the open runs.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from processors.judging.record_checksum import has_its_checksum
from processors.judging.run_items import NO_ANCHORS, usable_anchors
from processors.judging.run_opening import PreparedBatch, context_of, refusal_of
from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog, judging_event_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import BadRecord, UnknownSchema
from schemas.events import CJBatchPrepared
from schemas.judging_events import CJBatchJudged, JudgingEvent, JudgingOpened, JudgingStopped
from tables.content_store import ContentStore
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation
from tools.audit.judging.anchors_as_of import AnchorsAsOf
from tools.audit.judging.judging_range import JudgingRange
from tools.audit.judging.kept_texts import KeptTexts
from tools.audit.judging.run_check import (
    RunCheck,
    check_without_overrides,
    differs_by_rounding,
    result_sha256,
)

PORTION = 1000  # records


@dataclass(frozen=True, slots=True)
class Portion:
    """What a number of records brought to light."""

    records: int
    findings: list[Finding]


@dataclass(slots=True)
class _Batch:
    """A prepared batch, as far as its run and its result must agree with it."""

    offset: int
    facts: bytes
    key: bytes | None
    rubric: str | None
    has_overrides: bool
    is_judged: bool = False  # it has a result, or an open run


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A run that has stopped; remade: its result, if it has another checksum than the log says."""

    at: Coordinates
    key: bytes | None
    result_sha256: str
    is_sound: bool
    remade: CJBatchJudged | None


class JudgingCheck:
    """texts: None if neither texts nor responses are checked."""

    def __init__(
        self,
        log: JudgingLog,
        codec: Codec,
        judging_range: JudgingRange,
        number: int,
        texts: KeptTexts | None,
    ) -> None:
        self._log = log
        self._topics = log.settings.topics
        self._codec = codec
        self._range = judging_range
        self._number = number
        self._texts = texts
        self._anchors = AnchorsAsOf(log, codec)
        self._batches: dict[str, _Batch] = {}  # those that are chosen
        self._others: dict[str, int] = {}  # offsets of the other batches, by run
        self._others_judged = set[int]()  # offsets
        self._runs: dict[str, RunCheck] = {}
        self._stopped: dict[str, _Stopped] = {}
        self._judged = set[str]()  # runs with a result
        self._damaged = set[str]()  # runs with a record that cannot be read
        self._early: dict[str, LogRecord] = {}  # results of runs that stop behind the range

    def run(self) -> Iterator[Portion]:
        """Every finding. Raises Unreachable, Discrepancy."""
        if self._range.has_judging(self._topics, self._number):  # else batches need not be read
            yield from self._run()
        if self._range.chosen is None:
            yield Portion(0, [*self._damaged_anchors()])

    def _run(self) -> Iterator[Portion]:
        for topic, check in (
            (self._topics.batches.name, self._add_batch),
            (self._topics.judging.name, self._check_record),
            (self._topics.results.name, self._check_result),
        ):
            count, found = 0, list[Finding]()
            for record in self._records(topic):
                if topic == self._topics.judging.name and self._is_left_out(_run_id_of(record)):
                    continue
                count += 1
                found += check(record)
                if count == PORTION:
                    yield Portion(count, found)
                    count, found = 0, []
            yield Portion(count, found)
        yield Portion(0, [*self._check_early(), *self._check_stopped(), *self._check_batches()])

    def of_run(
        self, batch: LogRecord | None, records: Iterable[LogRecord], results: Iterable[LogRecord]
    ) -> Iterator[Finding]:
        """The findings of one run, from its records alone."""
        if batch is not None:
            yield from self._add_batch(batch)
        for record in records:
            yield from self._check_record(record)
        for record in results:
            yield from self._check_result(record)
        yield from self._check_early()
        yield from self._check_stopped()

    def _records(self, topic: str) -> Iterator[LogRecord]:
        partition, start, end = self._range.of(topic, self._number)
        if start < end:
            yield from self._log.records({partition: start}, {partition: end})

    def _add_batch(self, record: LogRecord) -> Iterator[Finding]:
        """Note a batch; `audit verify` has checked it already."""
        try:
            event = self._codec.decode_as(CJBatchPrepared, record.value)
        except BadRecord:
            return
        if self._range.chosen and not self._range.chosen.has(event):
            self._others.setdefault(event.event_id, record.at.offset)
            return
        self._batches.setdefault(
            event.event_id,
            _Batch(
                record.at.offset,
                _digest(_facts_of_batch(record, event)),
                record.key,
                event.processing_metadata.judge_rubric_storage_id,
                event.request.llm_config_overrides is not None,
            ),
        )
        yield from ()

    def _is_left_out(self, run_id: str) -> bool:
        """Whether a run's batch is not chosen; that it is judged tells where judging started."""
        if self._range.chosen is None or run_id in self._batches:
            return False
        if run_id in self._others:
            self._others_judged.add(self._others[run_id])
        return True

    def _check_record(self, record: LogRecord) -> Iterator[Finding]:
        """Check one record of the judging log."""
        run_id = _run_id_of(record)
        try:
            event = judging_event_of(record, self._codec)
        except BadRecord as fault:
            yield Violation("judging_record", record.at, f"it is no judging record: {fault}")
            self._damage(run_id)
            return
        if not has_its_checksum(record.value, record.headers):
            yield Violation(
                "altered", record.at, "its bytes do not have the checksum in its header"
            )
            self._damage(run_id)
            return
        if event.run_id in self._damaged:
            return
        yield from self._check_event(event, record.at)

    def _damage(self, run_id: str) -> None:
        """Stop checking a run: nothing that follows can be made again."""
        self._damaged.add(run_id)
        self._runs.pop(run_id, None)
        if run_id in self._batches:
            self._batches[run_id].is_judged = True

    def _check_event(self, event: JudgingEvent, at: Coordinates) -> Iterator[Finding]:
        run_id = event.run_id
        check = self._runs.get(run_id)
        if check is None and run_id in self._stopped:
            yield Violation(
                "contradiction", at, f"run {run_id} has stopped at {self._stopped[run_id].at}"
            )
            return
        if check is None and not isinstance(event, JudgingOpened):
            yield from self._without_opening(event, at)
            return
        if check is None:
            assert isinstance(event, JudgingOpened)
            check = self._runs[run_id] = RunCheck(event, at, self._codec, self._texts)
            yield from self._check_opening(event, at)
        yield from check.check(event, at)
        if isinstance(event, JudgingStopped):
            self._stop(check, event, at)

    def _without_opening(self, event: JudgingEvent, at: Coordinates) -> Iterator[Finding]:
        if self._range.of(at.topic, at.partition)[1] > 0:
            sentence = f"the log no longer has the first record of run {event.run_id}"
            yield NotVerifiable("run_gone", at, sentence)
            if isinstance(event, JudgingStopped):
                self._stopped[event.run_id] = _Stopped(at, None, event.result_sha256, False, None)
            return
        yield Violation("contradiction", at, f"run {event.run_id} was never opened")

    def _check_opening(self, event: JudgingOpened, at: Coordinates) -> Iterator[Finding]:
        batch = self._batches.get(event.run_id)
        if batch is None:
            if event.batch.offset < self._range.of(self._topics.batches.name, self._number)[1]:
                sentence = f"its batch {event.batch} is no longer in the log"
                yield NotVerifiable("batch_gone", at, sentence)
            else:
                yield Violation("no_batch", at, f"there is no batch of run {event.run_id}")
            return
        batch.is_judged = True
        yield from self._check_anchors(event, at)
        if _digest(_facts_of_run(event)) != batch.facts:
            yield Violation("wrong_opening", at, f"it differs from its batch {event.batch}")
        elif not batch.has_overrides:
            yield from check_without_overrides(event, batch.rubric, at)

    def _check_anchors(self, event: JudgingOpened, at: Coordinates) -> Iterator[Finding]:
        """The anchors of a run are those that were live where it looked, of its batch's grade scale."""
        context, found = event.context, NO_ANCHORS
        if context.assignment_id is not None and context.grade_scale is not None:
            found = self._anchors.find(context.assignment_id, event.anchors_position)
        wanted = tuple(
            (anchor.anchor_id, anchor.grade, anchor.storage_id)
            for anchor in usable_anchors(found, context.grade_scale)
        )
        taken = tuple((anchor.id, anchor.grade, anchor.storage_id) for anchor in event.anchors)
        if (found.source, wanted) != (event.anchors_from, taken):
            sentence = f"at position {event.anchors_position}, its assignment had other anchors"
            yield Violation("wrong_anchors", at, sentence)

    def _damaged_anchors(self) -> Iterator[Finding]:
        """Records of the anchors topic that judges skip: no worker reads it, so that nothing else names them."""
        for at, fault in self._anchors.damaged(self._number):
            kind = NotVerifiable if isinstance(fault, UnknownSchema) else Note
            yield kind("anchors_record", at, f"it is no upload of anchors: {fault}")

    def _stop(self, check: RunCheck, event: JudgingStopped, at: Coordinates) -> None:
        is_same = check.made_sha256 == event.result_sha256
        opened = check.run.opened if check.run else None
        self._stopped[event.run_id] = _Stopped(
            at,
            opened.batch_key if opened else None,
            event.result_sha256,
            check.is_sound,
            None if is_same else check.result,
        )
        del self._runs[event.run_id]

    def _check_result(self, record: LogRecord) -> Iterator[Finding]:
        """Check one result."""
        try:
            result = self._codec.decode_as(CJBatchJudged, record.value)
        except BadRecord as fault:
            yield Violation("result_record", record.at, f"it is no result: {fault}")
            return
        if self._is_left_out(result.run_id):
            return
        if not has_its_checksum(record.value, record.headers):
            yield Violation(
                "altered", record.at, "its bytes do not have the checksum in its header"
            )
            self._judged.add(result.run_id)
            return
        batch = self._batches.get(result.run_id)
        if result.run_id in self._judged:
            yield Violation("judged_twice", record.at, f"run {result.run_id} has another result")
            return
        self._judged.add(result.run_id)
        if batch is not None:
            batch.is_judged = True
        stopped = self._stopped.get(result.run_id)
        if stopped is not None:
            yield from _check_against_run(record, result, stopped)
        elif result.run_id in self._damaged:
            return
        elif result.provenance.judging is None:
            yield from self._check_refusal(record, result)
        elif (
            result.provenance.judging.start
            < self._range.of(self._topics.judging.name, self._number)[1]
        ):
            sentence = f"the log no longer has the records of run {result.run_id}"
            yield NotVerifiable("run_gone", record.at, sentence)
        else:
            self._early[result.run_id] = record

    def _check_refusal(self, record: LogRecord, result: CJBatchJudged) -> Iterator[Finding]:
        """A refusal is made again from its batch; its reason is a fact of that time."""
        at = result.provenance.batch
        found = next(iter(self._log.records_at([at])), None)
        if found is None:
            yield NotVerifiable("batch_gone", record.at, f"its batch {at} is no longer in the log")
            return
        try:
            event = self._codec.decode_as(CJBatchPrepared, found.value)
        except BadRecord:
            yield Violation("no_batch", record.at, f"{at} is no prepared batch")
            return
        made = refusal_of(PreparedBatch(at, found.key, event), result.reason, result.details)
        if (made, found.key) != (result, record.key):
            yield Violation("wrong_result", record.at, f"its batch {at} makes another refusal")

    def _check_early(self) -> Iterator[Finding]:
        """A result whose run did not stop in the range: the results are read further than the judging log."""
        partition, _, end = self._range.of(self._topics.judging.name, self._number)
        now = self._log.high_watermarks(self._topics.judging)[partition] if self._early else end
        for record in self._log.records({partition: end}, {partition: now}) if end < now else ():
            with suppress(BadRecord):
                event = judging_event_of(record, self._codec)
                result = self._early.get(event.run_id)
                if (
                    result is not None
                    and isinstance(event, JudgingStopped)
                    and event.result_sha256 == result_sha256(result.value or b"")
                ):
                    del self._early[event.run_id]
        for run_id, record in self._early.items():
            yield Violation("no_run", record.at, f"run {run_id} has not stopped")

    def _check_stopped(self) -> Iterator[Finding]:
        """Each run that has stopped has its result, from the same transaction."""
        has_lost_some = self._range.of(self._topics.results.name, self._number)[1] > 0
        for run_id, stopped in self._stopped.items():
            if run_id in self._judged:
                continue
            if has_lost_some:
                sentence = f"the result of run {run_id} may no longer be in the log"
                yield NotVerifiable("result_gone", stopped.at, sentence)
            else:
                yield Violation("no_result", stopped.at, f"run {run_id} has no result")

    def _check_batches(self) -> Iterator[Finding]:
        """Each batch that was fetched has a result or an open run; those before the first one are left alone."""
        partition = Partition(self._topics.batches.name, self._number)
        judged = [batch.offset for batch in self._batches.values() if batch.is_judged]
        first = min([*judged, *self._others_judged], default=None)
        end = self._range.committed.get(partition, 0)
        for run_id, batch in self._batches.items():
            at = Coordinates(*partition, batch.offset)
            if batch.is_judged or batch.offset >= end:
                continue
            if first is None or batch.offset < first:
                yield Note("not_judged", at, "it was prepared before the first judge started")
            else:
                yield Violation("unjudged", at, f"run {run_id} has neither a result nor records")


def check_partitions(
    settings: Settings, judging_range: JudgingRange, numbers: Iterable[int], texts: bool
) -> Iterator[Portion]:
    """Check the judging of these partitions. Raises Unreachable, Discrepancy."""
    log, codec = JudgingLog(settings), codec_for(settings)
    store = ContentStore.open(settings.content, settings.content_max_bytes)
    kept = KeptTexts(store) if texts else None
    for number in numbers:
        yield from JudgingCheck(log, codec, judging_range, number, kept).run()


def _check_against_run(
    record: LogRecord, result: CJBatchJudged, stopped: _Stopped
) -> Iterator[Finding]:
    if record.key != stopped.key and stopped.key is not None:
        yield Violation("wrong_result", record.at, "its key is not that of its batch")
    if result_sha256(record.value or b"") != stopped.result_sha256:
        sentence = f"{stopped.at} names another checksum of it"
        yield Violation("wrong_result", record.at, sentence)
    elif stopped.is_sound and stopped.remade is not None:
        if differs_by_rounding(result, stopped.remade):
            yield Note("rounded", record.at, "its numbers differ from those made again by 1e-6")
        else:
            yield Violation("wrong_result", record.at, "its run's records make another result")


def _run_id_of(record: LogRecord) -> str:
    """As its key says."""
    return (record.key or b"").decode(errors="replace")


def _facts_of_batch(record: LogRecord, event: CJBatchPrepared) -> tuple[object, ...]:
    """What a run copies from its batch."""
    metadata, request = event.processing_metadata, event.request
    return (
        request.batch_id,
        record.at,
        record.key,
        event.provenance.request,
        context_of(event),
        (metadata.student_prompt_storage_id, metadata.instructions_storage_id),
        tuple((essay.essay_id, essay.text_storage_id) for essay in request.essays),
    )


def _facts_of_run(opened: JudgingOpened) -> tuple[object, ...]:
    return (
        opened.batch_id,
        opened.batch,
        opened.batch_key,
        opened.request,
        opened.context,
        (opened.prompt.task, opened.prompt.criteria),
        tuple((essay.id, essay.storage_id) for essay in opened.essays),
    )


def _digest(facts: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(facts).encode()).digest()
