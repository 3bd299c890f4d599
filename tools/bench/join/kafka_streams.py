"""Kafka Streams as a peer: compiles two programs and runs them with one or two threads.

AvroJoin decodes and encodes, as its documentation recommends; SpliceJoin copies bytes without any check.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.outcomes.recipes import RECIPE, RECIPES
from processors.settings import Settings
from schemas.errors import Misconfigured
from schemas.released_schemas import schema_path
from tools.bench.join.input_log import InputLog
from tools.bench.join.output_check import outcome_prefix
from tools.bench.join.systems import Run, System, create_topic, group_of
from tools.broker import LOG_SETTINGS
from tools.jars import Jar, ensure_jars, listed_jars
from tools.java import find_java
from tools.processes import started

FOLDER = Path(__file__).parent
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
AVRO = "org.apache.avro:avro:"
HEAP_MB = 1024
COMPILE_S = 120


@dataclass(frozen=True, slots=True)
class Program:
    """A program in Java that joins requests with a table, which it reads from a topic."""

    name: str  # of its main class
    contexts: str  # the topic of its table
    write_contexts: Callable[[InputLog, str], None]
    arguments: Callable[[Settings, InputLog], list[str]]  # after those of StreamsApp.java


def _avro_arguments(settings: Settings, log: InputLog) -> list[str]:
    recipe = RECIPES[RECIPE]
    schemas = (schema_path("CJBatchPrepared", recipe.outcome), schema_path("AssignmentContext", 1))
    frames = (log.request_frame, log.context_frame, log.outcome_frame)
    return [*map(str, schemas), *(frame.hex() for frame in frames), str(RECIPE)]


AVRO_JOIN = Program(
    "AvroJoin", "bench-contexts", lambda log, topic: log.write_contexts(topic), _avro_arguments
)
SPLICE_JOIN = Program(
    "SpliceJoin",
    "bench-context-parts",
    lambda log, topic: log.write_context_parts(topic),
    lambda _settings, log: [log.outcome_frame.hex(), str(RECIPE)],
)


def kafka_streams(
    program: Program, settings: Settings, log: InputLog, libs: Path, threads: int
) -> System:
    """The compiled program, as a system; the topic of its table must have been written."""
    classes = settings.data_dir / "streams-classes"
    if not classes.exists():
        compile_programs(libs, classes)

    @contextmanager
    def start(run: Run) -> "Iterator[list[subprocess.Popen[bytes]]]":
        topics = (settings.topics.requests.name, program.contexts, joined(run))
        command = [
            *java(libs, classes),
            f"-Xmx{HEAP_MB}m",
            f"-Dlog4j2.configurationFile={LOG_SETTINGS}",
            f"-Dcjstream.broker.log={run.folder / 'kafka-streams.log'}",
            program.name,
            settings.bootstrap_servers,
            group_of(run),
            *topics,
            str(run.folder / "state"),
            str(threads),
            *program.arguments(settings, log),
        ]
        own = run.settings.model_copy(update={"data_dir": run.folder})
        with started("kafka-streams", own, run.say, command) as process:
            yield [process]

    return System(outcome_prefix, joined, group_of, start)


def joined(run: Run) -> str:
    """The topic of a run's outcomes."""
    return f"bench-joined-{run.number}"


def write_contexts(program: Program, settings: Settings, log: InputLog) -> None:
    """Write the topic of the program's table."""
    create_topic(settings, program.contexts)
    program.write_contexts(log, program.contexts)


def compile_programs(libs: Path, classes: Path) -> None:
    """Compile the Java programs into a folder. Raises Misconfigured if they do not compile."""
    ensure_jars(libs, needed_jars())
    arguments = [COMPILER, "-17", "-proc:none", "-d", str(classes), "-cp", class_path(libs)]
    done = subprocess.run(
        [*java(libs), *arguments, *map(str, sorted(FOLDER.glob("*.java")))],
        capture_output=True,
        text=True,
        timeout=COMPILE_S,
        check=False,
    )
    if done.returncode:
        raise Misconfigured(f"the programs in Java do not compile: {done.stderr.strip()}")


def java(libs: Path, *folders: Path) -> list[str]:
    """Java with the needed jars, and with these folders."""
    return [str(find_java(os.environ)), "-cp", class_path(libs, *folders)]


def class_path(libs: Path, *folders: Path) -> str:
    """The needed jars, and these folders."""
    return os.pathsep.join(map(str, (*folders, *(libs / jar.file_name for jar in needed_jars()))))


def needed_jars() -> tuple[Jar, ...]:
    """The jars of the broker, of Kafka Streams and of Avro."""
    avro = [jar for jar in listed_jars("serde") if jar.coordinates.startswith(AVRO)]
    return (*listed_jars("broker"), *listed_jars("streams"), *avro)
