"""What the processes of verify do: each deals its partitions into buckets, then each judges its buckets."""

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

LONGEST = 64 * 1024  # no upload has so many bytes, and of what is none its beginning will do


@dataclass(frozen=True, slots=True)
class JoinWork:
    """What there is to do, and where; each process has a number, and takes each so many-th partition and bucket."""

    settings: Settings
    extent: ScanRange
    folder: Path
    buckets: int
    processes: int
    now_ms: int

    def each(self) -> list[tuple["JoinWork", int]]:
        """What each process is told."""
        return [(self, process) for process in range(self.processes)]

    def uploads(self, process: int) -> Path:
        """The folder of the uploads that a process deals."""
        return self.folder / f"uploads-{process}"

    def outcomes(self, process: int) -> Path:
        """The same of outcomes."""
        return self.folder / f"outcomes-{process}"


class UploadsRead(NamedTuple):
    """So many more upload records were read."""

    more: int


def partition_rows(work: JoinWork, process: int) -> Iterator[UploadsRead | Finding | Tally | int]:
    """The uploads and outcomes of every so many-th partition, into buckets."""
    numbers = range(process, work.settings.partitions, work.processes)
    uploads = JoinSpill(work.uploads(process), work.buckets)
    yield from _uploads_dealt(work, numbers, uploads)
    outcomes, codec = JoinSpill(work.outcomes(process), work.buckets), codec_for(work.settings)
    for number in numbers:
        log = PartitionReader(work.settings, work.extent, number)
        audit = CompletenessCheck(work.settings, codec, work.extent, number, log, work.now_ms)
        for told in audit.run():
            match told:
                case OutcomeClaim():
                    scope_key = scope_key_for(told.asked).encode()
                    outcomes.put(scope_key, told, len(told.value))
                case OutcomeWithRequest(outcome, request):
                    size = len(outcome.value or b"") + len(request.value or b"")
                    outcomes.put(scope_key_of(told, codec), told, size)
                case _:
                    yield told
        yield audit.tally
    outcomes.flush()


def _uploads_dealt(
    work: JoinWork, numbers: Iterable[int], uploads: JoinSpill
) -> Iterator[UploadsRead]:
    topics = {topic.name: number for number, topic in enumerate(work.settings.topics.uploads)}
    ends = {one: end for one, end in work.extent.uploads_end.items() if one.partition in numbers}
    with LogReader(work.settings, ends) as log:
        log.seek({one: low for one, (low, _) in log.offset_ranges().items()})
        for messages in log.messages_until(ends):
            for one in messages:
                key, value = one.key(), one.value()
                if key is None:
                    continue  # of no scope
                at = (topics[str(one.topic())], one.partition(), one.offset())
                row = (key, *at, one.timestamp()[1], value and value[:LONGEST])
                uploads.put(key, row, len(value or b""))
            yield UploadsRead(len(messages))
    uploads.flush()


def join_bucket(work: JoinWork, process: int) -> Iterator[Finding | Texts | int]:
    """The outcomes of every so many-th bucket, once its uploads are at hand."""
    cut, texts = upload_topics(work.settings), Texts()
    verdicts = CorrectnessCheck(
        work.settings, codec_for(work.settings), work.extent.uploads_end, texts
    )
    for number in range(process, work.buckets, work.processes):
        timelines = UploadTimelines(cut)
        for rows in read_bucket(map(work.uploads, range(work.processes)), number):
            timelines.add(rows)
        yield from verdicts.of(timelines, _outcomes_of(work, number))
        yield dict(texts)
        texts.clear()


def _outcomes_of(work: JoinWork, number: int) -> Iterator[OutcomeClaim | OutcomeWithRequest | int]:
    """A bucket's outcomes, and in between how many they were."""
    for rows in read_bucket(map(work.outcomes, range(work.processes)), number):
        yield from rows
        yield len(rows)
