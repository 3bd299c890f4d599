"""`cjstream bench join`: the systems that were asked for, on one input of one shape."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from processors.settings import Settings
from tools.bench.join import kafka_streams, systems
from tools.bench.join.input_log import InputLog
from tools.bench.join.measure import compared, run_in_turn
from tools.bench.join.shape import DEFAULT, Shape
from tools.bench.join.systems import System, Workers
from tools.bench.percentiles import Figures
from tools.installation import installation_and_broker
from tools.processes import Say

STREAMS = {"kafka-streams-1": 1, "kafka-streams-2": 2}  # threads
NAMES = ("cjstream", "copy", "copy-pipelined", *STREAMS)


def run(say: Say, *, shape: Shape, rounds: int, workers: int, only: Sequence[str]) -> Figures:
    """Write the input, then run each system once per round."""
    names = [name for name in NAMES if not only or name in only]
    with installation_and_broker(say) as (settings, broker):
        log = InputLog(settings, shape)
        say(f"writing {2 * shape.contexts} uploads and {shape.total} requests")
        log.write_uploads()
        if STREAMS.keys() & set(names):
            kafka_streams.write_contexts(settings, log)
        contestants = {
            name: _system(name, settings, log, broker.libs, workers, say) for name in names
        }
        log.write_requests()
        runs = run_in_turn(settings, broker, log, contestants, rounds, say)
        default_shape = (shape, workers) == (DEFAULT, 1)
        return {
            **asdict(shape),
            "request_bytes": log.request_bytes,
            "partitions": settings.partitions,
            "batch_max": settings.batch_max,
            "workers": workers,
            "rounds": rounds,
            "results": compared(runs, default_shape=default_shape),
        }


def _system(
    name: str, settings: Settings, log: InputLog, libs: Path, workers: int, say: Say
) -> System:
    if threads := STREAMS.get(name):
        return kafka_streams.kafka_streams(settings, log, libs, threads)
    match name:
        case "copy":
            return systems.copy()
        case "copy-pipelined":
            return systems.copy("--pipelined")
    say("cjstream folds the uploads")
    processes = Workers(settings, workers, say)
    processes.catch_up()
    return systems.cjstream(processes)
