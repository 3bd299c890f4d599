"""Kafka Streams as a peer: compiles ContextJoin.java and runs it with one or two threads."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processors.outcomes.recipes import RECIPE
from processors.settings import Settings
from schemas.errors import Misconfigured
from tools.bench.join.input_log import InputLog
from tools.bench.join.output_check import outcome_prefix
from tools.bench.join.systems import Run, System, create_topic, group_of
from tools.broker import LOG_SETTINGS
from tools.jars import ensure_jars, listed_jars
from tools.java import find_java
from tools.processes import started

SOURCE = Path(__file__).with_name("ContextJoin.java")
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
CONTEXTS = "bench-contexts"
HEAP_MB = 1024
COMPILE_S = 120


def kafka_streams(settings: Settings, log: InputLog, libs: Path, threads: int) -> System:
    """The compiled program, as a system; the topic of its table must have been written."""
    classes = settings.data_dir / "streams-classes"
    if not classes.exists():
        compile_program(libs, classes)

    @contextmanager
    def start(run: Run) -> "Iterator[list[subprocess.Popen[bytes]]]":
        topics = (settings.topics.requests.name, CONTEXTS, joined(run))
        connection = (settings.bootstrap_servers, group_of(run))
        layout = (log.outcome_frame.hex(), str(RECIPE))
        command = [
            *java(libs, classes),
            f"-Xmx{HEAP_MB}m",
            f"-Dlog4j2.configurationFile={LOG_SETTINGS}",
            f"-Dcjstream.broker.log={run.folder / 'kafka-streams.log'}",
            SOURCE.stem,
            *connection,
            *topics,
            str(run.folder / "state"),
            *layout,
            str(threads),
        ]
        own = run.settings.model_copy(update={"data_dir": run.folder})
        with started("kafka-streams", own, run.say, command) as process:
            yield [process]

    return System(outcome_prefix, joined, group_of, start)


def joined(run: Run) -> str:
    """The topic of a run's outcomes."""
    return f"bench-joined-{run.number}"


def write_contexts(settings: Settings, log: InputLog) -> None:
    """Write the topic of the table: the context part of each assignment's outcomes, by scope key."""
    create_topic(settings, CONTEXTS)
    log.write_context_parts(CONTEXTS)


def compile_program(libs: Path, classes: Path) -> None:
    """Compile the Java program into a folder. Raises Misconfigured if it does not compile."""
    ensure_jars(libs, (*listed_jars("broker"), *listed_jars("streams")))
    arguments = [COMPILER, "-17", "-proc:none", "-d", str(classes), "-cp", class_path(libs)]
    done = subprocess.run(
        [*java(libs), *arguments, str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=COMPILE_S,
        check=False,
    )
    if done.returncode:
        raise Misconfigured(f"{SOURCE.name} does not compile: {done.stderr.strip()}")


def java(libs: Path, *folders: Path) -> list[str]:
    """Java with the jars of the broker and of Kafka Streams, and with these folders."""
    return [str(find_java(os.environ)), "-cp", class_path(libs, *folders)]


def class_path(libs: Path, *folders: Path) -> str:
    """The jars of the broker and of Kafka Streams, and these folders."""
    jars = (*listed_jars("broker"), *listed_jars("streams"))
    return os.pathsep.join(map(str, (*folders, *(libs / jar.file_name for jar in jars))))
