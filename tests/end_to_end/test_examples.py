"""The programs in tools/examples, against a worker and an API: produced upload and requests, consumed batches, once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from processors.kafka.clients import transactional_producer
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import CJBatchPrepared
from tests.end_to_end.serving import ready_api
from tests.faults.reading import read_all
from tests.faults.running import StartWorker
from tests.support.tokens import hs256
from tests.support.until import until
from tools.broker import Broker
from tools.jars import ensure_jars, listed_jars
from tools.java import find_java

EXAMPLES = Path(__file__).parents[2] / "tools" / "examples"
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
PROMPT = {"assignment_id": "a1", "prompt_text": "Write about a rule that you would change."}
PATIENCE_S = 60
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(300)]


def run_example(name: str, *arguments: str) -> str:
    """What an example prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "TOKEN": hs256()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def java(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the compiled Java example, without its arguments."""
    jars = tuple(jar for part in ("broker", "streams", "serde") for jar in listed_jars(part))
    libs = ensure_jars(broker.libs, jars)
    classes = tmp_path_factory.mktemp("classes")
    path = os.pathsep.join(map(str, (classes, *(libs / jar.file_name for jar in jars))))
    program = [str(find_java(os.environ)), "-cp", path]
    compile_it = [*program, COMPILER, "-17", "-proc:none", "-d", str(classes), "-cp", path]
    done = subprocess.run(
        [*compile_it, str(EXAMPLES / "ConsumeBatches.java")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [*program, "-Dlog4j2.level=OFF", "ConsumeBatches"]


@pytest.fixture
def consuming() -> Callable[..., list[dict[str, Any]]]:
    """A function that runs a consumer until it has printed so many lines, and stops it; returns the lines."""

    def lines_of(command: list[str], out: Path, count: int) -> list[dict[str, Any]]:
        log = out.with_suffix(".log")
        with out.open("ab") as file, log.open("ab") as errors, ExitStack() as running:
            process = subprocess.Popen(command, stdout=file, stderr=errors)
            running.callback(process.wait, PATIENCE_S)
            running.callback(process.kill)
            until(lambda: len(printed(out)) >= count or process.poll() is not None, PATIENCE_S)
            assert process.poll() is None, log.read_text()
        return printed(out)

    return lines_of


def printed(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]


def test_the_examples_produce_what_they_consume_and_print_each_batch_once(
    settings: Settings,
    start_worker: StartWorker,
    tmp_path: Path,
    java: list[str],
    consuming: Callable[..., list[dict[str, Any]]],
) -> None:
    topics, brokers = settings.topics, settings.bootstrap_servers
    text = tmp_path / "instructions.txt"
    text.write_text("Judge the argument.")
    start_worker(patience_s=PATIENCE_S)
    with ready_api(settings) as api:
        uploaded = run_example(
            "produce_uploads.py",
            *(brokers, topics.instructions.name, api.url, "a1", "swedish_8_anchor", str(text)),
        )
        until(lambda: api("POST", "/admin/v1/student-prompts", PROMPT).status_code == 200, 60)
        request_arguments = (brokers, topics.requests.name, f"{api.url}/registry", "a1")
        sent = [
            run_example("produce_requests.py", *request_arguments, "e-1=t-1", "e-2=t-2")
            for _ in range(2)
        ]
        arguments = [brokers, topics.batches.name, f"{api.url}/registry"]
        python = [sys.executable, str(EXAMPLES / "consume_batches.py"), *arguments]
        for name, program in (("python", python), ("java", [*java, *arguments])):
            command, out = [*program, str(tmp_path / f"{name}.ids")], tmp_path / f"{name}.out"
            lines = consuming(command, out, 2)
            assert sorted(map(request_of, lines)) == sorted(sent)
            for line in lines:
                assert line["processing_metadata"]["grade_scale"] == "swedish_8_anchor"
                assert coordinates(line["provenance"]["instructions"]["source"]) == uploaded
            assert len({line["event_id"] for line in lines}) == 2
        repeat_and_forge_batches(settings)
        third = run_example("produce_requests.py", *request_arguments, "e-1=t-1", "e-2=t-2")
        for name, program in (("python", python), ("java", [*java, *arguments])):
            command, out = [*program, str(tmp_path / f"{name}.ids")], tmp_path / f"{name}.out"
            lines = consuming(command, out, 3)
            assert all(set(line["event_id"]) != {"f"} for line in lines)
            assert sorted(map(request_of, lines)) == sorted([*sent, third])


def repeat_and_forge_batches(settings: Settings) -> None:
    """Append the batches again, as a consumer sees them after a lost commit, and forged ones that are aborted."""
    name, codec = settings.topics.batches.name, Codec()
    producer = transactional_producer(settings, "forger")
    producer.init_transactions()
    for is_committed in (True, False):
        producer.begin_transaction()
        for read in read_all(settings.bootstrap_servers, name, settings.partitions):
            assert read.value is not None
            batch = codec.decode(read.value)
            assert isinstance(batch, CJBatchPrepared)
            forged = read.value.replace(batch.event_id.encode(), b"f" * len(batch.event_id))
            value = read.value if is_committed else forged
            producer.produce(name, value, read.key, read.at.partition)
        producer.flush()
        if is_committed:
            producer.commit_transaction()
        else:
            producer.abort_transaction()


def request_of(line: dict[str, Any]) -> str:
    return coordinates(line["provenance"]["request"])


def coordinates(at: dict[str, Any]) -> str:
    return f"{at['topic']}/{at['partition']}@{at['offset']}"
