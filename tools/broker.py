"""The embedded broker: real Apache Kafka, one node, as a child process in its own session.

A broker is a folder with its properties, data, log and pid. Any process can find out from the folder whether
the broker runs, and stop it; so the development broker and a test's temporary broker work the same way.
"""

import base64
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from processors.kafka.bounded_wait import wait_until
from processors.kafka.topic_admin import metadata_answers
from processors.settings import Settings
from schemas.errors import Misconfigured, Unreachable
from tools.jars import KAFKA_VERSION, ensure_jars, listed_jars, locked
from tools.java import find_java
from tools.progress import waiting_for

LOG_SETTINGS = Path(__file__).with_name("broker.log4j2.properties")
START_S = 180  # it takes 5 s on an idle machine
STOP_S = 20
HEAP_MB = 512
QUICK_START = "-XX:TieredStopAtLevel=1"  # of Java, for a process that lives for seconds
ONE_NODE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.cleaner.backoff.ms": "300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
}


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The state of the embedded broker as seen from outside."""

    running: bool
    ready: bool  # it answers a metadata request
    pid: int | None
    bootstrap_servers: str
    data_dir: str
    kafka_version: str


@dataclass(frozen=True)
class Broker:
    """One Kafka node with its data in a folder; libs is the folder of its jars."""

    folder: Path  # absolute
    libs: Path
    port: int
    properties: Mapping[str, str] = field(default_factory=dict)  # override ONE_NODE
    cluster_id: str = ""  # shared by the nodes of a cluster; empty: a new one
    heap_mb: int = HEAP_MB

    @classmethod
    @contextmanager
    def temporary(
        cls, data_dir: Path, properties: Mapping[str, str] | None = None
    ) -> Iterator[Self]:
        """A ready broker on a free port in a temporary folder; both are removed afterwards.

        data_dir keeps the jars, so that they are fetched only once.
        """
        libs = data_dir.resolve() / "kafka-libs"
        with tempfile.TemporaryDirectory(prefix="cjstream-broker-") as folder:
            broker = cls(Path(folder), libs, free_port(), properties or {})
            try:
                broker.start()
                yield broker
            finally:
                broker.kill()

    @property
    def bootstrap(self) -> str:
        """The bootstrap server for clients, host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def port_in_use(self) -> int:
        """The port on which it was last started."""
        written = re.search(
            r"^advertised.listeners=.*:(\d+)$", self._server_properties.read_text(), re.MULTILINE
        )
        return int(written[1]) if written else self.port

    @property
    def log(self) -> Path:
        """Kafka's own log file."""
        return self.folder / "kafka.log"

    @property
    def pid(self) -> int | None:
        """The process id; None if it does not run, or if another process now has the id."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def start(self) -> None:
        """Start Kafka and return when it answers; after a kill or stop it has the same port and data.

        Raises Misconfigured if the port is taken, Unreachable if Kafka does not come up.
        """
        self._require_free_port()
        ensure_jars(self.libs, listed_jars("broker"))
        self._write_properties()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        pid = self._spawn()
        with waiting_for(f"Kafka's metadata on {self.bootstrap}"):
            wait_until(
                lambda: self._answers(pid), seconds=START_S, what=f"Kafka: its log is {self.log}"
            )

    def stop(self) -> None:
        """Shut it down cleanly, or kill it if that takes too long."""
        try:
            self._signal_and_wait(signal.SIGTERM)
        except Unreachable:
            self.kill()

    def kill(self) -> None:
        """Kill it with SIGKILL, as in a crash, and return when it is gone."""
        self._signal_and_wait(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it with SIGSTOP, until resume()."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a frozen broker."""
        self._signal(signal.SIGCONT)

    def java_tool(
        self,
        main_class: str,
        *arguments: str,
        extra_parts: tuple[str, ...] = (),
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a Java tool from the broker's jars, for instance
        `org.apache.kafka.tools.consumer.ConsoleConsumer`, and return its output; extra_parts are more jar lists.
        """
        parts = ("tools", *extra_parts)
        ensure_jars(self.libs, tuple(jar for part in parts for jar in listed_jars(part)))
        return self._run(parts, main_class, *arguments, timeout_s=timeout_s)

    def _run(
        self, parts: tuple[str, ...], main_class: str, *arguments: str, timeout_s: float = START_S
    ) -> subprocess.CompletedProcess[str]:
        quiet = "-Dlog4j2.level=OFF"  # stdout belongs to the tool
        command = [*self._java(*parts), "-Xmx256m", QUICK_START, quiet, main_class, *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",  # a console consumer prints arbitrary record bytes
            timeout=timeout_s,
            check=False,
        )

    def _java(self, *parts: str) -> tuple[str, ...]:
        """Java with a class path; for differing versions the tools' jars come first, then the broker's, then others."""
        order = sorted({*parts, "broker"}, key=("tools", "broker", "serde").index)
        jars = (jar for part in order for jar in listed_jars(part))
        paths = (str(self.libs / jar.file_name) for jar in jars)
        return (str(find_java(os.environ)), "-cp", os.pathsep.join(paths))

    @property
    def _pid_file(self) -> Path:
        return self.folder / "broker.pid"

    @property
    def _server_properties(self) -> Path:
        return self.folder / "server.properties"

    def _require_free_port(self) -> None:
        if not is_free(self.port):
            raise Misconfigured(
                f"port {self.port} is taken: stop the process that listens there, or set"
                " CJSTREAM_BOOTSTRAP_SERVERS to 127.0.0.1 and another port"
            )

    def _write_properties(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        controller = f"127.0.0.1:{free_port()}"
        lines = {
            **ONE_NODE,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.folder / "data"),
            **self.properties,
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        self._server_properties.write_text(text, encoding="utf-8")

    def _format(self) -> None:
        cluster = f"--cluster-id={self.cluster_id or new_cluster_id()}"
        config = f"--config={self._server_properties}"
        done = self._run((), "kafka.tools.StorageTool", "format", cluster, config)
        if done.returncode:
            output = (done.stderr or done.stdout).strip().splitlines()
            raise Misconfigured(f"Kafka cannot format {self.folder}: {output[-1:]}")

    def _spawn(self) -> int:
        command = [
            *self._java(),
            f"-Xmx{self.heap_mb}m",
            f"-Dlog4j2.configurationFile={LOG_SETTINGS}",
            f"-Dcjstream.broker.log={self.log}",
            "kafka.Kafka",
            str(self._server_properties),
        ]
        output = (str(self.folder / "kafka.out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        pid = os.posix_spawn(  # not Popen, which warns if its child outlives it
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, *output),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._pid_file.write_text(str(pid))
        return pid

    def _answers(self, pid: int) -> bool:
        if _has_ended(pid):
            raise Unreachable(
                f"Kafka ended while starting: its log is {self.log}; {self._last_error()}"
            )
        return metadata_answers(self.bootstrap)

    def _last_error(self) -> str:
        lines = [
            line
            for path in (self.folder / "kafka.out", self.log)
            if path.exists()
            for line in path.read_text(errors="replace").splitlines()
            if re.search("ERROR|FATAL|Exception|Error", line)
        ]
        return lines[-1][:300] if lines else "it has no error message"

    def _signal(self, number: signal.Signals) -> bool:
        """Send a signal; whether the broker was running and received it."""
        with suppress(ProcessLookupError):
            if pid := self.pid:
                os.kill(pid, number)
                return True
        return False

    def _signal_and_wait(self, number: signal.Signals) -> None:
        if self._signal(number):
            wait_until(self._is_gone, seconds=STOP_S, what=f"Kafka on {self.bootstrap} to end")
            self._pid_file.unlink(missing_ok=True)

    def _is_gone(self) -> bool:
        """Whether process and socket are gone; a killed process loses its command line first, its socket later."""
        return self.pid is None and is_free(self.port)

    def _is_ours(self, pid: int) -> bool:
        _has_ended(pid)
        return str(self._server_properties) in _command_line(pid)


def start(settings: Settings) -> BrokerStatus:
    """Start the development broker in data_dir/broker if it does not run; it outlives this process."""
    folder = settings.data_dir.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        broker = _broker(settings)
        if not broker.pid:
            broker.start()
        elif broker.port != _configured_port(settings):
            raise Misconfigured(
                f"the broker in {folder} already runs, on {broker.bootstrap}, but"
                f" CJSTREAM_BOOTSTRAP_SERVERS is {settings.bootstrap_servers}: stop it first"
            )
    return status(settings)


def stop(settings: Settings) -> BrokerStatus:
    """Stop the development broker; nothing happens if it does not run."""
    _broker(settings).stop()
    return status(settings)


def status(settings: Settings) -> BrokerStatus:
    """The state of the development broker."""
    broker = _broker(settings)
    pid = broker.pid
    return BrokerStatus(
        running=pid is not None,
        ready=pid is not None and metadata_answers(broker.bootstrap),
        pid=pid,
        bootstrap_servers=broker.bootstrap,
        data_dir=str(broker.folder),
        kafka_version=KAFKA_VERSION,
    )


def new_cluster_id() -> str:
    """A new cluster id, for formatting the nodes of a cluster."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def free_port() -> int:
    """A free port on the loopback interface.

    It is below the ephemeral ports: while a broker is down, a client that keeps connecting to a port in the ephemeral
    range can end up connected to itself, and occupy the port.
    """
    return next(port for port in iter(lambda: random.randint(20_000, 32_000), 0) if is_free(port))


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _broker(settings: Settings) -> Broker:
    """The development broker, with the port it runs on, or else the configured port."""
    data_dir = settings.data_dir.resolve()
    broker = Broker(data_dir / "broker", data_dir / "kafka-libs", _configured_port(settings))
    return replace(broker, port=broker.port_in_use) if broker.pid else broker


def _configured_port(settings: Settings) -> int:
    found = re.fullmatch(r"(?:127\.0\.0\.1|localhost):(\d{1,5})", settings.bootstrap_servers)
    if not found or not 0 < int(found[1]) < 65_536:
        raise Misconfigured(
            "CJSTREAM_BOOTSTRAP_SERVERS: the embedded broker is a single node, so this must be 127.0.0.1:port"
        )
    return int(found[1])


def _has_ended(child: int) -> bool:
    """Whether a child of this process has ended; reaps it, so that it does not stay a zombie."""
    try:
        return os.waitpid(child, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def _command_line(pid: int) -> str:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
