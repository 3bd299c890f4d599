"""The commands of `cjstream audit`."""

import typer

from tools.audit.batch import batch_cli
from tools.audit.erase.erase_cli import erase_app
from tools.audit.judging import run_cli
from tools.audit.replay import replay_cli
from tools.audit.scope import scope_cli
from tools.audit.seal.seal_cli import seal_app
from tools.audit.verify import verify_cli

audit_app = typer.Typer(
    help="What was known, when, and proof: read from the topics, outside any group. Only `erase` writes.",
    no_args_is_help=True,
)
audit_app.command("replay")(replay_cli.replay)
audit_app.command("as-of")(scope_cli.as_of)
audit_app.command("history")(scope_cli.history)
audit_app.command("batch")(batch_cli.batch)
audit_app.command("run")(run_cli.run)
audit_app.command("verify")(verify_cli.verify)
audit_app.add_typer(seal_app)
audit_app.add_typer(erase_app)
