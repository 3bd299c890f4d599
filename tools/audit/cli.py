"""`cjstream audit …`: parses, asks, prints."""

import typer

from tools.audit.erase_cli import erase_app
from tools.audit.seal_cli import seal_app

audit_app = typer.Typer(
    help="What was known, when, and proof: from topic offsets, joining no group and committing nothing.",
    no_args_is_help=True,
)
audit_app.add_typer(seal_app)
audit_app.add_typer(erase_app)
