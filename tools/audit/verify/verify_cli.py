"""`cjstream audit verify`: parses, asks, prints."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from processors.settings import settings_from_environment
from schemas.errors import Misconfigured
from tables.history.point_in_time import Moment
from tools.audit.seal.seal_cli import check
from tools.options import Json
from tools.printing import harmless, print_json, print_table
from tools.times import FORMS, point_in_time_from

if TYPE_CHECKING:
    from tools.audit.check.findings import Violation
    from tools.audit.verify.verify import VerifyReport

Since = Annotated[str | None, typer.Option("--from", help=f"Requests from there on: {FORMS}.")]
Until = Annotated[str | None, typer.Option("--to", help="Requests up to there, included.")]


def verify(
    since: Since = None,
    until: Until = None,
    batch: Annotated[
        list[str] | None,
        typer.Option("--batch", help="Only the requests of this batch id; may be repeated."),
    ] = None,
    texts: Annotated[
        bool, typer.Option(help="Read each text that the batches rest on from the content store.")
    ] = True,
    seal: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead: does the log still say what this seal says? A chain of them: oldest first.",
            metavar="FILE",
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="The public key that must have signed the seals.", metavar="FILE"),
    ] = None,
    most: Annotated[
        int, typer.Option(min=0, help="Findings that are told one by one; all are counted.")
    ] = 1000,
    as_json: Json = False,
) -> None:
    """Make every outcome again, and hold it against what stands in the log; exit 3 with findings.

    Of each prepared batch, unresolved request and dead letter: bytes, key,
    partition and headers; the uploads that it names; that these were the current
    ones at its upload positions; that no upload of its scope which was appended
    before its request lies beyond those (by more than 5 s, for the clocks of
    brokers differ). No outcome is missing or doubled, nothing waits long past
    its deadline, and each distinct text is in the content store.

    What the log no longer has is told as not verifiable, by coordinates and
    count; nothing is guessed. Uploads and outcomes are sorted by scope in
    temporary files (TMPDIR), which take as much room as the records. Memory, in
    each of as many processes as there are cores: 30 bytes a request of a
    partition, and the uploads of some thousand scopes.

    With --seal: what the log says now against what was sealed, record by record;
    names the first one altered, removed, added or cut off.
    """
    from tools.audit.check.findings import Violation
    from tools.audit.verify import verify as command
    from tools.audit.verify.verify_progress import with_progress

    if seal or public_key:
        if not seal or since or until or batch:
            raise Misconfigured("give --seal FILE, with --public-key FILE and nothing else")
        check(seal, public_key, as_json=as_json)
        return
    now = datetime.now(UTC)
    begin, end = _moment(since, now, "--from"), _moment(until, now, "--to")
    settings = settings_from_environment()
    now_ms = round(now.timestamp() * 1000)
    if batch and (since or until):
        raise Misconfigured("give --batch, or --from and --to")
    found = (
        command.verify_batches(settings, now_ms, batch, texts=texts)
        if batch
        else command.verify(settings, now_ms, since=begin, until=end, texts=texts)
    )
    kept = list[Violation]()
    for told in with_progress(found):
        if isinstance(told, command.VerifyReport):
            _show(told, kept, as_json=as_json)
            if told.tally.findings:
                raise typer.Exit(3)
        elif isinstance(told, Violation) and len(kept) < most:
            kept.append(told)
            if not as_json:
                typer.echo(harmless(f"{told.at}  {told.kind}: {told.sentence}"))


def _moment(text: str | None, now: datetime, option: str) -> Moment | None:
    return None if text is None else point_in_time_from(text, now, option)


def _show(report: "VerifyReport", kept: "list[Violation]", *, as_json: bool) -> None:
    from tools.audit.verify.verify import document_of

    document = document_of(report, kept)
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
    ]
    print_table("Verified", ("", "what", "count", "where"), rows)
    typer.echo(
        f"{report.outcomes} outcomes in {report.outcomes_s:.1f} s, {document['outcomes_per_s']} a second; "
        f"{report.uploads_s:.1f} s for the uploads, {report.texts_s:.1f} s for the texts"
    )
    if document["waits_until"]:
        typer.echo(f"what waits has its deadlines from {' to '.join(document['waits_until'])}")
    if not report.extent.committed:
        typer.echo(
            f"group {report.group} has committed nothing: what it should have prepared is not known"
        )
