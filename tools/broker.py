"""The embedded broker: real Apache Kafka, one node, as a child process in its own session.

A broker is a folder with its properties, data, log and pid. Any process can find out from the folder whether
the broker runs, and stop it; so the development broker and a test's temporary broker work the same way.

Java runs inside the folder and gets relative names only: Kafka splits the paths of its data at commas, a class path
splits at colons, and a properties file is Latin-1.
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

from processors.addresses import IPV6_LOOPBACK, host_and_port, loopback_host
from processors.kafka.bounded_wait import wait_until
from processors.kafka.topic_admin import metadata_answers
from processors.kafka_security import security_variable
from processors.settings import BROKER_ADDRESS, Settings
from schemas.errors import Misconfigured, Unreachable
from tools.jars import KAFKA_VERSION, ensure_jars, listed_jars, locked
from tools.java import find_java
from tools.killed_with_parent import killed_with_this_process
from tools.progress import waiting_for

LOG_SETTINGS = Path(__file__).with_name("broker.log4j2.properties")
START_S = 180  # it takes 5 s on an idle machine
STOP_S = 20
HEAP_MB = 512
# Java marks the whole heap again for every few objects that are larger than half a region; a produce request has up to
# 2 MB. Kafka's documentation recommends these pauses, and regions of 16 MB for its heap of 6 GB
G1 = ("-XX:MaxGCPauseMillis=20", "-XX:G1HeapRegionSize=8m")
QUICK_START = "-XX:TieredStopAtLevel=1"  # of Java, for a process that lives for seconds
PID_FILE = "broker.pid"
LIBS, DATA, PROPERTIES, LOG, OUTPUT = "libs", "data", "server.properties", "kafka.log", "kafka.out"
# a shell script: os.posix_spawn cannot change the folder, and this process may be killed before it has written the id
IN_FOLDER = f'cd -- "$0" && echo $$ >{PID_FILE} && exec "$@"'
# Kafka changes the case of names by the language of Java, which macOS takes from the system: Turkish has another I
IN_ENGLISH = ("-Duser.language=en", "-Duser.country=US")
FRAME = re.compile(r"\s+(at |\.\.\. \d+ more)")  # of a stack trace
CAUSES = (  # of a failed start, the most telling one first
    re.compile(r"Caused by: "),
    re.compile(r"[\w.$]+(Exception|Error): \S"),
    re.compile(r".*(ERROR|FATAL|Error|Exception|Unrecognized|Could not|Invalid)"),
)
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
    # of the heap, for ever; with the default of 128 MiB, Java marks the heap all the time. Enough for 700,000 keys
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
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
    host: str = field(default_factory=loopback_host)

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
            with killed_with_this_process(broker.folder, PID_FILE, broker._mark):
                try:
                    broker.start()
                    yield broker
                finally:
                    broker.kill()

    @property
    def bootstrap(self) -> str:
        """The bootstrap server for clients, host:port."""
        return host_and_port(self.host, self.port)

    def as_running(self) -> Self:
        """The same broker with the address on which it was last started."""
        written = re.search(
            r"^advertised.listeners=PLAINTEXT://\[?([\d.:]+?)\]?:(\d+)$",
            (self.folder / PROPERTIES).read_text("ascii"),
            re.MULTILINE,
        )
        return replace(self, host=written[1], port=int(written[2])) if written else self

    @property
    def log(self) -> Path:
        """Kafka's own log file."""
        return self.folder / LOG

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
        self._require_utf8_path()
        ensure_jars(self.libs, listed_jars("broker"))
        self._write_files()
        if not (self.folder / DATA / "meta.properties").exists():
            self._format()
        logged_bytes = self.log.stat().st_size if self.log.exists() else 0
        pid = self._spawn()
        with waiting_for(f"Kafka's metadata on {self.bootstrap}"):
            wait_until(
                lambda: self._answers(pid, logged_bytes),
                seconds=START_S,
                what=f"Kafka: its log is {self.log}",
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
            cwd=self.folder,
            env=_java_environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a console consumer prints arbitrary record bytes
            timeout=timeout_s,
            check=False,
        )

    def _java(self, *parts: str) -> tuple[str, ...]:
        """Java with a class path; for differing versions the tools' jars come first, then the broker's, then others."""
        order = sorted({*parts, "broker"}, key=("tools", "broker", "serde").index)
        jars = (jar for part in order for jar in listed_jars(part))
        paths = (f"{LIBS}/{jar.file_name}" for jar in jars)
        java = str(find_java(os.environ).absolute())
        return (java, *IN_ENGLISH, "-cp", os.pathsep.join(paths))

    @property
    def _pid_file(self) -> Path:
        return self.folder / PID_FILE

    @property
    def _mark(self) -> str:
        """An argument of its command line that no other broker has, in ASCII whatever is in its path."""
        return f"-Dcjstream.broker={self.folder.as_uri()}"

    def _require_free_port(self) -> None:
        if not is_free(self.port, self.host):
            raise Misconfigured(
                f"port {self.port} is taken: stop the process that listens there, or set"
                " CJSTREAM_BOOTSTRAP_SERVERS to 127.0.0.1 and another port"
            )

    def _require_utf8_path(self) -> None:
        for path in (self.folder, self.libs):
            try:
                os.fsencode(path).decode("utf-8")
            except UnicodeDecodeError as fault:
                raise Misconfigured(
                    f"CJSTREAM_DATA_DIR: Java cannot open {os.fsencode(path)!r}, which is not UTF-8"
                ) from fault

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        libs = self.folder / LIBS
        if not (libs.is_symlink() and libs.readlink() == self.libs):
            libs.unlink(missing_ok=True)
            libs.symlink_to(self.libs, target_is_directory=True)
        (self.folder / LOG_SETTINGS.name).write_bytes(LOG_SETTINGS.read_bytes())
        controller = host_and_port(self.host, free_port())
        lines = {
            **ONE_NODE,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": DATA,
            **self.properties,
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.folder / PROPERTIES).write_text(text, encoding="ascii")

    def _format(self) -> None:
        cluster = f"--cluster-id={self.cluster_id or new_cluster_id()}"
        config = f"--config={PROPERTIES}"
        done = self._run((), "kafka.tools.StorageTool", "format", cluster, config)
        if done.returncode:
            output = f"{done.stdout}\n{done.stderr}"
            raise Misconfigured(f"Kafka cannot format {self.folder}: {_cause_in(output)}")

    def _spawn(self) -> int:
        command = [
            *self._java(),
            f"-Xms{self.heap_mb}m",  # as Kafka's own script: a heap that has to grow is marked all the time
            f"-Xmx{self.heap_mb}m",
            *G1,
            f"-Dlog4j2.configurationFile={LOG_SETTINGS.name}",
            f"-Dcjstream.broker.log={LOG}",
            "-Djava.io.tmpdir=.",  # for native libraries, which a killed process leaves there
            self._mark,
            "kafka.Kafka",
            PROPERTIES,
        ]
        output = (str(self.folder / OUTPUT), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        pid = os.posix_spawn(  # not Popen, which warns if its child outlives it
            "/bin/sh",
            ["sh", "-c", IN_FOLDER, str(self.folder), *command],
            _java_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, *output),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._pid_file.write_text(str(pid))
        return pid

    def _answers(self, pid: int, logged_bytes: int) -> bool:
        if _has_ended(pid):
            output = (self.folder / OUTPUT).read_bytes()
            logged = self.log.read_bytes()[logged_bytes:] if self.log.exists() else b""
            cause = _cause_in((output + b"\n" + logged).decode(errors="replace"))
            raise Unreachable(f"Kafka ended while starting: {cause}; its log is {self.log}")
        return metadata_answers({"bootstrap.servers": self.bootstrap})

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
        return self.pid is None and is_free(self.port, self.host)

    def _is_ours(self, pid: int) -> bool:
        _has_ended(pid)
        return self._mark in _command_line(pid).split()


def start(settings: Settings) -> BrokerStatus:
    """Start the development broker in data_dir/broker if it does not run; it outlives this process."""
    if settings.kafka.security_protocol != "PLAINTEXT":
        raise Misconfigured(
            f"{security_variable('security_protocol')}: the embedded broker has no TLS and no sign-in"
        )
    folder = settings.data_dir.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        broker = _broker(settings)
        if not broker.pid:
            broker.start()
        elif (broker.host, broker.port) != _configured_address(settings):
            raise Misconfigured(
                f"the broker in {folder} already runs, on {broker.bootstrap}, but"
                f" CJSTREAM_BOOTSTRAP_SERVERS is {settings.bootstrap_servers}: stop it first"
            )
        address = f"{broker.bootstrap} {broker.pid}\n"
        (settings.data_dir / BROKER_ADDRESS).write_text(address, "ascii")
    return status(settings)


def stop(settings: Settings) -> BrokerStatus:
    """Stop the development broker; nothing happens if it does not run."""
    _broker(settings).stop()
    (settings.data_dir / BROKER_ADDRESS).unlink(missing_ok=True)
    return status(settings)


def status(settings: Settings) -> BrokerStatus:
    """The state of the development broker."""
    broker = _broker(settings)
    pid = broker.pid
    return BrokerStatus(
        running=pid is not None,
        ready=pid is not None and metadata_answers({"bootstrap.servers": broker.bootstrap}),
        pid=pid,
        bootstrap_servers=broker.bootstrap,
        data_dir=str(broker.folder),
        kafka_version=KAFKA_VERSION,
    )


def new_cluster_id() -> str:
    """A new cluster id, for formatting the nodes of a cluster."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def free_port() -> int:
    """A port of the loopback interface, free and reserved: no other process gets it while this one lives.

    It is below the ephemeral ports: while a broker is down, a client that keeps connecting to a port in the ephemeral
    range can end up connected to itself, and occupy the port.
    """
    while not _reserve(port := random.randint(20_000, 32_000)):
        pass
    return port


def _reserve(port: int) -> bool:
    """Bind a socket to the port and leave it open; a server, which sets SO_REUSEADDR, can bind the port beside it."""
    holder = _socket(loopback_host())
    try:
        holder.bind((loopback_host(), port))  # without SO_REUSEADDR: refused where another holds it
    except OSError:
        holder.close()
        return False
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.detach()  # the system closes it when this process ends
    return True


def is_free(port: int, host: str | None = None) -> bool:
    """Whether a server could listen on this port, by default of the loopback interface."""
    host = host or loopback_host()
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if host == IPV6_LOOPBACK else socket.AF_INET)


def _java_environment() -> dict[str, str]:
    """This process's environment, but UTF-8: otherwise Java cannot open a path with other letters than ASCII's."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _cause_in(output: str) -> str:
    """The line of Kafka's output that says why it did not start."""
    lines = [line.strip() for line in output.splitlines() if line and not FRAME.match(line)]
    for cause in CAUSES:
        if found := [line for line in lines if cause.match(line)]:
            return found[-1][:300]
    return "it has no error message"


def _broker(settings: Settings) -> Broker:
    """The development broker, with the address it runs on, or else the configured one."""
    data_dir = settings.data_dir.resolve()
    host, port = _configured_address(settings)
    broker = Broker(data_dir / "broker", data_dir / "kafka-libs", port, host=host)
    return broker.as_running() if broker.pid else broker


def _configured_address(settings: Settings) -> tuple[str, int]:
    found = re.fullmatch(
        r"(127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})", settings.bootstrap_servers.strip()
    )
    if not found or not 0 < int(found[2]) < 65_536:
        raise Misconfigured(
            "CJSTREAM_BOOTSTRAP_SERVERS: the embedded broker is a single node, so this must be"
            " 127.0.0.1:port or [::1]:port"
        )
    host = found[1].strip("[]")
    return (loopback_host() if host == "localhost" else host), int(found[2])


def _has_ended(child: int) -> bool:
    """Whether a child of this process has ended; reaps it, so that it does not stay a zombie."""
    try:
        return os.waitpid(child, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def _command_line(pid: int) -> str:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
        except OSError:
            return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, encoding="latin-1", check=False).stdout
