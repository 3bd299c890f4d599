"""`cjstream audit verify`: every outcome of the requests in a range is made again and held against what stands there.

Joins no group, commits nothing. The upload topics are read into an index on disk first; then one process a core
takes partitions of the requests, each with the outcomes of its like partitions; the texts come last.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from processors.cluster import upload_partitions, upload_topics
from processors.settings import Settings
from processors.upload_reading import bring_up_to_date
from schemas.errors import Discrepancy
from tables.moments import Moment
from tables.sorted_rows import RocksSortedRows
from tables.upload_index import CACHE_MB, UploadIndex
from tools.audit.batch import batch
from tools.audit.contexts import Texts
from tools.audit.documents import instant
from tools.audit.extent import Extent, extent_of
from tools.audit.findings import Finding, Note, NotVerifiable, Remark, Tally
from tools.audit.parallel import in_processes, processes_for, shares
from tools.audit.partition import PartitionAudit
from tools.audit.partition_log import PartitionLog
from tools.audit.text_check import judged_texts


@dataclass(slots=True)
class Report:
    """What verify looked at, and its counts."""

    extent: Extent
    group: str
    tally: Tally = field(default_factory=Tally)
    uploads: int = 0
    texts: int | None = None  # None: not looked at
    index_s: float = 0
    outcomes_s: float = 0
    texts_s: float = 0

    @property
    def outcomes(self) -> int:
        """How many were judged."""
        return self.tally.outcomes.total()


@dataclass(frozen=True, slots=True)
class Progress:
    """So many more outcomes were read, of that many at most."""

    read: int
    total: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one process is to do."""

    settings: Settings
    extent: Extent
    numbers: tuple[int, ...]
    index: Path
    now_ms: int


def verified(
    settings: Settings,
    now_ms: int,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    texts: bool = True,
    processes: int | None = None,
) -> Iterator[Remark | Progress | Report]:
    """Remarks as they are found, and the report last. Raises Unreachable, Discrepancy, UnknownSchema."""
    extent = extent_of(settings, since, until)
    report = Report(extent, settings.prep_group)
    with tempfile.TemporaryDirectory(prefix="cjstream-verify-") as folder:
        begun = time.monotonic()
        report.uploads = _indexed(settings, extent, Path(folder))
        report.index_s = time.monotonic() - begun
        found: Texts = {}
        begun = time.monotonic()
        total = _total(extent)
        for told in in_processes(
            _share, _shares(settings, extent, Path(folder), now_ms, processes)
        ):
            match told:
                case int():
                    yield Progress(told, total)
                case (Tally() as tally, named):
                    report.tally.join(tally)
                    found |= named
                case Finding() | NotVerifiable() | Note():
                    yield told
        report.outcomes_s = time.monotonic() - begun
    yield from _with_texts(settings, report, found, look=texts)


def verified_batches(
    settings: Settings, now_ms: int, batch_ids: Iterable[str], *, texts: bool = True
) -> Iterator[Remark | Progress | Report]:
    """The same of the requests of these batch ids alone. Raises Discrepancy where there are none of one."""
    extent, found = extent_of(settings, None, None), Texts()
    report = Report(extent, settings.prep_group)
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
    settings: Settings, report: Report, found: Texts, *, look: bool
) -> Iterator[Remark | Report]:
    """What is to be said of the texts, where they are looked at, and the report."""
    if look:
        begun = time.monotonic()
        for remark in judged_texts(settings, found, report.extent.uploads_end):
            report.tally.add(remark)
            yield remark
        report.texts, report.texts_s = len(found), time.monotonic() - begun
    yield report


def _total(extent: Extent) -> int:
    return sum(end - extent.outcomes[one] for one, end in extent.outcomes_end.items())


def _indexed(settings: Settings, extent: Extent, folder: Path) -> int:
    """Every upload record into an index in that folder, closed again; gives how many."""
    uploads = upload_partitions(settings)
    rows = RocksSortedRows(folder, cache_mb=CACHE_MB)
    with closing(UploadIndex(rows, upload_topics(settings))) as index:
        count = bring_up_to_date(index, settings, uploads, extent.uploads_end)
        rows.settle()
        return count


def _shares(
    settings: Settings, extent: Extent, index: Path, now_ms: int, processes: int | None
) -> list[tuple[Share]]:
    requests = sum(end - extent.requests[one] for one, end in extent.requests_end.items())
    count = processes or processes_for(requests + _total(extent))
    return [
        (Share(settings, extent, tuple(numbers), index, now_ms),)
        for numbers in shares(range(settings.partitions), count)
    ]


Told = Remark | int | tuple[Tally, Texts]


def _share(share: Share) -> Iterator[Told]:
    rows = RocksSortedRows(share.index, cache_mb=CACHE_MB, read_only=True)
    with closing(UploadIndex(rows, upload_topics(share.settings))) as index:
        for number in share.numbers:
            texts: Texts = {}
            log = PartitionLog(share.settings, share.extent, number)
            audit = PartitionAudit(
                share.settings, share.extent, number, log, index, texts, share.now_ms
            )
            yield from audit.run()
            yield audit.tally, texts


def document_of(report: Report, findings: Iterable[Remark]) -> dict[str, Any]:
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
            "index": round(report.index_s, 3),
            "outcomes": round(report.outcomes_s, 3),
            "texts": round(report.texts_s, 3),
        },
        "outcomes_per_s": round(rate),
    }


def finding_document(finding: Remark) -> dict[str, Any]:
    """One finding as JSON."""
    return {"kind": finding.kind, "at": str(finding.at), "sentence": finding.sentence}


def _groups(groups: dict[str, Any]) -> dict[str, Any]:
    return {kind: asdict(group) for kind, group in groups.items()}
