"""`cjstream audit batch`: parses, asks, prints."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from processors.settings import settings_from_environment
from schemas.errors import Discrepancy
from tools.options import Json
from tools.printing import harmless, print_json, print_table


def batch(
    batch_id: Annotated[str, typer.Argument(help="As the request says it.")],
    texts: Annotated[bool, typer.Option("--texts", help="Show the texts in full.")] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere", help="Requests under other keys than the batch id, too: reads them all."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Everything about one batch: each request with its id, waiting, outcome, uploads, texts, verdict.

    A request is looked for in the partition where the batch id is its key, as
    our own tools send it; where none is there, or with --everywhere, the whole
    topic is read. Waiting is told as far as compaction has left it. Exit 3
    where there is no such request or the verdict has findings.
    """
    from processors.registry.registry_codec import codec_for
    from tools.audit.batch import batch_story as command
    from tools.audit.batch.batch_json import document_of
    from tools.audit.check.scan_range import scan_range_of

    settings = settings_from_environment()
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    extent = scan_range_of(settings, None, None)
    stories = command.batch(settings, extent, batch_id, now_ms, {}, everywhere=everywhere)
    if not stories:
        raise Discrepancy(f"no request of batch {batch_id} is in the log")
    document = document_of(batch_id, stories, codec_for(settings), texts=texts)
    if as_json:
        print_json(document)
    else:
        for request in document["requests"]:
            _show(request)
    amiss = ("missing", "damaged")
    states = [
        it.text.state for one in stories for end in one.outcomes for it in end.used if it.text
    ]
    if any(one.tally.findings for one in stories) or any(state in amiss for state in states):
        raise typer.Exit(3)


def _show(request: dict[str, Any]) -> None:
    event = request["event"] or {}
    rows = [
        ("request", request["at"], request["appended_at"], f"event {event.get('event_id', '-')}"),
        *(("waiting", it["at"], it["appended_at"], _waits(it)) for it in request["parking"]),
        *((request["state"], it["at"], it["appended_at"], _came(it)) for it in request["outcomes"]),
    ]
    print_table(f"{request['at']}: {request['state']}", ("", "at", "appended", ""), rows)
    uploads = [
        (
            used["role"],
            "{topic}/{partition}@{offset}".format(**used["source"]),
            used["version"],
            (used["event"] or {}).get("actor", "not in the log"),
            (used["event"] or {}).get("occurred_at", ""),
            used["text_state"] or "",
            used["sha256"],
        )
        for outcome in request["outcomes"]
        for used in outcome["uploads"]
    ]
    if uploads:
        columns = ("role", "at", "version", "by", "when", "text", "sha256")
        print_table("Uploads", columns, uploads)
    for outcome in request["outcomes"]:
        for used in outcome["uploads"]:
            if used.get("text") is not None:
                typer.echo(harmless(f"--- {used['role']}\n{used['text']}"))
    for remark in request["verdict"]:
        typer.echo(harmless(f"{remark['at']}  {remark['kind']}: {remark['sentence']}"))
    typer.echo("verified" if request["verified"] else "NOT verified: see above")


def _waits(entry: dict[str, Any]) -> str:
    if entry["is"] != "parked":
        return str(entry["is"])
    return f"for {', '.join(entry['missing'])} of {entry['scope_key']}, until {entry['deadline']}"


def _came(outcome: dict[str, Any]) -> str:
    if "processing_metadata" in outcome:
        return f"context of the {outcome['processing_metadata']['context_source']}"
    if "missing" in outcome:
        return f"{outcome['scope_key']} had no {', '.join(outcome['missing'])}"
    return str(outcome["headers"].get("kafka_dlt-exception-message", ""))
