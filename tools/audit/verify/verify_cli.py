"""The command `cjstream audit verify`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from processors.settings import settings_from_environment
from schemas.errors import Misconfigured
from tables.history.point_in_time import Moment
from tools.audit.seal.seal_cli import check
from tools.options import Json
from tools.printing import print_json, print_line, print_table
from tools.times import FORMS, point_in_time_from

if TYPE_CHECKING:
    from tools.audit.check.findings import Finding, Violation
    from tools.audit.verify.verify import VerifyProgress, VerifyReport

Since = Annotated[
    str | None, typer.Option("--from", help=f"Requests from this moment on: {FORMS}.")
]
Until = Annotated[str | None, typer.Option("--to", help="Requests up to this moment, included.")]


def verify(
    since: Since = None,
    until: Until = None,
    batch: Annotated[
        list[str] | None,
        typer.Option("--batch", help="Verify only the requests of this batch id; may be repeated."),
    ] = None,
    texts: Annotated[
        bool, typer.Option(help="Check in the content store each text that the batches used.")
    ] = True,
    seal: Annotated[
        list[Path] | None,
        typer.Option(
            help="Verify this seal instead: has the log changed since? For a chain of seals, oldest first.",
            metavar="FILE",
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="The public key with which the seals must be signed.", metavar="FILE"),
    ] = None,
    max_findings: Annotated[
        int, typer.Option("--most", min=0, help="List up to this many findings; all are counted.")
    ] = 1000,
    as_json: Json = False,
) -> None:
    """Compute every outcome again and compare it with the log; exit 3 if there are findings.

    Checks the bytes, key, partition and headers of each prepared batch,
    unresolved batch and dead letter, and the uploads that it names: they were
    the current ones at its upload positions, and no upload of its scope beyond
    these positions is older than its request (by more than 5 s, because the
    clocks of brokers differ). Checks that no outcome is missing or doubled,
    that no request is still parked long after its deadline, and that each
    distinct text is in the content store.

    Of these batches also checks judging: makes each plan, stop and result
    again from the records before it, each prompt from the texts, each winner
    from the kept response, and each cost from its tokens and prices; every
    batch has one result or is being judged.

    Reports what the log no longer has as not verifiable, with coordinates and
    count, and guesses nothing. Sorts uploads and outcomes by scope in temporary
    files (TMPDIR), which need as much space as the records. Runs one process
    for each core; each needs memory for 30 bytes for each request of a
    partition, and for the uploads of some thousand scopes.

    With --seal: compares the log with the seal, record by record, and names the
    first record that was altered, removed, added or cut off.
    """
    from tools.audit.check.findings import Violation
    from tools.audit.verify import verify as command

    if seal or public_key:
        if not seal or since or until or batch:
            raise Misconfigured("use --seal FILE alone or with --public-key FILE")
        check(seal, public_key, as_json=as_json)
        return
    now = datetime.now(UTC)
    start, end = _moment(since, now, "--from"), _moment(until, now, "--to")
    settings = settings_from_environment()
    now_ms = round(now.timestamp() * 1000)
    if batch and (since or until):
        raise Misconfigured("use --batch alone, or --from and --to")
    items = (
        command.verify_batches(settings, now_ms, batch, texts=texts)
        if batch
        else command.verify(settings, now_ms, since=start, until=end, texts=texts)
    )
    violations = list[Violation]()
    for item in _with_progress(items):
        if isinstance(item, command.VerifyReport):
            _show(item, violations, as_json=as_json)
            if item.tally.findings:
                raise typer.Exit(3)
        elif isinstance(item, Violation) and len(violations) < max_findings:
            violations.append(item)
            if not as_json:
                print_line(f"{item.at}  {item.kind}: {item.sentence}")


def _with_progress(
    items: "Iterator[Finding | VerifyProgress | VerifyReport]",
) -> "Iterator[Finding | VerifyReport]":
    """The findings and the report; the progress goes to bars on stderr, if that is a terminal."""
    from tools.audit.verify.verify import VerifyProgress

    console, tasks = Console(stderr=True), dict[str, TaskID]()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        for item in items:
            if not isinstance(item, VerifyProgress):
                yield item
                continue
            if item.what not in tasks:
                tasks[item.what] = bars.add_task(item.what, total=item.total)
            bars.advance(tasks[item.what], item.more)


def _moment(text: str | None, now: datetime, option: str) -> Moment | None:
    return None if text is None else point_in_time_from(text, now, option)


def _show(report: "VerifyReport", violations: "list[Violation]", *, as_json: bool) -> None:
    from tools.audit.verify.verify import document_of

    document = document_of(report, violations)
    if as_json:
        print_json(document)
        return
    rows = [
        *(("outcomes", topic, count, "") for topic, count in document["outcomes"].items()),
        *(("requests", state, count, "") for state, count in document["counts"].items()),
        *(
            (kinds, kind, group["count"], f"{group['first']} to {group['last']}")
            for kinds in ("findings_by_kind", "not_verifiable", "notes")
            for kind, group in document[kinds].items()
        ),
        ("texts", "read" if report.texts is not None else "not read", report.texts or 0, ""),
        ("uploads", "read", report.uploads, ""),
        ("judging", "records", report.judging, report.judging_of),
    ]
    print_table("Verified", ("", "what", "count", "where"), rows)
    print_line(
        f"{report.outcomes} outcomes in {report.outcomes_s:.1f} s, {document['outcomes_per_s']} per second; "
        f"{report.uploads_s:.1f} s for the uploads, {report.judging_s:.1f} s for judging, "
        f"{report.texts_s:.1f} s for the texts"
    )
    if document["waits_until"]:
        print_line(f"parked requests have deadlines from {' to '.join(document['waits_until'])}")
    if not report.scan_range.committed:
        print_line(
            f"group {report.group} has committed no offset: it is unknown which requests it should have prepared"
        )
