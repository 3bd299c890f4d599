"""The page of measured speed, from the JSON files that `cjstream bench report` writes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from tools.reference.markdown import page, table

FOLDER = Path(__file__).with_name("speed")
Document = dict[str, Any]
RESULT_COLUMNS = {
    "per_second": "per second",
    "cpu_us_per_record": "CPU, µs each",
    "broker_cpu_us_per_record": "broker's CPU, µs each",
    "rss_mb": "memory, MiB",
}


def speed_page() -> str:
    """What was measured, on which machine, with which command, and the peers' settings."""
    return page(
        "Speed",
        "Measured by `tools/run bench report`, which takes about half an hour on two cores and writes the JSON files "
        "and plots in its folder `speed`; `--only join` measures one part of it again, `--quick` tries it out. "
        "Then `.venv/bin/python -m tools.reference` writes this page. What is compared, and the settings of the "
        "peers: [speed-method.md](speed-method.md). Other figures: [figures.md](figures.md).",
        *(section(title, name, text) for name, (title, text) in SECTIONS.items()),
    )


def section(
    title: str, name: str, text: Callable[[Document], Sequence[str]], folder: Path = FOLDER
) -> str:
    """The section of one measurement, or how it is measured if its file is not there."""
    file = folder / f"{name}.json"
    parts = [f"## {title}"]
    if not file.exists():
        return "\n\n".join([*parts, f"Not measured yet: `tools/run bench report --only {name}`."])
    document = orjson.loads(file.read_bytes())
    parts += [_conditions(name, document), *text(document)]
    if file.with_suffix(".svg").exists():
        parts.append(f"![{title}](speed/{name}.svg)")
    return "\n\n".join(parts)


def _conditions(name: str, document: Document) -> str:
    machine = document["machine"]
    quick = " with `--quick`, whose figures are only examples" if document["quick"] else ""
    return (
        f"`tools/run bench report --only {name}`{quick}. {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, Kafka {machine['kafka']}; load average before: {machine['load']}; "
        f"{document['rounds']} rounds."
    )


def _join(document: Document) -> Sequence[str]:
    results = document["results"]
    columns = {
        **RESULT_COLUMNS,
        "of_copy": "of the copy",
        "of_kafka_streams": "of Kafka Streams",
        "of_splicing_streams": "of splicing Streams",
    }
    rows = [
        [
            f"`{result['system']}`",
            *(number(result.get(name)) for name in columns),
            f"{number(result['per_second_min'])} to {number(result['per_second_max'])}",
        ]
        for result in results
    ]
    return (
        f"{document['requests']:,} requests of {document['essays']} essays ({document['request_bytes']} bytes), "
        f"{document['contexts']:,} contexts, {document['partitions']} partitions, batches of up to "
        f"{document['batch_max']:,}.",
        table(("system", *columns.values(), "range"), rows),
    )


def _latency(document: Document) -> Sequence[str]:
    columns = {
        "p50_ms": "p50, ms",
        "p90_ms": "p90, ms",
        "p99_ms": "p99, ms",
        "max_ms": "max, ms",
        "cpu_percent": "CPU, % of a core",
        "rss_mb": "memory, MiB",
    }
    return (
        f"{document['rate_per_s']:g} requests per second for {document['seconds']:g} s, from the append of a request "
        "until a reader of committed records has its outcome.",
        _results(document, columns),
    )


def _fold(document: Document) -> Sequence[str]:
    parts = [
        f"{document['uploads']:,} new uploads in each round, from the append of the first to that of the last row in "
        "the table's changelog.",
        _results(document, RESULT_COLUMNS),
    ]
    if document.get("join_ratio"):
        quiet, beside = document["join_without_uploads"], document["join_beside_fold"]
        parts.append(
            f"The join beside it: {number(beside['per_second'])} requests per second while as many uploads wait to be "
            f"folded, {number(quiet['per_second'])} without: {document['join_ratio']} of it. When all requests were "
            f"joined, {', '.join(f'{left:,}' for left in document['uploads_left_after_join'])} uploads were left."
        )
    return parts


def _replica(document: Document) -> Sequence[str]:
    columns = {
        **{name: text for name, text in RESULT_COLUMNS.items() if not name.startswith("broker")},
        "warm_restart_ms": "warm restart, ms",
        "warm_restart_rss_mb": "memory after it, MiB",
    }
    return (
        f"{document['uploads']:,} uploads of {document['scopes']:,} scopes, read into an empty folder.",
        _results(document, columns),
    )


def _growth(document: Document) -> Sequence[str]:
    columns = {
        "contexts": "contexts",
        "zipf": "Zipf",
        "essays": "essays",
        "workers": "workers",
        "request_bytes": "bytes",
        **RESULT_COLUMNS,
        "of_copy": "of the copy",
    }
    return (
        f"{document['requests']:,} requests of ten essays at each point (of larger ones, as many as have the same "
        "bytes); one axis at a time from the default shape. Zipf: 0 uniform, 1 Zipf's frequencies.",
        _results(document, columns),
    )


def _results(document: Document, columns: Mapping[str, str]) -> str:
    rows = [
        [f"`{result['system']}`", *(number(result.get(name)) for name in columns)]
        for result in document["results"]
    ]
    return table(("system", *columns.values()), rows)


def number(value: float | None) -> str:
    """A figure with as many digits as say something; empty if there is none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


SECTIONS: Mapping[str, tuple[str, Callable[[Document], Sequence[str]]]] = {
    "join": ("The join", _join),
    "latency": ("Latency", _latency),
    "growth": ("How it grows", _growth),
    "fold": ("The fold of uploads into the table", _fold),
    "replica": ("The replica", _replica),
}
