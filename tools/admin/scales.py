"""`cjstream admin scales …`, offline."""

from typing import Any

import typer

from schemas.scales import GradeScale, list_scales
from tools.admin.options import BASE_URL, BaseUrl, Json, Timeout

scales_app = typer.Typer(help="Grade scales.", no_args_is_help=True)


@scales_app.callback()
def scales() -> None:
    """Grade scales."""


@scales_app.command("list")
def list_all(base_url: BaseUrl = BASE_URL, timeout: Timeout = 30, as_json: Json = False) -> None:
    """Every grade scale that this release knows; the API is not called."""
    from tools.admin.output import cell, show_rows
    from tools.printing import print_json

    if as_json:
        print_json({"items": [document_of(scale) for scale in list_scales()]})
        return
    rows = [
        (scale.id, scale.display_name, ", ".join(scale.grades), cell(scale.below_lowest_grade))
        for scale in list_scales()
    ]
    show_rows("Grade scales", ("id", "name", "grades, low to high", "below lowest"), rows)


def document_of(scale: GradeScale) -> dict[str, Any]:
    """A scale in the format of the API."""
    return {
        "id": scale.id,
        "display_name": scale.display_name,
        "description": scale.description,
        "grades": scale.grades,
        "priors": None if scale.priors is None else dict(scale.priors),
        "allows_below_lowest": scale.allows_below_lowest,
        "below_lowest_grade": scale.below_lowest_grade,
    }
