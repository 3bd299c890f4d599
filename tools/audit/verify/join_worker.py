"""What each process of verify does: it sorts its partitions into buckets, then it checks its buckets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processors.kafka.records import append_time_of
from processors.log.reader import LogReader
from processors.log.set_aside import upload_topics_with_set_aside
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from tables.scan.scanner import Engine
from tools.audit.check.completeness import CompletenessCheck
from tools.audit.check.contexts_as_of import Texts
from tools.audit.check.correctness import CorrectnessCheck
from tools.audit.check.findings import Finding, Tally
from tools.audit.check.outcome_with_request import OutcomeWithRequest
from tools.audit.check.partition_reader import PartitionReader
from tools.audit.check.scan_range import ScanRange, of_partitions
from tools.audit.check.upload_rows import UploadRows
from tools.audit.scan_engine import engine_for
from tools.audit.verify.join_spill import JoinSpill, read_bucket

MAX_VALUE_BYTES = 64 * 1024  # every valid upload is smaller; of anything else, the start is enough
SAVED_US = 25.0  # of an outcome, by compiled functions
UPLOADS_READ, OUTCOMES_READ, OUTCOMES_CHECKED = (
    "uploads read",
    "outcomes read",
    "outcomes checked",
)


@dataclass(frozen=True, slots=True)
class JoinWork:
    """The work of all processes; with n processes, each takes every n-th partition and bucket from its number on.

    texts: whether the texts that the outcomes used are named.
    """

    settings: Settings
    scan_range: ScanRange
    folder: Path
    buckets: int
    processes: int
    now_ms: int
    texts: bool

    def tasks(self) -> list[tuple["JoinWork", int]]:
        """The arguments of each process: this work, and the number of the process."""
        return [(self, process) for process in range(self.processes)]

    def uploads(self, process: int) -> Path:
        """The folder in which a process writes uploads."""
        return self.folder / f"uploads-{process}"

    def outcomes(self, process: int) -> Path:
        """The folder in which a process writes outcomes."""
        return self.folder / f"outcomes-{process}"


@dataclass(frozen=True, slots=True)
class Done:
    """What a process has done since its last message: how many more of what, and what it found."""

    what: str
    count: int = 0
    findings: Sequence[Finding] = ()
    tally: Tally = field(default_factory=Tally)
    texts: Texts = field(default_factory=Texts)


def partition_rows(work: JoinWork, process: int) -> Iterator[Done]:
    """Write the uploads and outcomes of this process's partitions to buckets."""
    numbers = range(process, work.settings.partitions, work.processes)
    uploads = JoinSpill(work.uploads(process), work.buckets)
    yield from _write_uploads(work, numbers, uploads)
    outcomes, codec = JoinSpill(work.outcomes(process), work.buckets), codec_for(work.settings)
    engine = _engine_of(work)
    for number in numbers:
        log = PartitionReader(work.settings, work.scan_range, number)
        check = CompletenessCheck(
            work.settings, codec, work.scan_range, number, log, work.now_ms, engine
        )
        for portion in check.run():
            for pair in portion.outcomes:
                outcomes.put(pair.scope_key(codec), pair.row, pair.size_bytes)
            yield Done(OUTCOMES_READ, portion.outcomes_read, portion.findings)
        yield Done(OUTCOMES_READ, tally=check.tally)
    outcomes.flush()


def _engine_of(work: JoinWork) -> Engine:
    requests = sum(
        end - work.scan_range.requests[tp] for tp, end in work.scan_range.requests_end.items()
    )
    return engine_for(work.settings, requests / work.processes * SAVED_US)


def _write_uploads(work: JoinWork, numbers: range, uploads: JoinSpill) -> Iterator[Done]:
    topics = {topic.name: number for number, topic in enumerate(work.settings.topics.uploads)}
    ends = of_partitions(work.scan_range.uploads_end, numbers)
    with LogReader(work.settings, ends) as log:
        log.seek_to_start()
        for messages in log.messages_until(ends):
            for message in messages:
                key, value = message.key(), message.value()
                if key is None:
                    continue  # it belongs to no scope
                at = (topics[str(message.topic())], message.partition(), message.offset())
                row = (key, *at, append_time_of(message), value and value[:MAX_VALUE_BYTES])
                uploads.put(key, row, len(value or b""))
            yield Done(UPLOADS_READ, len(messages))
    uploads.flush()


def join_bucket(work: JoinWork, process: int) -> Iterator[Done]:
    """Check the outcomes of this process's buckets against their uploads."""
    topics, processes = upload_topics_with_set_aside(work.settings), range(work.processes)
    texts = Texts() if work.texts else None
    correctness = CorrectnessCheck(
        work.settings,
        codec_for(work.settings),
        work.scan_range.uploads_end,
        texts,
        _engine_of(work),
    )
    for number in range(process, work.buckets, work.processes):
        uploads = UploadRows(topics)
        for rows in read_bucket(map(work.uploads, processes), number):
            uploads.add(rows)
        correctness.set_uploads(uploads)
        for rows in read_bucket(map(work.outcomes, processes), number):
            pairs = list(map(OutcomeWithRequest.of_row, rows))
            findings = list(correctness.check(pairs))
            yield Done(OUTCOMES_CHECKED, len(rows), findings)
        if texts is not None:
            yield Done(OUTCOMES_CHECKED, texts=dict(texts))
            texts.clear()
