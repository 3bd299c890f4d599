"""The command `cjstream audit run`."""

from typing import Annotated, Any

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.printing import number_of, print_json, print_line, print_table

CALLS = (
    *("number", "attempt", "state", "reason", "winner", "model", "cost_usd", "bound_usd"),
    *("took_ms", "intended_at", "outcome_at"),
)


def run(
    run_id: Annotated[str, typer.Argument(help="The run id, as `results list` shows it.")],
    texts: Annotated[
        bool, typer.Option(help="Check prompts and winners against the content store.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Everything about one run of judging: every call with its cost and coordinates, the ledger, the verdict.

    Reads the whole judging log. Exits with 3 if there is no such run or the verdict has findings.
    """
    from processors.kafka.clients import admin_client
    from processors.kafka.topic_admin import checked_topics
    from processors.log.judging_log import JudgingLog
    from processors.registry.registry_codec import codec_for
    from tables.content_store import ContentStore
    from tools.audit.judging.kept_texts import KeptTexts
    from tools.audit.judging.run_story import run_story

    settings = settings_from_environment()
    checked_topics(admin_client(settings), settings)
    store = ContentStore.open(settings.content, settings.content_max_bytes)
    kept = KeptTexts(store) if texts else None
    story = run_story(JudgingLog(settings), codec_for(settings), run_id, kept)
    if as_json:
        print_json(story.document)
    else:
        _show(story.document)
    if not story.document["verified"]:
        raise typer.Exit(3)


def _show(document: dict[str, Any]) -> None:
    rows = [
        tuple("" if call[name] is None else call[name] for name in CALLS)
        for call in document["calls"]
    ]
    title = f"Run {document['run_id']} of batch {document['batch_id']}: {document['state']}"
    if document["batch_id"] is None:
        title = f"Run {document['run_id']}: no record of it is valid"
    print_table(
        f"{title}, {number_of(document['waves'], 'wave')}, {number_of(len(rows), 'call')}",
        CALLS,
        rows,
    )
    if ledger := document["ledger"]:
        money = ("spent_usd", "in_doubt_usd", "reserved_usd", "max_cost_usd", "unknown_calls")
        print_table("Ledger", money, [tuple(ledger[name] for name in money)])
    for finding in document["verdict"]:
        print_line(f"{finding['at']}  {finding['kind']}: {finding['sentence']}")
    print_line("verified" if document["verified"] else "NOT verified: see above")
