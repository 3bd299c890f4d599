"""`cjstream admin …`: the command groups, and how every failure is reported."""

from typing import Any

import typer
from typer.core import TyperGroup

from schemas.errors import CJStreamError
from tools.admin.assignments import assignments_app
from tools.admin.failures import document_of, lines_of, local_problem
from tools.admin.identity import add_identity_commands
from tools.admin.instructions import instructions_app
from tools.admin.scales import scales_app
from tools.admin.texts import prompts_app, rubrics_app
from tools.admin.transfer import export_rows, import_rows
from tools.printing import print_json
from tools.progress import say

# typer exports it under no other name
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class AdminGroup(TyperGroup):
    """Commands that report failures as lines on stderr and, with --json, as a document on stdout."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Record whether --json is given, before anything can fail."""
        ctx.obj = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a CJStreamError becomes its exit code."""
        try:
            return super().invoke(ctx)
        except UsageError as fault:
            if ctx.obj:
                print_json(local_problem(getattr(fault, "message", str(fault)), 2))
            raise
        except CJStreamError as fault:
            for line in lines_of(fault):
                say(line)
            if ctx.obj:
                print_json(document_of(fault))
            raise typer.Exit(fault.exit_code) from fault


admin_app = typer.Typer(
    cls=AdminGroup,
    help="The admin API from the command line: instructions, prompts, rubrics, sign-in.",
    no_args_is_help=True,
)
add_identity_commands(admin_app)
for name, app in {
    "instructions": instructions_app,
    "prompts": prompts_app,
    "rubrics": rubrics_app,
    "assignments": assignments_app,
    "scales": scales_app,
}.items():
    admin_app.add_typer(app, name=name)
admin_app.command("import")(import_rows)
admin_app.command("export")(export_rows)
