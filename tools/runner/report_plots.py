"""The plots of a report as inline SVG: the same artefact gives the same bytes.

Text stays text and takes the page's font. Colours are the page's CSS variables, so that a plot is readable in light
and in dark. Many essays are drawn as a curve without names; the tables beside the plots have all of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from tools.runner.calibration import calibration_of

if TYPE_CHECKING:  # importing it takes long
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Document = Mapping[str, Any]
WIDTH_INCHES = 5.0
NAMED_MAX = 60  # more essays are drawn without their names
ROW_INCHES = 0.2
NAME_MAX = 22  # characters
Z_90 = 1.645  # half of a 90 % interval, in standard errors
LABEL_MIN = 0.12  # probability of a grade that has room for its name
INK, MUTED, ACCENT, WARN, GRID = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "ink", MUTED: "muted", ACCENT: "accent", WARN: "warn", GRID: "grid"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.titlesize": 9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.axisbelow": True,
}
NOT_NEEDED = re.compile(
    r"<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE.*?>|<style.*?</style>| id=\"[A-Za-z0-9.]+_[0-9]+\"",
    re.DOTALL,
)
FONT = re.compile(r"font: (?:bold )?([0-9.]+px)[^;\"]*")


def rank_plot(essays: Sequence[Document], thresholds: Sequence[float]) -> str:
    """Scores in order with their 90 % intervals, and the thresholds of the grades. essays: with a score, best first."""
    best, last = essays[0], essays[-1]
    alt = (
        f"Scores of {len(essays)} essays in logits with 90 % intervals, from {best['essay_id']} ({best['theta']:.2f})"
        f" down to {last['essay_id']} ({last['theta']:.2f})."
    )
    thetas = [essay["theta"] for essay in essays]
    errors = [Z_90 * essay["se"] for essay in essays]
    names = [_short(essay["essay_id"]) for essay in essays]

    def draw(axes: "Axes") -> None:
        places = list(range(len(essays)))
        misfits = [place for place in places if essays[place]["flags"]]
        if len(essays) <= NAMED_MAX:
            axes.errorbar(thetas, places, xerr=errors, fmt="o", color=ACCENT, ms=4, lw=1.2)
            axes.plot([thetas[one] for one in misfits], misfits, "D", color=WARN, ms=7, zorder=5)
            _rows(axes, names)
            axes.set_xlabel("score, logits")
            _lines(axes.axvline, thresholds)
        else:
            axes.vlines(
                places,
                [t - e for t, e in zip(thetas, errors, strict=True)],
                [t + e for t, e in zip(thetas, errors, strict=True)],
                color=GRID,
                lw=1.2,
            )
            axes.plot(places, thetas, ".", color=ACCENT, ms=4)
            axes.plot(misfits, [thetas[one] for one in misfits], "D", color=WARN, ms=5, zorder=5)
            axes.set_xlabel("essays, the best first")
            axes.set_ylabel("score, logits")
            _lines(axes.axhline, thresholds)

    height = _height(len(essays))
    return _svg("ranks", "Scores with error bars", alt, height, draw)


def grade_plot(essays: Sequence[Document], grades: Sequence[str]) -> str:
    """Grade distributions as stacked bars. essays: with a distribution, best first; grades: low to high."""
    alt = (
        f"Probability of each grade, {grades[0]} to {grades[-1]}, as stacked bars for {len(essays)} essays, the best"
        " first. The table has the figures."
    )
    shares = [
        {one["grade"]: one["p"] for one in essay["distribution"]} | {"": 0.0} for essay in essays
    ]
    colours = _ordinal(len(grades))

    def draw(axes: "Axes") -> None:
        low = [0.0] * len(essays)
        places = list(range(len(essays)))
        for grade, (fill, text) in zip(grades, colours, strict=True):
            width = [share.get(grade, 0.0) for share in shares]
            high = [a + b for a, b in zip(low, width, strict=True)]
            if len(essays) <= NAMED_MAX:
                drawn = [place for place in places if width[place] >= 0.002]
                axes.barh(
                    drawn,
                    [width[one] for one in drawn],
                    left=[low[one] for one in drawn],
                    color=fill,
                    height=0.82,
                )
                for place in drawn:
                    if width[place] >= LABEL_MIN:
                        middle = low[place] + width[place] / 2
                        axes.text(
                            middle, place, grade, ha="center", va="center", color=text, size=8
                        )
            else:
                axes.fill_between(places, low, high, color=fill, step="mid", lw=0, label=grade)
            low = high
        if len(essays) <= NAMED_MAX:
            _rows(axes, [_short(essay["essay_id"]) for essay in essays])
            axes.set_xlim(0, 1)
            axes.set_xlabel("probability")
        else:
            axes.set_xlabel("essays, the best first")
            axes.set_ylabel("probability")
            axes.margins(0)
            axes.legend(ncols=len(grades), loc="lower center", bbox_to_anchor=(0.5, 1))

    return _svg("grades", "Grade distributions", alt, _height(len(essays)), draw)


def wave_plot(waves: Sequence[Document], target: float | None, spent: Sequence[float]) -> str:
    """The bound of the reliability, and below it the money spent, after each wave. spent: US dollars, may be empty."""
    last = waves[-1]
    alt = (
        f"Lower bound of the reliability after each of {len(waves)} waves; {_figure(last['bound'])} at the end"
        f"{'' if target is None else f', the target is {target:.2f}'}."
        f"{f' Spending grows to {spent[-1]:.4f} US dollars.' if spent else ''}"
    )
    from matplotlib.ticker import MaxNLocator

    numbers = [wave["wave"] for wave in waves]

    def draw(bound: "Axes", money: "Axes | None" = None) -> None:
        known = [wave for wave in waves if wave["bound"] is not None]
        xs = [wave["wave"] for wave in known]
        bound.plot(xs, [wave["bound"] for wave in known], "o-", color=ACCENT, ms=3, lw=1.5)
        if target is not None:
            bound.axhline(target, color=WARN, lw=1, ls="--")
            bound.annotate("target", (numbers[0], target), (0, 3), textcoords="offset points")
        bound.set_ylim(0, 1)
        bound.set_ylabel("bound of r²")
        bound.grid(visible=True, axis="y")
        if money is not None:
            money.bar(numbers, spent, color=ACCENT, width=0.7)
            money.set_ylabel("spent, USD")
            money.grid(visible=True, axis="y")
        lowest = bound if money is None else money
        lowest.set_xlabel("wave")
        lowest.set_xlim(0.4, numbers[-1] + 0.6)
        lowest.xaxis.set_major_locator(MaxNLocator(integer=True))

    height = 3.6 if spent else 2.2
    return _svg("waves", "Reliability and spending by wave", alt, height, draw, 2 if spent else 1)


def calibration_plot(comparisons: Sequence[Document]) -> str:
    """How often the essay shown first won, against the probability that the scores give it."""
    bins = calibration_of(comparisons)
    alt = (
        f"Share of comparisons that the essay shown first won, against its expected probability, in {len(bins)} groups."
        " Points on the diagonal are as expected."
    )

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=GRID, lw=1)
        axes.errorbar(
            [one["expected"] for one in bins],
            [one["observed"] for one in bins],
            yerr=[Z_90 * one["se"] for one in bins],
            fmt="o",
            color=ACCENT,
            ms=4,
            lw=1.2,
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("expected share of wins of the essay shown first")
        axes.set_ylabel("observed")
        axes.grid(visible=True)

    return _svg("calibration", "Answers against expectation", alt, 3.0, draw)


def anchor_plot(anchors: Sequence[Document], thresholds: Sequence[float]) -> str:
    """Scores of the anchors, in the order of their grades. anchors: with a score, highest grade first."""
    alt = f"Scores of {len(anchors)} anchors with 90 % intervals, in the order of the grades that experts gave them."

    def draw(axes: "Axes") -> None:
        places = list(range(len(anchors)))
        thetas = [anchor["theta"] for anchor in anchors]
        errors = [Z_90 * anchor["se"] for anchor in anchors]
        axes.errorbar(thetas, places, xerr=errors, fmt="s", color=ACCENT, ms=4, lw=1.2)
        flagged = [place for place, anchor in enumerate(anchors) if anchor["flags"]]
        axes.plot([thetas[one] for one in flagged], flagged, "D", color=WARN, ms=7, zorder=5)
        _rows(axes, [f"{_short(one['anchor_id'])}: {one['grade']}" for one in anchors])
        axes.set_xlabel("score, logits")
        _lines(axes.axvline, thresholds)

    return _svg(
        "anchors", "Scores of the anchors", alt, 0.8 + ROW_INCHES * max(3, len(anchors)), draw
    )


def _height(rows: int) -> float:
    return 0.8 + ROW_INCHES * max(3, rows) if rows <= NAMED_MAX else 3.4


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    """A row for each name, the first on top."""
    axes.set_yticks(range(len(names)), names, size=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")


def _lines(line: Callable[..., Any], thresholds: Sequence[float]) -> None:
    for threshold in thresholds:
        line(threshold, color=MUTED, lw=0.8, ls=":")


def _short(name: str) -> str:
    return name if len(name) <= NAME_MAX else f"{name[: NAME_MAX - 1]}…"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _ordinal(count: int) -> list[tuple[str, str]]:
    """Colours from dark to light for ordered values, each with a colour for text on it."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    shades = colormaps["viridis"]
    places = [place / max(1, count - 1) for place in range(count)]
    return [(to_hex(shades(one)), "#ffffff" if one < 0.55 else "#101010") for one in places]


def _svg(
    name: str, title: str, alt: str, height: float, draw: Callable[..., None], rows: int = 1
) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots(rows, 1, squeeze=False, sharex=rows > 1)[:, 0]
        for each in axes:
            each.patch.set_visible(False)
            each.spines[["top", "right"]].set_visible(False)
        draw(*axes)
        return _inline(_saved(figure), name, title, alt)


def _saved(figure: "Figure") -> str:
    out = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    return out.getvalue()


def _inline(svg: str, name: str, title: str, alt: str) -> str:
    """The SVG as a part of a page: without prolog and size, with a title and a description for screen readers."""
    svg = FONT.sub(r"font-size: \1", NOT_NEEDED.sub("", svg))
    svg = re.sub(r' width="[0-9.]+pt"| height="[0-9.]+pt"', "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    start = svg.index("<svg")
    body = svg.index(">", start) + 1
    label = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-alt">{escape(alt)}</desc>'
    opening = svg[start:body].replace(
        "<svg", f'<svg role="img" aria-labelledby="{name}-title {name}-alt"', 1
    )
    return f"{opening}{label}{svg[body:].strip()}"
