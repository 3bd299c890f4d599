"""The options that plan, dry-run, execute and preflight share, and the decorator that gives them to a command."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import Malformed
from schemas.scales import get_scale
from tools.admin import arguments
from tools.admin.failures import Usage
from tools.options import Json
from tools.runner.inventory import InputPaths

LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")
DEFAULT_TIMEOUT_S = 1800
INPUT_NAMES = tuple(field.name for field in fields(InputPaths))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """The values of the shared options."""

    paths: InputPaths
    scale: str
    label: str
    assignment_id: str
    course_code: str
    language: str
    overrides: Path | None
    judge: str | None
    max_cost: str | None
    max_comparisons: int | None
    timeout: int
    folder: Path | None
    metrics_file: Path | None
    log_level: str
    base_url: str | None
    as_json: bool


MetricsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write metrics in Prometheus' text format, for a node exporter."
    ),
]
LogLevel = Annotated[
    str,
    typer.Option(metavar="LEVEL", help="Lowest level of log lines: debug, info, warning, error."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="CJ_ADMIN_BASE_URL", help="Base URL of the admin API; by default as for `admin`."
    ),
]


def _options(
    *,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder with instructions, prompt, rubric and system (.docx or .txt), anchors, grades.csv and"
            " students; each of the next seven options goes before it.",
        ),
    ] = None,
    instructions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The instructions: what is assessed, and how."),
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The task that the pupils were set.")
    ] = None,
    rubric: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The judge rubric, if there is one.")
    ] = None,
    system: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A system prompt for the judge.")
    ] = None,
    anchors: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The anchors, a file each.")
    ] = None,
    grades: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The anchors' grades: CSV with anchor_id and grade."),
    ] = None,
    students: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The pupils' texts, a file each.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="The grade scale; `admin scales list` shows them.", metavar="ID")
    ],
    label: Annotated[
        str, typer.Option(help="Name of the run: small letters, digits, dots, - and _.")
    ] = "run",
    assignment_id: Annotated[
        str, typer.Option(help="The assignment that gets the texts; by default the label.")
    ] = "",
    course_code: Annotated[str, typer.Option(help="The course of the request.")] = "research",
    language: Annotated[str, typer.Option(help="The language of the texts.")] = "en",
    overrides: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON with llm_config_overrides; `models check` checks it."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER/MODEL", help="The judge; by default that of CJSTREAM_JUDGE."
        ),
    ] = None,
    max_cost: Annotated[
        str | None,
        typer.Option(
            metavar="USD", help="What the run may cost; required for a judge that is paid for."
        ),
    ] = None,
    max_comparisons: Annotated[
        int | None, typer.Option(min=1, help="The most comparisons of the whole run.")
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, max=30 * 86_400, help="Seconds to wait for the result.")
    ] = DEFAULT_TIMEOUT_S,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The run's folder; by default a new one below the data folder."
        ),
    ] = None,
    metrics_file: MetricsFile = None,
    log_level: LogLevel = "info",
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """The signature of the shared options."""


def takes_run(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the shared options; it gets RunArguments made from them first."""

    @wraps(command, assigned=("__module__", "__name__", "__doc__"))
    def run(**given: Any) -> None:
        own_names = [name for name in given if name not in shared_names]
        own = {name: given.pop(name) for name in own_names}
        command(_arguments(given), **own)

    shared = list(signature(_options).parameters.values())
    shared_names = {parameter.name for parameter in shared}
    _, *own_parameters = signature(command).parameters.values()
    last = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own_parameters]
    vars(run)["__signature__"] = signature(command).replace(parameters=[*shared, *last])
    return run


def _arguments(given: dict[str, Any]) -> RunArguments:
    """Raises Usage."""
    root = given.pop("root")
    if root is not None and not root.is_dir():
        raise Usage(f"--root: {root} is not a folder")
    paths = InputPaths(**{name: given.pop(name) for name in INPUT_NAMES}).within(root)
    if not LABEL.fullmatch(given["label"]):
        raise Usage(
            "--label: up to 48 small letters, digits, dots, - and _, a letter or digit first"
        )
    given["assignment_id"] = given["assignment_id"] or given["label"]
    try:
        get_scale(given["scale"])
    except Malformed as fault:
        raise Usage(f"--scale: {fault}") from None
    for name in ("assignment_id", "course_code", "language"):
        given[name] = arguments.checked(name, given[name], f"--{name.replace('_', '-')}")
    return RunArguments(paths=paths, **given)
