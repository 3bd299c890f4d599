"""The points of `bench growth`, and the plots and the page that are made of the figures."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from tools.bench.growth import CONTEXTS, ESSAYS, WORKERS, points
from tools.bench.join.measure import Measured, compared
from tools.bench.join.shape import DEFAULT
from tools.bench.plots import PLOTS, draw
from tools.reference.speed_page import SECTIONS, number, section

ROOT = Path(__file__).parents[3]


def joined(per_second: float, cpu_us: float = 10.0) -> Measured:
    return Measured(per_second, cpu_us, 5.0, 100.0, 900, 600, 1.0)


RUNS = {
    "cjstream": [joined(80.0), joined(100.0)],
    "copy": [joined(100.0), joined(100.0)],
    "kafka-streams-1": [joined(30.0), joined(30.0)],
    "kafka-streams-2": [joined(45.0), joined(45.0)],
    "splicing-streams-1": [joined(60.0), joined(60.0)],
}
MACHINE = {"system": "Linux", "cores": 2, "load": 0.1, "python": "3.11", "kafka": "4.4.0"}


def document(name: str) -> dict[str, Any]:
    """What `bench report` writes, with few figures."""
    results = compared(RUNS, default_shape=True)
    base = {"machine": MACHINE, "quick": False, "rounds": 2, "requests": 600, "results": results}
    sizes = {"contexts": 10_000, "essays": 10, "zipf": 0.0, "workers": 1, "request_bytes": 913}
    match name:
        case "join":
            return {**base, **sizes, "partitions": 4, "batch_max": 5000}
        case "latency":
            latencies = {"p50_ms": 5, "p90_ms": 7, "p99_ms": 20, "max_ms": 31, "cpu_percent": 3.5}
            results = [{"system": name, **latencies, "rss_mb": 90.0} for name in RUNS]
            return {**base, "rate_per_s": 100.0, "seconds": 30.0, "results": results}
        case "growth":
            results = [
                {**result, **sizes, **point}
                for result in results
                for point in (
                    *({"contexts": count} for count in CONTEXTS),
                    *({"essays": count} for count in ESSAYS),
                )
            ]
            return {**base, "results": results}
        case "fold":
            beside = {"per_second": 90.0, "runs": []}
            joins = {"join_without_uploads": beside, "join_beside_fold": beside, "join_ratio": 0.95}
            return {**base, "uploads": 1000, **joins, "uploads_left_after_join": [7, 12]}
    restart = {"warm_restart_ms": 12.5, "warm_restart_rss_mb": 80.0}
    results = [{**result, **restart} for result in results[:1]]
    return {**base, "uploads": 1000, "scopes": 300, "results": results}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in SECTIONS:
        (tmp_path / f"{name}.json").write_bytes(orjson.dumps(document(name)))
    return tmp_path


def test_ratios_are_those_of_medians_and_of_the_best_kafka_streams() -> None:
    results = {result["system"]: result for result in compared(RUNS, default_shape=False)}
    ours = results["cjstream"]
    assert (ours["per_second"], ours["per_second_min"], ours["per_second_max"]) == (90, 80, 100)
    assert (ours["of_copy"], ours["of_kafka_streams"]) == (0.9, 2.0)
    assert ours["of_splicing_streams"] == 1.5  # it is not compared with the one that does less
    assert results["copy"]["of_copy"] == 1
    (alone,) = compared({"cjstream": RUNS["cjstream"]}, default_shape=False)
    references = ("of_copy", "of_kafka_streams", "of_splicing_streams")
    assert [alone[reference] for reference in references] == [None] * 3


def test_one_axis_grows_at_a_time() -> None:
    grid = points(DEFAULT, 1_000_000, every=False)
    assert len(grid) == len(set(grid)) == 2 * len(CONTEXTS) + len(ESSAYS) - 1 + len(WORKERS) - 1
    assert {point.shape.contexts for point in grid} == {*CONTEXTS}
    assert {point.shape.essays for point in grid} == {*ESSAYS}
    assert {point.workers for point in grid} == {*WORKERS}
    for point in grid:
        differences = (
            point.shape.contexts != DEFAULT.contexts,
            point.shape.essays != DEFAULT.essays,
            point.workers != 1,
        )
        assert sum(differences) <= 1


def test_every_combination_can_be_measured() -> None:
    grid = points(DEFAULT, 10_000, every=True)
    assert len(grid) == len(set(grid)) == 2 * len(ESSAYS) * len(WORKERS) * 2


def test_requests_of_many_essays_are_fewer() -> None:
    (hundred,) = {point.shape for point in points(DEFAULT, 10_000, every=False)} & {
        point.shape
        for point in points(DEFAULT, 10_000, every=True)
        if point.shape.essays == 100 and not point.shape.zipf and point.shape.contexts == 10_000
    }
    assert hundred.requests == DEFAULT.requests // 10


def test_the_plots_are_small_and_the_same_for_the_same_figures(folder: Path) -> None:
    drawn = [*draw(folder)]
    assert [path.name for path in drawn] == [f"{name}.svg" for name in PLOTS]
    first = [path.read_bytes() for path in drawn]
    assert max(map(len, first)) < 200_000
    assert b"kafka-streams-2" in first[0]
    assert [path.read_bytes() for path in draw(folder)] == first


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_of_the_page_has_command_machine_and_figures(folder: Path, name: str) -> None:
    title, text = SECTIONS[name]
    for plot in PLOTS:
        (folder / f"{plot}.svg").touch()
    shown = section(title, name, text, folder)
    assert f"`tools/run bench report --only {name}`. 2 cores, Linux, Python 3.11" in shown
    assert "| `cjstream` |" in shown
    assert (f"![{title}](speed/{name}.svg)" in shown) == (name in PLOTS)


def test_a_section_without_figures_has_the_command(tmp_path: Path) -> None:
    title, text = SECTIONS["join"]
    assert "`tools/run bench report --only join`" in section(title, "join", text, tmp_path)


def test_checked_in_plots_are_small() -> None:
    drawn = [*(ROOT / "tools" / "reference" / "speed").glob("*.svg")]
    assert [path.name for path in drawn if os.stat(path).st_size > 200_000] == []


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (123456.7, "123,457"), (0.853, "0.853"), (12, "12")]
)
def test_a_figure_has_few_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown
