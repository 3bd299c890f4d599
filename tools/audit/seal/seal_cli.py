"""`cjstream audit seal-key`, `seal` and `verify --seal`: read the options, run the command, print the result."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.printing import print_json, print_table
from tools.progress import say
from tools.times import FORMS, point_in_time_from

seal_app = typer.Typer()


@seal_app.command("seal-key")
def seal_key(
    out: Annotated[
        Path, typer.Option(help="New file for the private key; the public key goes to FILE.pub.")
    ],
    as_json: Json = False,
) -> None:
    """Create a pair of Ed25519 keys: the private key signs seals, the public key proves who signed them."""
    from tools.audit.seal import signing_key

    public_file, public = signing_key.make_keys(out)
    fields = {
        "private": str(out),
        "public": str(public_file),
        "key": signing_key.fingerprint(public),
    }
    print_json(fields) if as_json else print_table("Keys", ("", ""), list(fields.items()))


@seal_app.command("seal")
def seal(
    key: Annotated[Path, typer.Option(help="The private key.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="New file for the seal.", metavar="FILE")],
    since: Annotated[str | None, typer.Option("--from", help=f"{FORMS}; inclusive.")] = None,
    until: Annotated[str | None, typer.Option("--to", help=f"{FORMS}; inclusive.")] = None,
    topics: Annotated[
        str, typer.Option(help="Seal only these topics; names separated by commas.")
    ] = "",
    after: Annotated[
        Path | None,
        typer.Option(
            help="The previous seal: the new seal names it, and begins where it ends.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign a digest of uploads, requests, outcomes and dead letters, which `verify --seal` can check later."""
    from tools.audit.seal import seal_create as command

    now = datetime.now(UTC)
    document = command.seal(
        settings_from_environment(),
        key,
        out,
        now_ms=round(now.timestamp() * 1000),
        since=None if since is None else point_in_time_from(since, now, "--from"),
        until=None if until is None else point_in_time_from(until, now, "--to"),
        topics=tuple(name.strip() for name in topics.split(",") if name.strip()),
        after=after,
    )
    if as_json:
        print_json(document)
        return
    partitions = document.pop("partitions")
    print_table("Sealed", ("", ""), [(name, value or "") for name, value in document.items()])
    columns = ("topic", "partition", "from", "to", "records", "root")
    rows = [
        tuple(partition[name] for name in columns)
        for partition in partitions
        if partition["records"]
    ]
    print_table("", columns, rows)


def check(files: Sequence[Path], public_key: Path | None, *, as_json: bool) -> None:
    """Run `verify --seal`: prove that the log still says what was sealed, else name the first difference and exit 3."""
    from tools.audit.seal import seal_verify as command
    from tools.audit.seal import signing_key

    trusted = None if public_key is None else signing_key.public_key(public_key)
    settings, now_ms = settings_from_environment(), int(time.time() * 1000)
    checks = list(command.check_seals(settings, files, trusted, now_ms=now_ms))
    if trusted is None:
        signers = {check["key"] for check in checks}
        say(f"signed by {', '.join(signers)}; use --public-key to check whose key that is")
    holds = all(check["holds"] for check in checks)
    if as_json:
        print_json({"holds": holds, "seals": checks})
    else:
        for check in checks:
            _show(check)
    for check in checks:
        for fault in (*check["faults"], *(f for p in check["partitions"] for f in p["faults"])):
            say(f"{check['file']}: {fault}")
    if not holds:
        raise typer.Exit(3)


def _show(document: dict[str, Any]) -> None:
    columns = ("topic", "partition", "from", "to", "intact", "compacted", "past_retention", "first")
    rows = [
        tuple(partition[name] or "" for name in columns)
        for partition in document["partitions"]
        if partition["from"] != partition["to"]
    ]
    print_table(
        f"{document['file']}: {'holds' if document['holds'] else 'DOES NOT HOLD'}", columns, rows
    )
