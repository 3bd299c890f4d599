"""Options that several admin commands share."""

from typing import Annotated

import typer

from tools.options import Json as Json

BASE_URL = "http://localhost:9095"
IDENTITY_URL = "http://localhost:7005/v1/auth"

BaseUrl = Annotated[
    str,
    typer.Option(envvar="CJ_ADMIN_BASE_URL", help="Of the admin API; /admin/v1 may trail."),
]
Timeout = Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds for one call.")]

AssignmentId = Annotated[str, typer.Argument(help="Id of the assignment.")]
AssignmentOption = Annotated[
    str | None, typer.Option("--assignment-id", help="The assignment it is about.")
]
CourseOption = Annotated[
    str | None, typer.Option("--course-id", help="The course it is about, instead.")
]
InstructionsFile = Annotated[
    str | None, typer.Option(help="File with the instructions; - is stdin.")
]
InstructionsText = Annotated[str | None, typer.Option(help="The instructions themselves.")]
PromptFile = Annotated[str | None, typer.Option(help="File with the student prompt; - is stdin.")]
PromptText = Annotated[str | None, typer.Option(help="The student prompt itself.")]
RubricFile = Annotated[str | None, typer.Option(help="File with the judge rubric; - is stdin.")]
RubricText = Annotated[str | None, typer.Option(help="The judge rubric itself.")]
IfVersion = Annotated[
    str | None,
    typer.Option(
        metavar="TAG",
        help="Only if this is still live: 3-41; of a whole assignment the tag that `show` prints.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
