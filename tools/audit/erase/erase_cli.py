"""`cjstream audit erase`: reads the options, runs the erasure, prints its report."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.printing import number_of, print_json, print_line, print_table
from tools.progress import say

erase_app = typer.Typer()


@erase_app.command("erase")
def erase(
    scope: Annotated[str, typer.Argument(help="assignment:<id> or course:<code>.")],
    actor: Annotated[str, typer.Option(help="Who requests the erasure; recorded in the events.")],
    reason_code: Annotated[
        str,
        typer.Option(
            help="A code for the reason, such as gdpr-17; part of the events' correlation id."
        ),
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Erase; without it, only show what would be done.")
    ] = False,
    grace: Annotated[
        str,
        typer.Option(
            help="Texts younger than this are left for another run: a new event may be about to name them. "
            "Use 0s if nobody is writing."
        ),
    ] = "1h",
    as_json: Json = False,
) -> None:
    """Erase a scope's texts permanently, except those that others name; its history stays. A dry run unless --yes.

    The responses of its judges are erased, too; pupils' texts, which requests name, are not.

    If it is killed, run it again. Exit 3 if texts were left for another run.
    """
    from tables.content_store import ContentStore
    from tools.audit.erase import erase as command

    request = command.erase_request(scope, actor, reason_code, command.grace_of(grace))
    settings = settings_from_environment()
    store = ContentStore.open(settings.content)
    document = command.erase(
        settings,
        store,
        request,
        yes=yes,
        now=lambda: datetime.now(UTC),
        new_id=lambda: str(uuid4()),
    )
    if as_json:
        print_json(document)
    else:
        title = "Would be erased; use --yes to erase" if document["dry_run"] else "Erased"
        print_table(f"{title}: {scope}", ("text", "", "named by"), command.rows_of(document))
        for event in document["events"]:
            print_line(f"{event['event_type']} {event['version']} at {event['at']}")
    for gap in document["gaps"]:
        say(
            f"{scope}: the log no longer has versions {gap['after_version'] + 1} to {gap['before_version'] - 1} of the "
            f"{gap['role']}: texts that only these versions named are orphans, which `cjstream content sweep` finds"
        )
    if left := document["left"]:
        say(
            f"not deleted: {number_of(len(left), 'text')} written less than {grace} ago;"
            " run the command again after that"
        )
        raise typer.Exit(3)
