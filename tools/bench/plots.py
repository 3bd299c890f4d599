"""Draws the figures of `bench report` as SVG files."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tools.bench.percentiles import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

OURS, PEER, LIGHT = "#1f6fb4", "#9aa5b1", "#c9dcee"
WIDTH_INCHES = 8
Results = list[Figures]


def draw(folder: Path) -> Iterator[Path]:
    """Draw a plot beside each JSON file that has one; their paths."""
    for name, (height, columns, drawing) in PLOTS.items():
        source = folder / f"{name}.json"
        if source.exists():
            results = orjson.loads(source.read_bytes())["results"]
            yield _drawn(source.with_suffix(".svg"), results, height, columns, drawing)


def _drawn(
    path: Path, results: Results, height: float, columns: int, drawing: Callable[..., None]
) -> Path:
    import matplotlib as mpl  # only here: no other command draws
    from matplotlib.figure import Figure

    # the same figures give the same bytes, and text stays text
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        for each in axes:
            each.spines[["top", "right"]].set_visible(False)
        drawing(results, *axes)
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path


def _join(results: Results, rates: "Axes", cpu: "Axes") -> None:
    """Bars of the rates with their spread, and of the CPU time."""
    names = [result["system"] for result in results]
    colours = [OURS if name.startswith("cjstream") else PEER for name in names]
    spread = [
        [result["per_second"] - result["per_second_min"] for result in results],
        [result["per_second_max"] - result["per_second"] for result in results],
    ]
    values = [result["per_second"] for result in results]
    bars = rates.barh(names, values, xerr=spread, color=colours, ecolor="black")
    rates.bar_label(bars, [f" {value:,.0f}" for value in values], label_type="edge", padding=6)
    rates.set_xlabel("requests per second, median and range")
    rates.margins(x=0.25)
    own = [result["cpu_us_per_record"] for result in results]
    broker = [result["broker_cpu_us_per_record"] for result in results]
    cpu.barh(names, own, color=colours, label="its processes")
    cpu.barh(names, broker, left=own, color=LIGHT, label="the broker")
    cpu.set_xlabel("CPU per request, µs; light: the broker")
    cpu.tick_params(labelleft=False)
    for axes in (rates, cpu):
        axes.invert_yaxis()


def _latency(results: Results, axes: "Axes") -> None:
    """Bars of the median, with the 99th percentile and the maximum as marks, on a logarithmic axis."""
    names = [result["system"] for result in results]
    colours = [OURS if name.startswith("cjstream") else PEER for name in names]
    axes.barh(names, [result["p50_ms"] for result in results], color=colours, label="median")
    for figure, mark in (("p90_ms", "|"), ("p99_ms", "o"), ("max_ms", "x")):
        values = [result[figure] for result in results]
        axes.plot(values, names, mark, color="black", label=figure.removesuffix("_ms"))
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    _plain_numbers(axes.xaxis)
    axes.set_xlabel("ms from append to committed outcome")
    axes.invert_yaxis()
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))


def _growth(results: Results, contexts: "Axes", essays: "Axes") -> None:
    """CPU time by contexts, and rates by essays."""
    one_worker = [result for result in results if result["workers"] == 1]
    ten = [result for result in one_worker if result["essays"] == 10]
    for zipf, label, line in ((0.0, "uniform", "-"), (1.0, "Zipf", "--")):
        _line(
            contexts,
            _those(ten, system="cjstream", zipf=zipf),
            ("contexts", "cpu_us_per_record"),
            label=f"cjstream, {label}",
            color=OURS,
            linestyle=line,
        )
    _line(
        contexts,
        _those(ten, system="copy", zipf=0.0),
        ("contexts", "cpu_us_per_record"),
        label="copy",
        color=PEER,
    )
    contexts.set_ylabel("CPU per request, µs")
    same = {result["contexts"] for result in one_worker if result["essays"] != 10}
    for system, colour in (("cjstream", OURS), ("copy", PEER)):
        chosen = _those(one_worker, system=system, zipf=0.0)
        chosen = [result for result in chosen if result["contexts"] in same]
        _line(essays, chosen, ("essays", "per_second"), label=system, color=colour)
    essays.set_ylabel("requests per second")
    essays.set_yscale("log")
    for axes in (contexts, essays):
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
        axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    _plain_numbers(essays.yaxis)
    contexts.set_ylim(bottom=0)
    contexts.set_xlabel("contexts")
    essays.set_xlabel("essays in a request")


def _plain_numbers(axis: "Axis") -> None:
    """Write 10,000 instead of a power of ten, at whole powers only."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_minor_formatter(lambda *_: "")


def _those(results: Results, **wanted: Any) -> Results:
    return [
        result for result in results if all(result[name] == value for name, value in wanted.items())
    ]


def _line(axes: "Axes", results: Results, names: Sequence[str], **style: Any) -> None:
    """A line through two figures of these results."""
    pairs = sorted((result[names[0]], result[names[1]]) for result in results)
    axes.plot([x for x, _ in pairs], [y for _, y in pairs], marker="o", **style)


PLOTS: dict[str, tuple[float, int, Callable[..., None]]] = {  # height in inches, columns
    "join": (2.6, 2, _join),
    "latency": (2.6, 1, _latency),
    "growth": (3.2, 2, _growth),
}
