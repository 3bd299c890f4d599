"""The demo's administrators: they upload for courses by command line, for assignments over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.events import ROLES
from tools.admin.client import HttpClient, route
from tools.admin.dev_token import dev_token
from tools.inputs import GivenUpload, read_uploads
from tools.processes import command_output
from tools.progress import bar

TIMEOUT_S = 30.0
FIELDS = {
    "instructions": "instructions_text",
    "student_prompt": "prompt_text",
    "judge_rubric": "rubric_text",
}
ROUTES = {  # of one text; instructions together with other texts are uploaded as an assignment
    "instructions": "assessment-instructions",
    "student_prompt": "student-prompts",
    "judge_rubric": "judge-rubrics",
}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload or deletion that the API acknowledged, and its coordinates."""

    scope_key: str
    role: str
    is_deletion: bool
    at: Coordinates


def upload(settings: Settings, url: str, path: Path) -> list[Uploaded]:
    """Upload a file's texts, consecutive ones of a scope together. Raises CJStreamError if an upload fails."""
    by_scope = groupby(read_uploads([str(path)]), attrgetter("scope_key"))
    groups = [list(group) for _, group in by_scope]
    topics = [topic.name for topic in settings.topics.uploads]
    return [
        Uploaded(
            group[0].scope_key,
            ROLES[topics.index(position["topic"])],
            group[0].line.delete,
            Coordinates(**position),
        )
        for group in bar(groups, "uploads", len(groups))
        for position in _response(settings, url, group)["position"]
    ]


def _response(settings: Settings, url: str, group: Sequence[GivenUpload]) -> Any:
    """The API's response to an upload of one text, or of instructions with other texts; each user has a token."""
    line = group[0].line
    token = dev_token(line.actor, environment=settings.environment)
    if line.course_id is not None:
        options = chain.from_iterable(
            (f"--{name.replace('_', '-')}", value) for name, value in _fields(group).items()
        )
        command = ("admin", "instructions", "create", *options, "--json")
        variables = {"CJ_ADMIN_BASE_URL": url, "CJ_ADMIN_TOKEN": token}
        return orjson.loads(command_output(settings, *command, **variables))
    path = ["assignments" if len(group) > 1 else ROUTES[line.type]]
    if line.delete:
        path += ["assignment", str(line.assignment_id)]
    response = HttpClient(TIMEOUT_S).send(
        f"upload for {group[0].scope_key}",
        "DELETE" if line.delete else "POST",
        url + route(*path),
        body=None if line.delete else _fields(group),
        headers={"Authorization": f"Bearer {token}"},
    )
    return response.document


def _fields(group: Sequence[GivenUpload]) -> dict[str, str]:
    """The fields of the call; the command's options have the same names."""
    first = group[0].line.model_dump(
        include={"assignment_id", "course_id", "grade_scale", "context_origin"},
        exclude_unset=True,
    )
    return first | {FIELDS[given.line.type]: (given.text or b"").decode() for given in group}
