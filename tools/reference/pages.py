"""The text of each generated reference page, as Markdown."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from prometheus_client import CollectorRegistry
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from processors.kafka_security import KafkaSecurity, security_variable
from processors.monitoring.judge_metrics import JudgeMetrics, JudgeState
from processors.monitoring.worker_metrics import WorkerMetrics, WorkerState
from processors.registry_security import RegistrySecurity, registry_variable
from processors.s3_settings import S3Settings, s3_variable
from processors.settings import GROUPS, Settings, variable_of
from schemas.released_schemas import released
from schemas.topics import Topics
from tools.api.admission import AdmittedRoute, RoleCheck
from tools.api.app import build_api
from tools.api.auth.key_settings import JwtSettings
from tools.api.console.console_settings import ConsoleSettings
from tools.api.errors.problems import KINDS, URN
from tools.api.services.metrics import Metrics
from tools.asyncapi import asyncapi
from tools.reference.markdown import page, table
from tools.reference.speed_page import speed_page


def settings_page() -> str:
    """Every environment variable, from the settings' classes."""
    return page(
        "Settings",
        "Every setting is an environment variable. An invalid value stops the process at once (exit code 2), and "
        "the message names the variable, never its value.",
        "## Worker, API and commands",
        table(("variable", "type", "default", "meaning"), _fields(Settings, variable_of)),
        "## Kafka with TLS and sign-in",
        "They hold for every client: worker, API, commands. Of a secret, `<VARIABLE>_FILE` can name a file instead, "
        "as container platforms mount them; also of the secrets below, and of `JWT_SECRET_KEY`.",
        table(
            ("variable", "type", "default", "meaning"), _fields(KafkaSecurity, security_variable)
        ),
        "## Schema registry with TLS and sign-in",
        "They hold for the registry at `SCHEMA_REGISTRY_URL`. TLS needs none of them if the system trusts the "
        "registry's certificate.",
        table(
            ("variable", "type", "default", "meaning"),
            _fields(RegistrySecurity, registry_variable),
        ),
        "## Content store on S3",
        "They hold if `CJSTREAM_CONTENT_URL` is `s3://bucket/prefix`. What is unset comes from AWS's own variables "
        "(`AWS_REGION`, `AWS_ACCESS_KEY_ID` …) or from the role of the machine; credentials or an endpoint in both "
        "places are refused. A certificate that the system does not trust needs `SSL_CERT_FILE`, a file with the "
        "certificates of all authorities. Google's and Azure's stores (`gs://`, `az://`) read the variables of their "
        "own clients (`GOOGLE_…`, `AZURE_…`).",
        table(("variable", "type", "default", "meaning"), _fields(S3Settings, s3_variable)),
        "## Tokens of the admin API",
        table(
            ("variable", "type", "default", "meaning"),
            _fields(JwtSettings, lambda name: f"JWT_{name.upper()}"),
        ),
        "## Console",
        "In development anybody signs in with one click. Elsewhere people sign in at an OpenID Connect provider or at "
        "an identity service, and the token that they get must be one that the API accepts.",
        table(
            ("variable", "type", "default", "meaning"),
            _fields(ConsoleSettings, lambda name: f"CONSOLE_{name.upper()}"),
        ),
    )


def _fields(settings: type[BaseSettings], variable: Callable[[str], str]) -> Iterator[list[str]]:
    schema = settings.model_json_schema()["properties"]
    for name, field in settings.model_fields.items():
        if name in GROUPS:  # with a table of its own
            continue
        key = name if name in schema else variable(name)
        default = "" if field.default in (PydanticUndefined, None) else str(field.default)
        if isinstance(field.default, tuple):
            default = ",".join(field.default)
        yield [
            f"`{variable(name)}`",
            _type(schema[key]),
            f"`{default}`" if default else "",
            field.description or "",
        ]


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    name = {"integer": "whole number", "array": "names with commas between them"}.get(
        schema["type"], schema.get("format", schema["type"])
    )
    bounds = [schema.get("minimum"), schema.get("maximum")]
    return f"{name}, {bounds[0]} to {bounds[1]}" if None not in bounds else name


def topics_page() -> str:
    """The topic catalogue."""
    horizon = 400
    rows = [
        [
            f"`{topic.name}`",
            "<br>".join(event.__name__ for event in topic.carries) or "the refused records",
            "<br>".join(
                f"{name}={value}"
                for name, value in topic.config(horizon_days=horizon, replication=3).items()
            ),
        ]
        for topic in Topics().all
    ]
    return page(
        "Topics",
        f"From `schemas/topics.py`, with the default audit horizon of {horizon} days and three brokers. "
        "Every name gets the prefix `CJSTREAM_TOPIC_PREFIX`. `topics apply` creates missing topics, and gives "
        "existing ones `compression.type=uncompressed`. It exits with 3 if another setting differs; then a worker does "
        "not start.",
        table(("topic", "events", "configuration"), rows),
    )


def asyncapi_document() -> str:
    """The AsyncAPI document of an installation with default settings, for programs."""
    settings = Settings.model_construct()
    document = asyncapi(
        Topics(), horizon_days=settings.audit_horizon_days, partitions=settings.partitions
    )
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def schemas_page() -> str:
    """Every released schema with its fields."""
    parts = []
    for schema in released():
        parts += [
            f"## {schema.name}, version {schema.version}",
            f"Schema id {schema.schema_id}. {schema.schema.get('doc', '')}".strip(),
            table(
                ("field", "type", "default", "meaning"),
                (
                    [
                        f"`{field['name']}`",
                        _avro(field["type"]),
                        _default(field),
                        field.get("doc", ""),
                    ]
                    for field in schema.schema["fields"]
                ),
            ),
        ]
    return page(
        "Schemas",
        "The released Avro schemas, `schemas/*.avsc`. Records are framed as Confluent's serializers do: one byte 0, "
        "the schema id (4 bytes, big endian), the Avro body. Times are milliseconds since the epoch.",
        *parts,
    )


def _default(field: Mapping[str, Any]) -> str:
    return f"`{field['default']!r}`".replace("None", "null") if "default" in field else ""


def _avro(schema: Any) -> str:
    match schema:
        case list():
            return " or ".join(_avro(branch) for branch in schema)
        case {"type": "array", "items": items}:
            return f"array of {_avro(items)}"
        case {"type": "record", "name": name}:
            return f"record {name}"
    return str(schema)


def problems_page() -> str:
    """The problem types of the API."""
    return page(
        "Problems",
        f"The admin API answers errors as problem+json (RFC 9457). `type` is `{URN}` and the name below.",
        table(
            ("type", "status", "title", "Retry-After, seconds"),
            (
                [f"`{slug}`", str(kind.status), kind.title, str(kind.retry_after_s or "")]
                for slug, kind in sorted(KINDS.items())
            ),
        ),
    )


def routes_page() -> str:
    """The routes of the API, and the roles that may call them."""
    unused: Any = None
    app: Any = build_api(unused, unused, unused, unused, unused, Settings.model_construct())
    rows = [
        [f"`{method} {route.path}`", _roles(route), route.description or ""]
        for router in app.routes
        for route in getattr(router, "original_router", router).routes
        for method in sorted(route.methods)
        if not route.path.endswith("{rest:path}")  # answers 404 and 405
    ]
    return page(
        "Routes",
        "The routes of the admin API. A token needs one of the named roles; a route without roles needs no token, but "
        "those under `/registry` need any valid one if `CJSTREAM_REGISTRY_AUTH` is true. Those are the read-only part "
        "of Confluent's schema registry API. In development `/docs` shows bodies, parameters and responses.",
        table(("route", "roles", "meaning"), rows),
    )


def _roles(route: Any) -> str:
    checks = [depends.dependency for depends in route.dependencies]
    roles = [check.roles for check in checks if isinstance(check, RoleCheck)]
    roles += [route.roles] if isinstance(route, AdmittedRoute) else []
    return ", ".join(role for admitted in roles for role in admitted)


def metrics_page() -> str:
    """The metrics of every process kind."""
    worker, judge = WorkerMetrics(), JudgeMetrics([])
    worker.show(IDLE_WORKER)
    judge.show(JudgeState(int, dict))
    return page(
        "Metrics",
        "Each process serves its own at `/metrics`, in Prometheus' text format: the API on its port, or that of"
        " `CJSTREAM_METRICS_PORT`; a worker and a judge on `CJSTREAM_WORKER_METRICS_ADDRESS` and"
        " `CJSTREAM_JUDGE_METRICS_ADDRESS`, and only if these are set; `/healthz` and `/readyz` are there, too."
        " Counters have the suffix `_total`. Every label has a closed set of values."
        " What to watch, and what each alert means: [monitoring](monitoring.md).",
        "## Worker",
        metrics_table(worker.registry),
        "## Judge",
        metrics_table(judge.registry),
        "## Admin API",
        metrics_table(Metrics(lambda: 0).registry),
    )


IDLE_WORKER = WorkerState(
    owned=frozenset,
    committed=dict,
    appended_at_ms=dict,
    replica=dict,
    replica_rows=int,
    stopped_uploads=int,
    fold=dict,
    parked=int,
    oldest_parked_s=float,
    patience_s=0,
    open_transaction_s=float,
    rebalances=int,
    blocked=int,
    watchdog_trips=int,
    readiness=dict,
)


def metrics_table(registry: CollectorRegistry) -> str:
    """The metrics of one process kind, but for those that every Python process has."""
    rows = [
        [f"`{metric.name}`", metric.type, metric.documentation]
        for metric in registry.collect()
        if not metric.name.startswith("process_")
    ]
    return table(("metric", "type", "what"), sorted(rows))


def commands_page() -> str:
    """Every command with its options, from the command line itself."""
    from tools.cli import app  # the command line imports every command

    root = typer.main.get_command(app)
    parts = []
    for words, command in _commands(root, ()):
        parts += [f"## {' '.join(words)}", (command.help or "").strip()]
        if rows := list(_parameters(command)):
            parts.append(table(("argument or option", "default", "meaning"), rows))
    return page(
        "Commands",
        "Type `tools/run` before them in a checkout, `cjstream` when installed. With `--json` a command prints "
        "one JSON document on stdout, nothing else (`audit replay`: JSON lines). If it fails before that, the document "
        "has `type`, `title`, `detail` and `exit_code`; stderr says the same in a line. Exit codes: 0 done, 1 failed, "
        "2 wrong usage, 3 a check found a discrepancy, 4 a dependency is unreachable.",
        *parts,
    )


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command that is no group, with its words."""
    if not (group := getattr(command, "commands", None)):
        yield words, command
        return
    for name, one in sorted(group.items()):
        yield from _commands(one, (*words, name))


def _parameters(command: Any) -> Iterator[list[str]]:
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = f"`{parameter.metavar or parameter.name.upper()}`"
        else:
            name = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        if name in ("`--help`", "`--json`"):
            continue
        default = parameter.default
        shown = "" if callable(default) or default in (None, False, ()) else f"`{default}`"
        variable = getattr(parameter, "envvar", None)
        meaning = getattr(parameter, "help", None) or ""
        yield [name, shown, f"{meaning} `{variable}` sets it, too." if variable else meaning]


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "topics.md": topics_page,
    "asyncapi.json": asyncapi_document,
    "schemas.md": schemas_page,
    "routes.md": routes_page,
    "problems.md": problems_page,
    "metrics.md": metrics_page,
    "speed.md": speed_page,
}
