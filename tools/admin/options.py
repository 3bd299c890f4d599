"""Options that several admin commands share, and the decorator for commands that use the API."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from tools.admin.api import AdminApi
from tools.api_address import DEFAULT_URL, api_url
from tools.options import Json as Json

IDENTITY_URL = "http://localhost:7005/v1/auth"

BaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="CJ_ADMIN_BASE_URL",
        help="Base URL of the admin API, with or without /admin/v1. By default that of CJSTREAM_API_HOST and"
        " CJSTREAM_API_PORT if one is set, else where the API of this data folder last listened,"
        f" else {DEFAULT_URL}.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(min=0.1, max=3600, help="Timeout in seconds of one attempt to call the API."),
]

AssignmentId = Annotated[str, typer.Argument(help="Id of the assignment.")]
AssignmentOption = Annotated[
    str | None, typer.Option("--assignment-id", help="Id of the assignment.")
]
CourseOption = Annotated[
    str | None, typer.Option("--course-id", help="Id of a course, instead of an assignment.")
]
PageSize = Annotated[int, typer.Option(min=1, max=200)]
IfVersion = Annotated[
    str | None,
    typer.Option(
        metavar="TAG",
        help="Only if this version is still live: 3-41, or for a whole assignment the tag that `show` prints.",
    ),
]
CreateOnly = Annotated[bool, typer.Option("--create-only", help="Only if nothing is live yet.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def uses_api(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options --base-url, --timeout and --json; it gets an AdminApi made from them first."""

    @wraps(command, assigned=("__module__", "__name__", "__doc__"))
    def run(
        *,
        base_url: BaseUrl = None,
        timeout: Timeout = 30,
        as_json: Json = False,
        **arguments: Any,
    ) -> None:
        command(
            AdminApi.from_environment(base_url or api_url(), timeout, as_json=as_json), **arguments
        )

    *shared, _ = signature(run, follow_wrapped=False).parameters.values()
    _, *own = signature(command).parameters.values()
    own = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own]
    vars(run)["__signature__"] = signature(command).replace(parameters=[*own, *shared])
    return run
