"""The embedded broker: real Kafka that starts, is killed, starts again with its data, and stops."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from processors.kafka.bounded_wait import wait_until
from processors.kafka.topic_admin import metadata_answers
from processors.settings import Settings
from schemas.errors import CJStreamError, Misconfigured
from tools.broker import Broker, free_port, start, status, stop
from tools.jars import ensure_jars, listed_jars

ROOT = Path(__file__).parents[2]
TOPIC = "kept"
SAME_CHOICES = """
import random, sys
from tools.broker import free_port
random.seed(7)
print(free_port(), flush=True)
sys.stdin.read()
"""


TEMPORARY = """
import sys
from pathlib import Path
from tools.broker import Broker
with Broker.temporary(Path(sys.argv[1])) as broker:
    print(broker.folder, broker.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def data_dir() -> Path:
    """The folder that keeps the jars between runs."""
    return ROOT / ".cjstream"


@pytest.fixture
def settings(data_dir: Path, tmp_path: Path) -> Iterator[Settings]:
    """Settings with their own development broker, which is stopped after the test."""
    libs = ensure_jars(data_dir / "kafka-libs", listed_jars("broker"))
    (tmp_path / "kafka-libs").symlink_to(libs, target_is_directory=True)
    own = Settings(data_dir=tmp_path, bootstrap_servers=f"127.0.0.1:{free_port()}")
    yield own
    stop(own)


@pytest.fixture(scope="module")
def broker(data_dir: Path) -> Iterator[Broker]:
    with Broker.temporary(data_dir, {"broker.session.timeout.ms": "3000"}) as broker:
        yield broker


def tool(broker: Broker, name: str, *arguments: str) -> str:
    done = broker.java_tool(
        f"org.apache.kafka.tools.{name}", "--bootstrap-server", broker.bootstrap, *arguments
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_data_survives_a_kill(broker: Broker) -> None:
    tool(broker, "TopicCommand", "--create", "--topic", TOPIC)
    broker.kill()
    assert not metadata_answers({"bootstrap.servers": broker.bootstrap})
    broker.start()
    assert TOPIC in tool(broker, "TopicCommand", "--list").split()


def test_the_java_console_consumer_reads_a_record_of_a_plain_producer(broker: Broker) -> None:
    write = (
        "import sys; from confluent_kafka import Producer;"
        "p = Producer({'bootstrap.servers': sys.argv[1]}); p.produce('lines', b'read me');"
        "sys.exit(p.flush(30))"
    )
    tool(broker, "TopicCommand", "--create", "--topic", "lines")
    subprocess.run([sys.executable, "-c", write, broker.bootstrap], check=True)
    read = ("--topic", "lines", "--from-beginning", "--max-messages", "1")
    assert tool(broker, "consumer.ConsoleConsumer", *read) == "read me\n"


def test_the_development_broker_outlives_the_command_that_started_it(settings: Settings) -> None:
    assert (status(settings).running, status(settings).ready) == (False, False)
    command = f"""
from pathlib import Path
from processors.settings import Settings
from tools.broker import start
start(Settings(data_dir=Path({str(settings.data_dir)!r}),
               bootstrap_servers={settings.bootstrap_servers!r}))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", command], check=True, cwd=ROOT)
    started = status(settings)
    assert (started.running, started.ready) == (True, True)
    assert start(settings) == started
    elsewhere = settings.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"})
    assert status(elsewhere) == started
    with pytest.raises(Misconfigured, match=f"already runs, on {started.bootstrap_servers}"):
        start(elsewhere)
    assert not stop(settings).running
    assert not metadata_answers({"bootstrap.servers": settings.bootstrap_servers})


def test_the_error_names_a_port_that_is_taken(settings: Settings) -> None:
    port = int(settings.bootstrap_servers.rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(Misconfigured, match=f"port {port} is taken"),
    ):
        start(settings)


def test_a_free_port_is_given_to_one_process_alone() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", SAME_CHOICES],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:  # it ends when its standard input is closed
        assert holder.stdout
        port = int(holder.stdout.readline())
        other = subprocess.check_output(
            [sys.executable, "-c", SAME_CHOICES], cwd=ROOT, stdin=subprocess.DEVNULL, text=True
        )
        assert int(other) != port
        socket.create_server(("127.0.0.1", port)).close()  # which a server can have all the same


def test_a_cluster_on_another_host_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="CJSTREAM_BOOTSTRAP_SERVERS"):
        start(Settings(data_dir=tmp_path, bootstrap_servers="kafka.example:9092"))


def test_a_pid_that_another_process_now_has_is_not_the_broker(settings: Settings) -> None:
    folder = settings.data_dir / "broker"
    folder.mkdir()
    (folder / "broker.pid").write_text("1")
    assert not stop(settings).running


@pytest.mark.parametrize(
    ("properties", "cause"),
    [
        ({"log.segment.bytes": "7"}, "log.segment.bytes"),
        ({"num.io.threads": "many"}, "num.io.threads"),
        ({"listener.security.protocol.map": "PLAINTEXT:SSL,CONTROLLER:PLAINTEXT"}, "SSL"),
        ({"super.users": "x", "authorizer.class.name": "no.such.Class"}, "no.such.Class"),
    ],
)
def test_a_start_that_fails_says_why(
    data_dir: Path, properties: dict[str, str], cause: str
) -> None:
    with (
        pytest.raises(CJStreamError, match=r"^Kafka (cannot format|ended while starting)") as fault,
        Broker.temporary(data_dir, properties),
    ):
        pass
    assert cause in str(fault.value)


@pytest.mark.thorough
def test_a_temporary_broker_ends_with_a_process_that_is_killed(data_dir: Path) -> None:
    command = [sys.executable, "-c", TEMPORARY, str(data_dir)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        folder, pid = parent.stdout.readline().split()
        assert Path(folder).is_dir()
        assert psutil.pid_exists(int(pid))
        parent.kill()
    wait_until(lambda: not Path(folder).exists(), seconds=30, what="its folder to be deleted")
    broker = psutil.Process(int(pid)) if psutil.pid_exists(int(pid)) else None
    assert broker is None or broker.status() == psutil.STATUS_ZOMBIE  # nobody may reap it here
