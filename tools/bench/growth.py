"""`cjstream bench growth`: the cost of a request as contexts, essays and workers grow."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby

from processors.settings import Settings
from tools import topics
from tools.bench.join import systems
from tools.bench.join.input_log import InputLog
from tools.bench.join.measure import compared, measure, run_in_turn, run_warm_in_turn
from tools.bench.join.run import contestants_of
from tools.bench.join.shape import DEFAULT, Shape
from tools.bench.percentiles import Figures
from tools.broker import Broker
from tools.installation import installation_and_broker
from tools.processes import Say

CONTEXTS = (1_000, 10_000, 100_000, 1_000_000)
ESSAYS = (2, 10, 100)
WORKERS = (1, 2)
ZIPF = 1.0
SYSTEMS = ("cjstream", "copy")


@dataclass(frozen=True, slots=True)
class Point:
    """One shape, and how many workers join it."""

    shape: Shape
    workers: int = 1


def points(shape: Shape, max_contexts: int, *, every: bool) -> list[Point]:
    """One axis at a time from the shape, or every combination; ordered by contexts, then by workers."""
    contexts = [count for count in CONTEXTS if count <= max_contexts] or [max_contexts]
    found = [
        Point(_with_essays(replace(shape, contexts=count, zipf=zipf), essays), workers)
        for count in contexts
        for workers in WORKERS
        for essays in ESSAYS
        for zipf in (0.0, ZIPF)
    ]
    if every:
        return found
    base = (min(DEFAULT.contexts, max_contexts), DEFAULT.essays, 1)

    def differs_on_one_axis(point: Point) -> bool:
        one = (point.shape.contexts, point.shape.essays, point.workers)
        differences = sum(mine != other for mine, other in zip(one, base, strict=True))
        return differences == 0 or (
            differences == 1 and (not point.shape.zipf or one[1:] == base[1:])
        )

    return [point for point in found if differs_on_one_axis(point)]


def _with_essays(shape: Shape, essays: int) -> Shape:
    """The shape with that many essays, and fewer requests if they are larger, for about the same number of bytes."""
    return replace(shape.scaled(min(1.0, DEFAULT.essays / essays)), essays=essays)


def run(say: Say, *, shape: Shape, max_contexts: int, rounds: int, every: bool) -> Figures:
    """Measure cjstream and the copy at each point; one installation for each number of contexts."""
    results = list[Figures]()
    grid = points(shape, max_contexts, every=every)
    for contexts, same in groupby(grid, lambda point: point.shape.contexts):
        say(f"{contexts} contexts")
        with installation_and_broker(say) as (settings, broker):
            results += measured(settings, broker, [*same], rounds, say)
    return {"requests": shape.requests, "rounds": rounds, "results": results}


def measured(
    settings: Settings, broker: Broker, grid: Sequence[Point], rounds: int, say: Say
) -> Iterator[Figures]:
    """The figures of points with the same number of contexts."""
    log = InputLog(settings, grid[0].shape)
    log.write_uploads()
    for workers, same in groupby(grid, lambda point: point.workers):
        contestants = contestants_of(SYSTEMS, settings, log, broker.libs, workers, say)
        for point in same:
            renew_requests(settings, log, point.shape)
            say(f"{point.shape.essays} essays, exponent {point.shape.zipf:g}, {workers} workers")
            one = partial(measure, broker=broker)
            in_turn = run_warm_in_turn if point == grid[0] else run_in_turn
            runs = in_turn(settings, broker, log, contestants, rounds, say, one)
            shape = {**asdict(point.shape), "workers": workers, "request_bytes": log.request_bytes}
            default_shape = (point.shape, workers) == (DEFAULT, 1)
            for result in compared(runs, default_shape=default_shape):
                yield {"system": result["system"], **shape, **result}


def renew_requests(settings: Settings, log: InputLog, shape: Shape) -> None:
    """Replace the requests in the log by those of another shape with the same contexts."""
    systems.delete_topic(settings, settings.topics.requests.name)
    topics.apply(settings, wait_s=0)
    log.begin_again(shape)
    log.write_requests()
