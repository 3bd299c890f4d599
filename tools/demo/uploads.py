"""The demo's administrators: they upload for courses by command line, for assignments over HTTP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
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
FIELDS = dict(zip(ROLES, ("instructions_text", "prompt_text", "rubric_text"), strict=True))
# routes for one text; instructions together with other texts are uploaded as an assignment
ROUTES = dict(
    zip(ROLES, ("assessment-instructions", "student-prompts", "judge-rubrics"), strict=True)
)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload or deletion that the API acknowledged, and its coordinates."""

    scope_key: str
    role: str
    is_deletion: bool
    at: Coordinates


def upload(settings: Settings, url: str, path: Path) -> list[Uploaded]:
    """Upload a file's texts, each user with their own token. Raises CJStreamError if an upload fails."""
    groups = list(_groups(read_uploads([str(path)])))
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


def _groups(uploads: Sequence[GivenUpload]) -> Iterator[list[GivenUpload]]:
    """The uploads of each call: instructions go with the texts that follow them for the same assignment."""
    group: list[GivenUpload] = []
    for given in uploads:
        follows = (
            bool(group)
            and group[0].line.type == "instructions"
            and given.scope_key == group[0].scope_key
            and given.line.type not in {grouped.line.type for grouped in group}
        )
        if group and not follows:
            yield group
            group = []
        group.append(given)
    yield group


def _response(settings: Settings, url: str, group: Sequence[GivenUpload]) -> Any:
    """The API's response to an upload, or to instructions with the texts that go with them."""
    line = group[0].line
    token = dev_token(line.actor, environment=settings.environment)
    if line.course_id is not None:
        options = chain.from_iterable(
            (f"--{name.replace('_', '-')}", value) for name, value in _fields(group).items()
        )
        command = ("admin", "instructions", "create", *options, "--json")
        variables = {"CJ_ADMIN_BASE_URL": url, "CJ_ADMIN_TOKEN": token}
        return orjson.loads(command_output(settings, *command, **variables))
    path = "assignments" if len(group) > 1 else ROUTES[line.type]
    return (
        HttpClient(TIMEOUT_S)
        .send(
            f"upload for {group[0].scope_key}",
            "DELETE" if line.delete else "POST",
            url
            + (route(path, "assignment", str(line.assignment_id)) if line.delete else route(path)),
            body=None if line.delete else _fields(group),
            headers={"Authorization": f"Bearer {token}"},
        )
        .document
    )


def _fields(group: Sequence[GivenUpload]) -> dict[str, str]:
    """The fields of the call; the command's options have the same names."""
    first = group[0].line.model_dump(
        include={"assignment_id", "course_id", "grade_scale", "context_origin"},
        exclude_unset=True,
    )
    return first | {FIELDS[given.line.type]: (given.text or b"").decode() for given in group}
