"""The systems that are measured: how each is started, and which group and topic show its progress."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from processors.kafka.bounded_wait import result_of, wait_until
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import (
    committed_offsets,
    group_state,
    partitions_with_owner,
    set_committed_offsets,
)
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable
from tools.bench.join import byte_copy
from tools.bench.join.input_log import InputLog
from tools.bench.join.output_check import Prefix, copy_prefix, outcome_prefix
from tools.bench.processes import WAIT_S, process_settings
from tools.bench.traffic import in_the_background
from tools.broker import free_port
from tools.processes import Say, module, running, started

CAUGHT_UP_S = 1800.0
ENGINES = {"cjstream": "auto", "cjstream-plain": "plain"}  # `CJSTREAM_SCAN_ENGINE` of each
SCRAPE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one system; its number is unique among the runs over one log."""

    number: int
    settings: Settings
    log: InputLog
    folder: Path  # of this run
    libs: Path  # the folder of the broker's jars
    say: Say


Running = AbstractContextManager[list["subprocess.Popen[bytes]"]]


@dataclass(frozen=True, slots=True)
class System:
    """A system that joins or copies requests."""

    prefix_of: Callable[[InputLog], Prefix]  # what each output must begin with
    output: Callable[[Run], str]  # the topic of its outputs
    group: Callable[[Run], str]  # the consumer group whose offsets it commits
    start: Callable[[Run], Running]


class Workers:
    """The workers of one installation; each keeps its folder from run to run. has_metrics: served, and scraped."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        count: int,
        say: Say,
        *,
        has_metrics: bool = False,
        **changes: object,
    ) -> None:
        self._addresses = [f"127.0.0.1:{free_port()}" if has_metrics else "" for _ in range(count)]
        self._settings = [
            process_settings(
                settings,
                f"{name}-{number}-of-{count}",
                worker_metrics_address=address,
                **changes,
            )
            for number, address in enumerate(self._addresses)
        ]
        self._say = say

    @contextmanager
    def running(self) -> "Iterator[list[subprocess.Popen[bytes]]]":
        """Run all workers during the block, and until each has joined its group: before, SIGTERM would kill it."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(running("worker", settings, self._say))
                for settings in self._settings
            ]
            wait_until(self._have_joined, seconds=WAIT_S, what="all workers to join their group")

    @contextmanager
    def scraped(self) -> "Iterator[list[subprocess.Popen[bytes]]]":
        """Run all workers during the block, and read their metrics, if they have some, once a second."""
        addresses = [address for address in self._addresses if address]
        with self.running() as processes, in_the_background(partial(_scrape, addresses)):
            yield processes

    def _have_joined(self) -> bool:
        settings = self._settings[0]
        requests = settings.topics.requests
        try:
            state = group_state(settings, settings.prep_group, [requests.name])
            owned = partitions_with_owner(settings, settings.prep_group)
        except Unreachable:  # the group's coordinator is starting
            return False
        return state.members == len(self._settings) and owned == frozenset(
            settings.partitions_of(requests)
        )

    def catch_up(self) -> None:
        """Run the workers until their tables have all uploads; then a run is no longer slowed down by them."""
        with self.running():
            self.wait_until_folded()

    def wait_until_folded(self) -> None:
        """Wait until running workers have folded all uploads. Raises Unreachable."""
        wait_until(
            lambda: self.uploads_left() == 0,
            seconds=CAUGHT_UP_S,
            what="the workers to fold all uploads",
            every_s=0.5,
        )

    def uploads_left(self) -> int:
        """The number of uploads that are not folded yet."""
        settings = self._settings[0]
        ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
        try:
            committed = committed_offsets(settings, settings.fold_group, ends)
        except Unreachable:  # the group's coordinator is starting
            committed = {}
        return sum(end - min(end, committed.get(tp, 0)) for tp, end in ends.items())


def _scrape(addresses: Sequence[str], stop: threading.Event) -> None:
    """Read the metrics of workers until the event; one that does not serve yet, or any more, is passed over."""
    while addresses and not stop.wait(SCRAPE_EVERY_S):
        for address in addresses:
            with suppress(OSError), urlopen(f"http://{address}/metrics", timeout=10) as answer:
                answer.read()


def cjstream(workers: Workers) -> System:
    """The product: worker processes with their defaults."""
    return System(
        outcome_prefix,
        lambda run: run.settings.topics.batches.name,
        lambda run: run.settings.prep_group,
        lambda _run: workers.scraped(),
    )


def copy(*options: str) -> System:
    """The byte copy by librdkafka."""

    @contextmanager
    def start(run: Run) -> "Iterator[list[subprocess.Popen[bytes]]]":
        arguments = module(byte_copy.__name__, group_of(run), copied(run), *options)
        settings = run.settings.model_copy(update={"data_dir": run.folder})
        with started("copy", settings, run.say, arguments) as process:
            yield [process]

    return System(copy_prefix, copied, group_of, start)


def group_of(run: Run) -> str:
    """The consumer group of a peer: another one in each run, for a killed member stays until its session ends."""
    return f"bench-{run.folder.name}"  # not its number: each point of a bench counts anew


def copied(run: Run) -> str:
    """The topic of a run's copies."""
    return f"bench-copied-{run.number}"


def begin(run: Run, system: System, starts: Positions) -> None:
    """Make the system's output topic anew and let its group begin with these requests; earlier ones are deleted.

    A worker refuses an offset below which there are requests without an outcome.
    """
    output = system.output(run)
    delete_topic(run.settings, output)
    create_topic(run.settings, output)
    if any(starts.values()):
        below = [TopicPartition(*partition, offset) for partition, offset in starts.items()]
        admin = admin_client(run.settings)
        for future in admin.delete_records(below).values():
            result_of(future)
    set_committed_offsets(run.settings, system.group(run), starts)


def create_topic(settings: Settings, name: str) -> None:
    """Create a topic with the configuration of the topic of batches."""
    config = settings.topics.batches.config(horizon_days=settings.audit_horizon_days, replication=1)
    topic = NewTopic(name, settings.partitions, 1, config=config)
    admin = admin_client(settings)  # a variable: an admin client that is gone drops its requests
    result_of(admin.create_topics([topic])[name])
    high_watermarks_when_reachable(
        settings, [Partition(name, number) for number in range(settings.partitions)]
    )


def delete_topic(settings: Settings, name: str) -> None:
    """Delete a topic, if there is one, and wait until it has left the metadata."""
    admin = admin_client(settings)
    if name in admin.list_topics(timeout=10).topics:
        result_of(admin.delete_topics([name])[name])
        wait_until(
            lambda: name not in admin.list_topics(timeout=10).topics,
            seconds=30,
            what=f"topic {name} to be deleted",
        )
