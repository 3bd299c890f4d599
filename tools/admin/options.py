"""Options that several admin commands share."""

from typing import Annotated

import typer

from tools.options import Json as Json

BASE_URL = "http://localhost:9095"
IDENTITY_URL = "http://localhost:7005/v1/auth"

BaseUrl = Annotated[
    str,
    typer.Option(
        envvar="CJ_ADMIN_BASE_URL", help="Base URL of the admin API, with or without /admin/v1."
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
InstructionsFile = Annotated[
    str | None, typer.Option(help="File with the instructions, - for stdin.")
]
InstructionsText = Annotated[str | None, typer.Option(help="Text of the instructions.")]
PromptFile = Annotated[str | None, typer.Option(help="File with the student prompt, - for stdin.")]
PromptText = Annotated[str | None, typer.Option(help="Text of the student prompt.")]
RubricFile = Annotated[str | None, typer.Option(help="File with the judge rubric, - for stdin.")]
RubricText = Annotated[str | None, typer.Option(help="Text of the judge rubric.")]
IfVersion = Annotated[
    str | None,
    typer.Option(
        metavar="TAG",
        help="Only if this version is still live: 3-41, or for a whole assignment the tag that `show` prints.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
