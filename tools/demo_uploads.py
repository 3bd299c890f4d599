"""The demo's administrators: every upload is one `cjstream admin` command, run against the API."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.errors import CJStreamError
from schemas.events import ROLES
from tools.children import command, environment
from tools.processes import settings_values
from tools.progress import bar

COMMAND_S = 60
Line = dict[str, Any]
TEXTS = {"student_prompt": "prompt", "judge_rubric": "rubric"}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload or deletion that the API acknowledged, and its coordinates."""

    scope_key: str
    role: str
    is_deletion: bool
    at: Coordinates


class Administrators:
    """The users who upload in the demo, each with their own token."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._topics = [topic.name for topic in settings.topics.uploads]
        self._variables = {**environment(**settings_values(settings)), "CJ_ADMIN_BASE_URL": url}
        self._tokens: dict[str, str] = {}

    def upload(self, path: Path) -> list[Uploaded]:
        """Run the commands for a file of uploads. Raises CJStreamError if one fails."""
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        groups = list(_groups(lines))
        uploaded = []
        for group in bar(groups, "admin commands", len(groups)):
            uploaded += [
                Uploaded(
                    _scope_key(group[0]),
                    ROLES[self._topics.index(position["topic"])],
                    "delete" in group[0],
                    Coordinates(**position),
                )
                for position in self._run(group[0]["actor"], arguments(group))["position"]
            ]
        return uploaded

    def _run(self, actor: str, command_arguments: Sequence[str]) -> Any:
        variables = {**self._variables, "CJ_ADMIN_TOKEN": self._token(actor)}
        return json.loads(_output(["admin", *command_arguments, "--json"], variables))

    def _token(self, actor: str) -> str:
        if actor not in self._tokens:
            sign_in = ["admin", "token", "dev", "--subject", actor]
            self._tokens[actor] = _output(sign_in, self._variables).strip()
        return self._tokens[actor]


def _groups(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """The uploads of each command: instructions go with the texts that follow them for the same assignment."""
    group: list[Line] = []
    for line in lines:
        follows = (
            bool(group)
            and group[0]["type"] == "instructions"
            and line["type"] in TEXTS
            and _scope_key(line) == _scope_key(group[0])
            and line["type"] not in {grouped["type"] for grouped in group}
        )
        if group and not follows:
            yield group
            group = []
        group.append(line)
    yield group


def arguments(group: Sequence[Line]) -> list[str]:
    """The command for one upload, or for instructions with the texts that go with them."""
    first = group[0]
    scope = "course_id" if "course_id" in first else "assignment_id"
    scoped = [f"--{scope.replace('_', '-')}", first[scope]]
    if first["type"] in TEXTS:
        name = TEXTS[first["type"]]
        return [f"{name}s", "upload", *scoped, f"--{name}-text", first["text"]]
    if first.get("delete"):
        return ["instructions", "delete", *scoped, "--yes"]
    words = ["instructions", "create", *scoped, "--grade-scale", first["grade_scale"]]
    words += ["--instructions-text", first["text"]]
    if "context_origin" in first:
        words += ["--context-origin", first["context_origin"]]
    for line in group[1:]:
        words += [f"--{TEXTS[line['type']]}-text", line["text"]]
    return words


def _output(command_arguments: Sequence[str], variables: dict[str, str]) -> str:
    done = subprocess.run(
        command(*command_arguments),
        env=variables,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        name = " ".join(command_arguments[:3])
        raise CJStreamError(f"cjstream {name} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def _scope_key(line: Line) -> str:
    if "course_id" in line:
        return f"course:{line['course_id']}"
    return f"assignment:{line['assignment_id']}"
