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
from tools.processes import told
from tools.progress import bar

COMMAND_S = 60
Line = dict[str, Any]
TEXTS = {"student_prompt": "prompt", "judge_rubric": "rubric"}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload or deletion that the API acknowledged, and where it stands."""

    scope_key: str
    role: str
    is_deletion: bool
    at: Coordinates


class Administrators:
    """Those who upload in the demo, each with a token of their own."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._topics = [topic.name for topic in settings.topics.uploads]
        self._variables = {**environment(**told(settings)), "CJ_ADMIN_BASE_URL": url}
        self._tokens: dict[str, str] = {}

    def upload(self, path: Path) -> list[Uploaded]:
        """Run the commands that a file of uploads asks for. Raises CJStreamError where one fails."""
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        together = list(_together(lines))
        uploaded = []
        for group in bar(together, "admin commands", len(together)):
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

    def _run(self, actor: str, asked: Sequence[str]) -> Any:
        variables = {**self._variables, "CJ_ADMIN_TOKEN": self._token(actor)}
        return json.loads(_said(["admin", *asked, "--json"], variables))

    def _token(self, actor: str) -> str:
        if actor not in self._tokens:
            asked = ["admin", "token", "dev", "--subject", actor]
            self._tokens[actor] = _said(asked, self._variables).strip()
        return self._tokens[actor]


def _together(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Instructions and the texts that follow them for the same assignment: one command."""
    group: list[Line] = []
    for line in lines:
        follows = (
            bool(group)
            and group[0]["type"] == "instructions"
            and line["type"] in TEXTS
            and _scope_key(line) == _scope_key(group[0])
            and line["type"] not in {one["type"] for one in group}
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
    asked = ["instructions", "create", *scoped, "--grade-scale", first["grade_scale"]]
    asked += ["--instructions-text", first["text"]]
    if "context_origin" in first:
        asked += ["--context-origin", first["context_origin"]]
    for line in group[1:]:
        asked += [f"--{TEXTS[line['type']]}-text", line["text"]]
    return asked


def _said(arguments_: Sequence[str], variables: dict[str, str]) -> str:
    done = subprocess.run(
        command(*arguments_),
        env=variables,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        named = " ".join(arguments_[:3])
        raise CJStreamError(f"cjstream {named} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def _scope_key(line: Line) -> str:
    if "course_id" in line:
        return f"course:{line['course_id']}"
    return f"assignment:{line['assignment_id']}"
