"""`cjstream audit seal-key · seal`, and `verify --seal`: parses, asks, prints."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.printing import print_json, print_table
from tools.progress import say
from tools.times import FORMS, point_in_time_from

seal_app = typer.Typer()


@seal_app.command("seal-key")
def seal_key(
    out: Annotated[Path, typer.Option(help="The private key's new file; the public is FILE.pub.")],
    as_json: Json = False,
) -> None:
    """Make a pair of Ed25519 keys: the private one signs seals, the public one proves whose they are."""
    from tools.audit.seal import signing_key

    public_file, public = signing_key.make_keys(out)
    told = {"private": str(out), "public": str(public_file), "key": signing_key.fingerprint(public)}
    print_json(told) if as_json else print_table("Keys", ("", ""), list(told.items()))


@seal_app.command("seal")
def seal(
    key: Annotated[Path, typer.Option(help="The private key.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="The seal's new file.", metavar="FILE")],
    since: Annotated[str | None, typer.Option("--from", help=f"{FORMS}; with it.")] = None,
    until: Annotated[str | None, typer.Option("--to", help=f"{FORMS}; with it.")] = None,
    topics: Annotated[
        str, typer.Option(help="Of these topics alone; names with commas between them.")
    ] = "",
    after: Annotated[
        Path | None,
        typer.Option(
            help="The seal before this one: named in it, and gone on from.", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign a digest of uploads, requests, outcomes and dead letters, so that `verify --seal` proves them later."""
    from tools.audit.seal import seal_create as command

    now = datetime.now(UTC)
    asked = command.SealRequest(
        since=None if since is None else point_in_time_from(since, now, "--from"),
        until=None if until is None else point_in_time_from(until, now, "--to"),
        topics=tuple(name.strip() for name in topics.split(",") if name.strip()),
        after=after,
    )
    now_ms = round(now.timestamp() * 1000)
    document = command.document_of(
        command.seal(settings_from_environment(), asked, key, out, now_ms=now_ms)
    )
    if as_json:
        print_json(document)
        return
    partitions = document.pop("partitions")
    print_table("Sealed", ("", ""), [(name, told or "") for name, told in document.items()])
    columns = ("topic", "partition", "from", "to", "records", "root")
    rows = [tuple(one[name] for name in columns) for one in partitions if one["records"]]
    print_table("", columns, rows)


def check(files: Sequence[Path], public_key: Path | None, *, as_json: bool) -> None:
    """What `verify --seal` does: prove that the log still says what was sealed, or name what does not; exit 3 then."""
    from tools.audit.seal import seal_verify as command
    from tools.audit.seal import signing_key

    trusted = None if public_key is None else signing_key.public_key(public_key)
    settings, now_ms = settings_from_environment(), int(time.time() * 1000)
    checks = list(command.check_seals(settings, files, trusted, now_ms=now_ms))
    if trusted is None:
        signers = {signing_key.fingerprint(check.header.key) for check in checks}
        say(f"signed by {', '.join(signers)}; --public-key proves whose that is")
    if as_json:
        print_json(
            {
                "holds": all(one.holds for one in checks),
                "seals": [*map(command.document_of, checks)],
            }
        )
    else:
        for check in checks:
            _show(command.document_of(check))
    for check in checks:
        for fault in (*check.faults, *(one for p in check.partitions for one in p.faults)):
            say(f"{check.file}: {fault}")
    if not all(check.holds for check in checks):
        raise typer.Exit(3)


def _show(document: dict[str, object]) -> None:
    columns = ("topic", "partition", "from", "to", "intact", "compacted", "past_retention", "first")
    partitions: list[dict[str, object]] = document["partitions"]  # type: ignore[assignment]
    rows = [
        tuple(one[name] or "" for name in columns) for one in partitions if one["from"] != one["to"]
    ]
    print_table(
        f"{document['file']}: {'holds' if document['holds'] else 'DOES NOT HOLD'}", columns, rows
    )
