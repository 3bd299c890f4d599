"""`cjstream admin …`: the command groups."""

import typer

from tools.admin.anchors import anchors_app
from tools.admin.assignments import assignments_app
from tools.admin.identity import add_identity_commands
from tools.admin.instructions import instructions_app
from tools.admin.scales import scales_app
from tools.admin.texts import prompts_app, rubrics_app
from tools.admin.transfer import export_rows, import_rows

admin_app = typer.Typer(
    help="The admin API from the command line: instructions, prompts, rubrics, anchors, sign-in.",
    no_args_is_help=True,
)
add_identity_commands(admin_app)
for name, app in {
    "instructions": instructions_app,
    "prompts": prompts_app,
    "rubrics": rubrics_app,
    "anchors": anchors_app,
    "assignments": assignments_app,
    "scales": scales_app,
}.items():
    admin_app.add_typer(app, name=name)
admin_app.command("import")(import_rows)
admin_app.command("export")(export_rows)
