"""The command `cjstream audit batch`."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from processors.settings import settings_from_environment
from schemas.errors import Discrepancy
from tools.options import Json
from tools.printing import harmless, print_json, print_line, print_table


def batch(
    batch_id: Annotated[str, typer.Argument(help="The batch id in the request.")],
    texts: Annotated[bool, typer.Option("--texts", help="Show the texts in full.")] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere",
            help="Also find requests with another key than the batch id: reads all requests.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Everything about one batch: each request with its id, time parked, outcome, uploads, texts, verdict.

    Searches the partition of the key BATCH_ID, to which our own tools send the
    request; if there is none, or with --everywhere, searches the whole topic.
    Of the entries in the parked topic, shows those that compaction has left.
    Exits with 3 if there is no such request or the verdict has findings.
    """
    from tools.audit.batch import batch_story as command
    from tools.audit.check.scan_range import scan_range_of
    from tools.audit.stored_text import FAULTY_STATES

    settings = settings_from_environment()
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    scan_range = scan_range_of(settings, None, None)
    stories = command.batch(
        settings, scan_range, batch_id, now_ms, {}, everywhere=everywhere, show_texts=texts
    )
    if not stories:
        raise Discrepancy(f"the log has no request of batch {batch_id}")
    document = command.document_of(batch_id, stories)
    if as_json:
        print_json(document)
    else:
        for request in document["requests"]:
            _show(request)
    uploads = (
        used
        for request in document["requests"]
        for outcome in request["outcomes"]
        for used in outcome["uploads"]
    )
    if any(story.tally.findings for story in stories) or any(
        used["text_state"] in FAULTY_STATES for used in uploads
    ):
        raise typer.Exit(3)


def _show(request: dict[str, Any]) -> None:
    event = request["event"] or {}
    rows = [
        ("request", request["at"], request["appended_at"], f"event {event.get('event_id', '-')}"),
        *(
            ("parking", entry["at"], entry["appended_at"], _parking(entry))
            for entry in request["parking"]
        ),
        *(
            (request["state"], outcome["at"], outcome["appended_at"], _reason(outcome))
            for outcome in request["outcomes"]
        ),
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
                sys.stdout.write(harmless(f"--- {used['role']}\n{used['text']}\n"))
    for finding in request["verdict"]:
        print_line(f"{finding['at']}  {finding['kind']}: {finding['sentence']}")
    if request["outcomes"] or request["verdict"]:
        print_line("verified" if request["verified"] else "NOT verified: see above")
    else:
        print_line("there is no outcome to verify")


def _parking(entry: dict[str, Any]) -> str:
    if entry["is"] != "parked":
        return str(entry["is"])
    return f"for {', '.join(entry['missing'])} of {entry['scope_key']}, until {entry['deadline']}"


def _reason(outcome: dict[str, Any]) -> str:
    if "processing_metadata" in outcome:
        return f"context of the {outcome['processing_metadata']['context_source']}"
    if "missing" in outcome:
        return f"{outcome['scope_key']} had no {', '.join(outcome['missing'])}"
    return str(outcome["headers"].get("kafka_dlt-exception-message", ""))
