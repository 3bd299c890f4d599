"""`cjstream audit verify`: every outcome of the requests in a range, computed again and compared with the log.

Joins no group and commits nothing. It is a Grace hash join with one process for each core: uploads and outcomes are
first written to buckets on disk by scope, then each bucket is joined and checked; then come the judging of their
batches, and the texts.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from processors.log.judging_log import JudgingLog
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Discrepancy
from tables.history.point_in_time import Moment
from tools.audit.batch.batch_story import batch
from tools.audit.check.contexts_as_of import Texts, add_text
from tools.audit.check.findings import Finding, Tally
from tools.audit.check.scan_range import ScanRange, scan_range_of
from tools.audit.process_pool import in_processes, processes_for, split_evenly
from tools.audit.verify.join_spill import bucket_folder, buckets_for
from tools.audit.verify.join_worker import (
    OUTCOMES_CHECKED,
    OUTCOMES_READ,
    UPLOADS_READ,
    JoinWork,
    join_bucket,
    partition_rows,
)
from tools.audit.verify.text_check import check_texts
from tools.audit_json import instant

JUDGING_CHECKED = "judging checked"
ALL_BATCHES, BATCHES_IN_RANGE, BATCHES_NAMED = "all batches", "batches in range", "batches named"


@dataclass(slots=True)
class VerifyReport:
    """The range that was verified, the counts and the durations."""

    scan_range: ScanRange
    group: str
    tally: Tally = field(default_factory=Tally)
    uploads: int = 0
    judging: int = 0  # records of batches, of the judging of judging_of, and of results
    judging_of: str = ALL_BATCHES
    texts: int | None = None  # None: not checked
    uploads_s: float = 0
    outcomes_s: float = 0
    judging_s: float = 0
    texts_s: float = 0

    @property
    def outcomes(self) -> int:
        """The number of outcomes in the range."""
        return self.tally.outcomes.total()


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Progress: units done since the last message, and an upper bound of the total."""

    what: str
    more: int
    total: int


def verify(
    settings: Settings,
    now_ms: int,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    texts: bool = True,
    processes: int | None = None,
    buckets: int | None = None,
) -> Iterator[Finding | VerifyProgress | VerifyReport]:
    """Findings and progress, then the report. Raises Unreachable, Discrepancy, UnknownSchema, StoreFailed.

    Of judging, the runs of the batches whose requests are in the range are checked.
    """
    scan_range = scan_range_of(settings, since, until)
    report, named_texts = VerifyReport(scan_range, settings.prep_group), Texts()
    uploads = sum(scan_range.uploads_end.values())
    outcomes = sum(end - scan_range.outcomes[p] for p, end in scan_range.outcomes_end.items())
    with bucket_folder() as folder:
        count = min(processes or processes_for(uploads + 2 * outcomes), settings.partitions)
        work = JoinWork(
            settings,
            scan_range,
            folder,
            buckets or buckets_for(uploads + outcomes),
            count,
            now_ms,
            texts,
        )
        totals = {UPLOADS_READ: uploads, OUTCOMES_READ: outcomes, OUTCOMES_CHECKED: outcomes}
        started = time.monotonic()
        for done in in_processes(work.tasks(), partition_rows, join_bucket):
            report.tally.merge(done.tally)
            for finding in done.findings:
                report.tally.add(finding)
                yield finding
            for text, at in done.texts.items():
                add_text(named_texts, text, at)
            if done.what == UPLOADS_READ:
                report.uploads += done.count
                report.uploads_s = time.monotonic() - started
            yield VerifyProgress(done.what, done.count, totals[done.what])
        report.outcomes_s = time.monotonic() - started - report.uploads_s
    report.judging_of = ALL_BATCHES if since is None and until is None else BATCHES_IN_RANGE
    yield from _check_judging(settings, report, processes, texts=texts)
    yield from _check_texts(settings, report, named_texts, is_requested=texts)


def verify_batches(
    settings: Settings, now_ms: int, batch_ids: Iterable[str], *, texts: bool = True
) -> Iterator[Finding | VerifyProgress | VerifyReport]:
    """Like `verify`, for the requests of these batch ids alone. Also raises Discrepancy if an id has no request."""
    scan_range, named_texts = scan_range_of(settings, None, None), Texts()
    report = VerifyReport(scan_range, settings.prep_group, judging_of=BATCHES_NAMED)
    started, ids = time.monotonic(), frozenset(batch_ids)
    for batch_id in sorted(ids):
        stories = batch(settings, scan_range, batch_id, now_ms, named_texts)
        if not stories:
            raise Discrepancy(f"the log has no request of batch {batch_id}")
        for story in stories:
            report.tally.merge(story.tally)
            yield from story.findings
    report.outcomes_s = time.monotonic() - started
    yield from _check_judging(settings, report, None, texts=texts, batch_ids=ids)
    yield from _check_texts(settings, report, named_texts, is_requested=texts)


def _check_judging(
    settings: Settings,
    report: VerifyReport,
    processes: int | None,
    *,
    texts: bool,
    batch_ids: frozenset[str] = frozenset(),
) -> Iterator[Finding | VerifyProgress]:
    """Check the runs of `report.judging_of`; importing what that needs takes long."""
    from tools.audit.judging.judging_range import ChosenBatches, judging_range_of
    from tools.audit.judging.partition_check import check_partitions

    started, requests = time.monotonic(), dict[Partition, tuple[int, int]]()
    if report.judging_of == BATCHES_IN_RANGE:
        scan_range = report.scan_range
        requests = {
            tp: (start, scan_range.requests_end[tp]) for tp, start in scan_range.requests.items()
        }
    chosen = None if report.judging_of == ALL_BATCHES else ChosenBatches(requests, batch_ids)
    judging_range = replace(judging_range_of(JudgingLog(settings)), chosen=chosen)
    count = processes or processes_for(judging_range.records)
    arguments = [
        (settings, judging_range, numbers, texts)
        for numbers in split_evenly(range(settings.partitions), count)
    ]
    for portion in in_processes(arguments, check_partitions):
        report.judging += portion.records
        for finding in portion.findings:
            report.tally.add(finding)
            yield finding
        yield VerifyProgress(JUDGING_CHECKED, portion.records, judging_range.records)
    report.judging_s = time.monotonic() - started


def _check_texts(
    settings: Settings, report: VerifyReport, named_texts: Texts, *, is_requested: bool
) -> Iterator[Finding | VerifyReport]:
    """Findings about the texts, if their check is requested, and the report."""
    if is_requested:
        started = time.monotonic()
        for finding in check_texts(settings, named_texts, report.scan_range.uploads_end):
            report.tally.add(finding)
            yield finding
        report.texts, report.texts_s = len(named_texts), time.monotonic() - started
    yield report


def document_of(report: VerifyReport, findings: Iterable[Finding]) -> dict[str, Any]:
    """The report as a JSON document, with these findings one by one."""
    scan_range, tally = report.scan_range, report.tally
    rate = report.outcomes / report.outcomes_s if report.outcomes_s else 0
    return {
        "requests": {
            str(partition): {
                "from": start,
                "to": scan_range.requests_end[partition],
                "retained_from": scan_range.retained[partition],
                "committed": scan_range.committed.get(partition),
            }
            for partition, start in scan_range.requests.items()
        },
        "group": report.group,
        "group_has_committed": bool(scan_range.committed),
        "uploads": report.uploads,
        "counts": {"requests": 0, **tally.requests},
        "waits_until": [instant(deadline_ms) for deadline_ms in tally.deadlines_ms],
        "outcomes": {**tally.outcomes},
        "findings": [finding_document(finding) for finding in findings],
        "findings_by_kind": _groups(tally.findings),
        "not_verifiable": _groups(tally.not_verifiable),
        "notes": _groups(tally.notes),
        "judging_of": report.judging_of,
        "judging_records": report.judging,
        "texts": report.texts,
        "seconds": {
            "uploads": round(report.uploads_s, 3),
            "outcomes": round(report.outcomes_s, 3),
            "judging": round(report.judging_s, 3),
            "texts": round(report.texts_s, 3),
        },
        "outcomes_per_s": round(rate),
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding as JSON."""
    return {"kind": finding.kind, "at": str(finding.at), "sentence": finding.sentence}


def _groups(groups: dict[str, Any]) -> dict[str, Any]:
    return {kind: asdict(group) for kind, group in groups.items()}
