"""`cjstream audit verify`: every outcome of the requests in a range is made again and held against what stands there.

Joins no group, commits nothing. A Grace hash join, in a process for each core: uploads and outcomes are read and dealt
into buckets on disk by their scope, then judged bucket by bucket; the texts come last.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from processors.settings import Settings
from schemas.errors import Discrepancy
from tables.history.point_in_time import Moment
from tools.audit.batch.batch_story import batch
from tools.audit.check.contexts_as_of import Texts, note
from tools.audit.check.findings import Finding, Note, NotVerifiable, Tally, Violation
from tools.audit.check.scan_range import ScanRange, scan_range_of
from tools.audit.process_pool import in_processes, processes_for
from tools.audit.verify.join_spill import bucket_folder, buckets_for
from tools.audit.verify.join_worker import JoinWork, UploadsRead, join_bucket, partition_rows
from tools.audit.verify.text_check import check_texts
from tools.audit_json import instant


@dataclass(slots=True)
class VerifyReport:
    """What verify looked at, and its counts."""

    extent: ScanRange
    group: str
    tally: Tally = field(default_factory=Tally)
    uploads: int = 0
    texts: int | None = None  # None: not looked at
    uploads_s: float = 0
    outcomes_s: float = 0
    texts_s: float = 0

    @property
    def outcomes(self) -> int:
        """How many were judged."""
        return self.tally.outcomes.total()


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """So many more of something, of that many at most."""

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
    """Remarks as they are found, and the report last. Raises Unreachable, Discrepancy, UnknownSchema, StoreFailed."""
    extent = scan_range_of(settings, since, until)
    report, found = VerifyReport(extent, settings.prep_group), Texts()
    outcomes, uploads = _total(extent), sum(extent.uploads_end.values())
    with bucket_folder() as folder:
        count = min(processes or processes_for(uploads + 2 * outcomes), settings.partitions)
        work = JoinWork(
            settings,
            extent,
            folder,
            buckets or buckets_for(uploads + outcomes),
            count,
            now_ms,
        )
        begun = time.monotonic()
        yield from _deal(work, report)
        yield from _judge(work, report, found)
        report.outcomes_s = time.monotonic() - begun - report.uploads_s
    yield from _with_texts(settings, report, found, look=texts)


def verify_batches(
    settings: Settings, now_ms: int, batch_ids: Iterable[str], *, texts: bool = True
) -> Iterator[Finding | VerifyProgress | VerifyReport]:
    """The same of the requests of these batch ids alone. Raises Discrepancy where there are none of one."""
    extent, found = scan_range_of(settings, None, None), Texts()
    report = VerifyReport(extent, settings.prep_group)
    begun = time.monotonic()
    for batch_id in batch_ids:
        stories = batch(settings, extent, batch_id, now_ms, found)
        if not stories:
            raise Discrepancy(f"no request of batch {batch_id} is in the log")
        for story in stories:
            report.tally.join(story.tally)
            yield from story.remarks
    report.outcomes_s = time.monotonic() - begun
    yield from _with_texts(settings, report, found, look=texts)


def _with_texts(
    settings: Settings, report: VerifyReport, found: Texts, *, look: bool
) -> Iterator[Finding | VerifyReport]:
    """What is to be said of the texts, where they are looked at, and the report."""
    if look:
        begun = time.monotonic()
        for remark in check_texts(settings, found, report.extent.uploads_end):
            report.tally.add(remark)
            yield remark
        report.texts, report.texts_s = len(found), time.monotonic() - begun
    yield report


def _total(extent: ScanRange) -> int:
    return sum(end - extent.outcomes[one] for one, end in extent.outcomes_end.items())


def _deal(work: JoinWork, report: VerifyReport) -> Iterator[Finding | VerifyProgress]:
    begun = time.monotonic()
    totals = sum(work.extent.uploads_end.values()), _total(work.extent)
    for told in in_processes(partition_rows, work.each()):
        match told:
            case UploadsRead(more):
                report.uploads += more
                report.uploads_s = time.monotonic() - begun
                yield VerifyProgress("uploads read", more, totals[0])
            case int():
                yield VerifyProgress("outcomes read", told, totals[1])
            case Tally():
                report.tally.join(told)
            case Violation() | NotVerifiable() | Note():
                report.tally.add(told)
                yield told


def _judge(
    work: JoinWork, report: VerifyReport, found: Texts
) -> Iterator[Finding | VerifyProgress]:
    total = _total(work.extent)
    for told in in_processes(join_bucket, work.each()):
        match told:
            case int():
                yield VerifyProgress("outcomes judged", told, total)
            case Violation() | NotVerifiable() | Note():
                report.tally.add(told)
                yield told
            case texts:
                for text, at in texts.items():
                    note(found, text, at)


def document_of(report: VerifyReport, findings: Iterable[Finding]) -> dict[str, Any]:
    """The report for machines; findings are those that were kept."""
    extent, tally = report.extent, report.tally
    rate = report.outcomes / report.outcomes_s if report.outcomes_s else 0
    return {
        "requests": {
            f"{one.topic}/{one.partition}": {
                "from": begin,
                "to": extent.requests_end[one],
                "retained_from": extent.retained[one],
                "committed": extent.committed.get(one),
            }
            for one, begin in extent.requests.items()
        },
        "group": report.group,
        "group_has_committed": bool(extent.committed),
        "uploads": report.uploads,
        "counts": {"requests": 0, **tally.requests},
        "waits_until": [instant(one) for one in tally.deadlines_ms],
        "outcomes": {**tally.outcomes},
        "findings": [finding_document(one) for one in findings],
        "findings_by_kind": _groups(tally.findings),
        "not_verifiable": _groups(tally.not_verifiable),
        "notes": _groups(tally.notes),
        "texts": report.texts,
        "seconds": {
            "uploads": round(report.uploads_s, 3),
            "outcomes": round(report.outcomes_s, 3),
            "texts": round(report.texts_s, 3),
        },
        "outcomes_per_s": round(rate),
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding as JSON."""
    return {"kind": finding.kind, "at": str(finding.at), "sentence": finding.sentence}


def _groups(groups: dict[str, Any]) -> dict[str, Any]:
    return {kind: asdict(group) for kind, group in groups.items()}
