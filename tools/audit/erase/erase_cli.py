"""`cjstream audit erase`: parses, asks, prints."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.printing import print_json, print_table
from tools.progress import say

erase_app = typer.Typer()


@erase_app.command("erase")
def erase(
    scope: Annotated[str, typer.Argument(help="assignment:<id> or course:<code>.")],
    actor: Annotated[str, typer.Option(help="Who asks for it; stands in the events.")],
    reason_code: Annotated[
        str, typer.Option(help="Why, in a word such as gdpr-17; begins the events' correlation id.")
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without, only say what would be done.")
    ] = False,
    grace: Annotated[
        str,
        typer.Option(
            help="Texts written less long ago are left for another run: somebody may be about to name them, too. "
            "0s where nobody writes."
        ),
    ] = "1h",
    as_json: Json = False,
) -> None:
    """Erase a scope's texts for good, but those that others name; versions and history stand. A dry run unless --yes.

    Killed, it is gone on with by calling it again; exit 3 where texts were left for another run.
    """
    from tables.content_store import ContentStore
    from tools.audit.erase import erase as command

    asked = command.erase_request(scope, actor, reason_code, command.grace_of(grace))
    settings = settings_from_environment()
    store = ContentStore.at(settings.content)
    done = command.erase(
        settings, store, asked, yes=yes, now=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())
    )
    document = command.document_of(done)
    if as_json:
        print_json(document)
    else:
        title = "Would be erased; --yes does it" if done.is_dry_run else "Erased"
        print_table(f"{title}: {scope}", ("text", "", "named by"), command.rows_of(done))
        for one in document["events"]:
            typer.echo(f"{one['event_type']} {one['version']} at {one['at']}")
    for gap in done.gaps:
        say(
            f"{scope}: the log no longer has versions {gap.after_version + 1} to {gap.before_version - 1} of the "
            f"{gap.role}: texts that only they named are orphans, which `cjstream content sweep` finds"
        )
    if left := done.of("left"):
        say(f"{len(left)} texts were written less than {grace} ago: call it again then")
        raise typer.Exit(3)
