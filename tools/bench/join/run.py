"""`cjstream bench join`: the systems that were asked for, on one input of one shape."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from processors.settings import Settings
from tools.bench.join import kafka_streams, systems
from tools.bench.join.input_log import InputLog
from tools.bench.join.measure import compared, measure, run_warm_in_turn
from tools.bench.join.shape import DEFAULT, Shape
from tools.bench.join.systems import ENGINES, System, Workers
from tools.bench.percentiles import Figures
from tools.installation import installation_and_broker
from tools.processes import Say

STREAMS = {  # the program, and its threads
    "kafka-streams-1": (kafka_streams.AVRO_JOIN, 1),
    "kafka-streams-2": (kafka_streams.AVRO_JOIN, 2),
    "splicing-streams-1": (kafka_streams.SPLICE_JOIN, 1),
    "splicing-streams-2": (kafka_streams.SPLICE_JOIN, 2),
}
NAMES = (*ENGINES, "copy", "copy-pipelined", *STREAMS)
WITH_METRICS = "cjstream-metrics"  # only if it is asked for


def run(say: Say, *, shape: Shape, rounds: int, workers: int, only: Sequence[str]) -> Figures:
    """Write the input, then run each system once per round."""
    with installation_and_broker(say) as (settings, broker):
        log = InputLog(settings, shape)
        say(f"writing {2 * shape.contexts} uploads and {shape.total} requests")
        log.write_uploads()
        contestants = contestants_of(only, settings, log, broker.libs, workers, say)
        log.write_requests()
        one = partial(measure, broker=broker)
        runs = run_warm_in_turn(settings, broker, log, contestants, rounds, say, one)
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


def contestants_of(
    names: Collection[str],
    settings: Settings,
    log: InputLog,
    libs: Path,
    workers: int,
    say: Say,
) -> dict[str, System]:
    """These systems by name, warm: the workers have folded the uploads, and the Java program is compiled."""
    contestants = dict[str, System]()
    for name in [name for name in ENGINES if name in names]:
        say(f"{name} folds the uploads")
        processes = Workers(name, settings, workers, say, scan_engine=ENGINES[name])
        processes.catch_up()
        contestants[name] = systems.cjstream(processes)
    if WITH_METRICS in names:
        say(f"{WITH_METRICS} folds the uploads")
        processes = Workers(WITH_METRICS, settings, workers, say, has_metrics=True)
        processes.catch_up()
        contestants[WITH_METRICS] = systems.cjstream(processes)
    if "copy" in names:
        contestants["copy"] = systems.copy()
    if "copy-pipelined" in names:
        contestants["copy-pipelined"] = systems.copy("--pipelined")
    streams = {name: STREAMS[name] for name in STREAMS if name in names}
    for program in dict.fromkeys(program for program, _ in streams.values()):
        kafka_streams.write_contexts(program, settings, log)
    for name, (program, threads) in streams.items():
        contestants[name] = kafka_streams.kafka_streams(program, settings, log, libs, threads)
    return contestants
