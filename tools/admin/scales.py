"""`cjstream admin scales …`, offline."""

import typer

from schemas.scales import list_scales
from tools.admin.options import BaseUrl, Json, Timeout
from tools.admin.output import cell, show_rows
from tools.printing import print_json

scales_app = typer.Typer(help="Grade scales.", no_args_is_help=True)


@scales_app.callback()
def scales() -> None:
    """Grade scales."""


@scales_app.command("list")
def list_all(base_url: BaseUrl = None, timeout: Timeout = 30, as_json: Json = False) -> None:
    """Every grade scale that this release knows; the API is not called."""
    if as_json:
        # builds every model of the API, which other commands need not wait for
        from tools.api.responses.response_models import Scale

        print_json({"items": [Scale.model_validate(each).model_dump() for each in list_scales()]})
        return
    rows = [
        (scale.id, scale.display_name, ", ".join(scale.grades), cell(scale.below_lowest_grade))
        for scale in list_scales()
    ]
    show_rows("Grade scales", ("id", "name", "grades, low to high", "below lowest"), rows)
