"""`cjstream bench report`: all measurements of speed in one go, as JSON files and plots for the reference page."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import orjson

from tools.bench import fold, growth, latency, plots, replica
from tools.bench.join import run as join
from tools.bench.join.shape import DEFAULT
from tools.bench.percentiles import Figures
from tools.processes import Say

QUICK = 1 / 60  # of the requests of each shape
Measurement = Callable[[Say, bool], Figures]


def _join(say: Say, quick: bool) -> Figures:
    shape, rounds = (DEFAULT.scaled(QUICK), 1) if quick else (DEFAULT, 2)
    return join.run(say, shape=shape, rounds=rounds, workers=1, only=join.NAMES)


def _latency(say: Say, quick: bool) -> Figures:
    seconds, rounds = (5, 1) if quick else (30, 2)
    return latency.run(
        say, rate=100, seconds=seconds, contexts=1000, rounds=rounds, only=join.NAMES
    )


def _fold(say: Say, quick: bool) -> Figures:
    uploads, requests, rounds = (2_000, 5_000, 1) if quick else (200_000, 200_000, 2)
    return fold.run(say, uploads=uploads, contexts=1_000, requests=requests, rounds=rounds)


def _replica(say: Say, quick: bool) -> Figures:
    uploads, times = (5_000, 1) if quick else (1_000_000, 3)
    return replica.run(say, uploads=uploads, assignments=uploads // 3, times=times)


def _growth(say: Say, quick: bool) -> Figures:
    scale, contexts, rounds = (QUICK, 1_000, 1) if quick else (1 / 3, 1_000_000, 2)
    shape = DEFAULT.scaled(scale)
    return growth.run(say, shape=shape, max_contexts=contexts, rounds=rounds, every=False)


MEASUREMENTS: Mapping[str, Measurement] = {
    "join": _join,
    "latency": _latency,
    "fold": _fold,
    "replica": _replica,
    "growth": _growth,
}


def write(
    say: Say,
    folder: Path,
    names: Collection[str],
    machine: Callable[[], dict[str, Any]],
    *,
    quick: bool,
) -> None:
    """Run these measurements, each of which writes its file when it ends, and draw the plots of all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        document: Figures = {"machine": machine(), "quick": quick}
        document |= MEASUREMENTS[name](say, quick)
        path = folder / f"{name}.json"
        path.write_bytes(
            orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
        say(f"{path} written")
    for path in plots.draw(folder):
        say(f"{path} drawn")
