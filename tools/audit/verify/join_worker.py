"""What each process of verify does: it sorts its partitions into buckets, then it checks its buckets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from processors.log.reader import LogReader
from processors.outcomes.resolve import scope_key_for
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_topics
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.correctness import CorrectnessCheck
from tools.audit.check.findings import Finding, Tally
from tools.audit.check.outcome_claim import OutcomeClaim, OutcomeWithRequest, scope_key_of
from tools.audit.check.partition_reader import PartitionReader
from tools.audit.check.scan_range import ScanRange
from tools.audit.check.upload_timelines import UploadTimelines
from tools.audit.verify.join_spill import JoinSpill, read_bucket

MAX_VALUE_BYTES = 64 * 1024  # every valid upload is smaller; of anything else, the start is enough


@dataclass(frozen=True, slots=True)
class JoinWork:
    """The work of all processes; with n processes, each takes every n-th partition and bucket from its number on."""

    settings: Settings
    scan_range: ScanRange
    folder: Path
    buckets: int
    processes: int
    now_ms: int

    def tasks(self) -> list[tuple["JoinWork", int]]:
        """The arguments of each process: this work, and the number of the process."""
        return [(self, process) for process in range(self.processes)]

    def uploads(self, process: int) -> Path:
        """The folder in which a process writes uploads."""
        return self.folder / f"uploads-{process}"

    def outcomes(self, process: int) -> Path:
        """The folder in which a process writes outcomes."""
        return self.folder / f"outcomes-{process}"


class UploadsRead(NamedTuple):
    """The number of further upload records read."""

    more: int


def partition_rows(work: JoinWork, process: int) -> Iterator[UploadsRead | Finding | Tally | int]:
    """Write the uploads and outcomes of this process's partitions to buckets; yields findings and counts."""
    numbers = range(process, work.settings.partitions, work.processes)
    uploads = JoinSpill(work.uploads(process), work.buckets)
    yield from _write_uploads(work, numbers, uploads)
    outcomes, codec = JoinSpill(work.outcomes(process), work.buckets), codec_for(work.settings)
    for number in numbers:
        log = PartitionReader(work.settings, work.scan_range, number)
        check = CompletenessCheck(work.settings, codec, work.scan_range, number, log, work.now_ms)
        for item in check.run():
            match item:
                case OutcomeClaim():
                    scope_key = scope_key_for(item.request_fields).encode()
                    outcomes.put(scope_key, item, len(item.value))
                case OutcomeWithRequest(outcome, request):
                    size_bytes = len(outcome.value or b"") + len(request.value or b"")
                    outcomes.put(scope_key_of(item, codec), item, size_bytes)
                case _:
                    yield item
        yield check.tally
    outcomes.flush()


def _write_uploads(
    work: JoinWork, numbers: Iterable[int], uploads: JoinSpill
) -> Iterator[UploadsRead]:
    topics = {topic.name: number for number, topic in enumerate(work.settings.topics.uploads)}
    ends = {
        partition: end
        for partition, end in work.scan_range.uploads_end.items()
        if partition.partition in numbers
    }
    with LogReader(work.settings, ends) as log:
        log.seek_to_start()
        for messages in log.messages_until(ends):
            for message in messages:
                key, value = message.key(), message.value()
                if key is None:
                    continue  # it belongs to no scope
                at = (topics[str(message.topic())], message.partition(), message.offset())
                row = (key, *at, message.timestamp()[1], value and value[:MAX_VALUE_BYTES])
                uploads.put(key, row, len(value or b""))
            yield UploadsRead(len(messages))
    uploads.flush()


def join_bucket(work: JoinWork, process: int) -> Iterator[Finding | Texts | int]:
    """Check the outcomes of this process's buckets against their uploads; yields findings, texts and counts."""
    topics, texts = upload_topics(work.settings), Texts()
    correctness = CorrectnessCheck(
        work.settings, codec_for(work.settings), work.scan_range.uploads_end, texts
    )
    for number in range(process, work.buckets, work.processes):
        timelines = UploadTimelines(topics)
        for rows in read_bucket(map(work.uploads, range(work.processes)), number):
            timelines.add(rows)
        yield from correctness.check(timelines, _outcomes_of(work, number))
        yield dict(texts)
        texts.clear()


def _outcomes_of(work: JoinWork, number: int) -> Iterator[OutcomeClaim | OutcomeWithRequest | int]:
    """The outcomes of a bucket, and after each list of them its length."""
    for rows in read_bucket(map(work.outcomes, range(work.processes)), number):
        yield from rows
        yield len(rows)
