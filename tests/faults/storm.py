"""A storm: random faults of workers and brokers, drawn with a seed, while requests and uploads are sent.

Afterwards every fault is repaired, the traffic ends, and the checker reads everything back.
"""

import heapq
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from processors.settings import Settings
from tests.faults.asking import Progress, answer_or_none, installation_of, pause, terms_of
from tests.faults.checker import Findings
from tests.faults.checking import check, unfolded
from tests.faults.cluster import Cluster
from tests.faults.posts import Post
from tests.faults.proxy import (
    ADD_OFFSETS_TO_TXN,
    END_TXN,
    FETCH,
    PRODUCE,
    TXN_OFFSET_COMMIT,
    Fate,
)
from tests.faults.remedies import complaints_after, run_named_commands
from tests.faults.traffic import Traffic
from tests.support.until import until

RATE = 80
TICK_S = 0.1
GAP_S = (1.0, 4.0)
AWAY_S = (1.0, 15.0)  # of a broker: up to well over the sessions' and transactions' timeouts
OVERLAP_S = (0.0, 6.0)  # of two processes with one slot
HOUR_S = 3600
SETTLED_S = 600  # long enough for a busy machine
UNAIDED_S = 180  # after this time, what `doctor` names is done
HEALTHY_S = 60
ROLLING_RESTART_S = 60  # a shorter storm has no time for a rolling restart
OVERRIDES: dict[str, Any] = {
    "batch_max": 40,
    "release_max": 5,
    "session_timeout_s": 6,
    "transaction_timeout_s": 8,
}
LONGEST_TIMEOUT_S = max(OVERRIDES["session_timeout_s"], OVERRIDES["transaction_timeout_s"])
DISTURBED_REQUESTS = (PRODUCE, FETCH, ADD_OFFSETS_TO_TXN, END_TXN, END_TXN, TXN_OFFSET_COMMIT)


@dataclass(frozen=True)
class Aftermath:
    """What happened in a storm, and what the checker found."""

    seed: int
    counts: Counter[str]
    found: Findings
    commands: Sequence[str]  # that `doctor` named, and that were needed
    complaints: Sequence[str]  # of `doctor` and `audit verify` at the end
    log_excerpts: str  # of the workers

    @property
    def line(self) -> dict[str, Any]:
        """The counts and findings, for one line of JSON."""
        counts = dict(sorted(self.counts.items()))
        return {
            "seed": self.seed,
            **counts,
            "found": dict(self.found.counts),
            "faults": self.found.faults,
            "commands": self.commands,
            "complaints": self.complaints,
        }


@dataclass
class Storm:
    """The workers, and the faults injected into them and the brokers."""

    cluster: Cluster
    settings: Settings  # of the workers, which connect through the proxies
    seed: int
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        offset_s = self._dice.choice((HOUR_S, -HOUR_S))
        self._with_slot = [self._post("one"), self._post("two", clock_offset_s=offset_s)]
        # a worker without a slot leaves its group when it stops, which starts a rebalance
        self._without_slot = self._post("", fault_probability=0.2)
        self._posts = [*self._with_slot, self._without_slot]
        self._has_rolling_restart = False
        self._deck: list[Callable[[], None]] = []
        self._scheduled: list[tuple[float, int, Callable[[], Any]]] = []
        self._repairs = ThreadPoolExecutor(1)
        self._repair: Future[None] | None = None  # of brokers: one broker fault at a time

    def _post(self, slot: str, **options: Any) -> Post:
        settings = self.settings.model_copy(update={"slot": slot, **OVERRIDES})
        log = self.folder / f"{slot or 'without-slot'}.log"
        return Post(settings, log, random.Random(f"{self.seed} {slot}"), self.counts, **options)

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Start every worker; end all of them afterwards."""
        for post in self._posts:
            post.start()
        try:
            yield
        finally:
            for post in self._posts:
                post.end()
            self._repairs.shutdown()

    def inject_faults(self, seconds: float) -> None:
        """Inject one fault after the other for this time."""
        self._has_rolling_restart = seconds >= ROLLING_RESTART_S
        end, next_at = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            self._supervise_and_pause()
            if now >= next_at:
                self._next_fault()()
                next_at = now + self._dice.uniform(*GAP_S)

    def _supervise(self) -> None:
        for post in self._posts:
            post.supervise()
        while self._scheduled and self._scheduled[0][0] <= time.monotonic():
            heapq.heappop(self._scheduled)[2]()

    def _supervise_and_pause(self) -> bool:
        self._supervise()
        pause(TICK_S)
        return True

    def _schedule(self, seconds: float, step: Callable[[], Any]) -> None:
        heapq.heappush(self._scheduled, (time.monotonic() + seconds, len(self._scheduled), step))

    def _next_fault(self) -> Callable[[], None]:
        """The next fault of a shuffled deck, so that every kind of fault occurs before the deck is shuffled again."""
        if not self._deck:
            self._deck = [
                *(self._kill, self._freeze, self._cut_connections, self._disturb_request) * 2,
                *(self._stop_without_slot,) * 4,
                *(self._kill_broker, self._freeze_broker) * 2,
                *(self._hold_traffic, self._overlap_slot),
                *(self._rolling_restart,) * self._has_rolling_restart,
                *(self._delete_replica, self._truncate_replica, self._restore_replica),
                self._fill_disk,
            ]
            self._dice.shuffle(self._deck)
        return self._deck.pop()

    def repair(self) -> None:
        """Repair everything: brokers, network, and workers that are frozen or stopped."""
        for post in self._posts:
            post.fault_probability = 0
            post.start_at = 0
        for proxy in self.cluster.proxies:
            proxy.reset()
        while self._scheduled:
            heapq.heappop(self._scheduled)[2]()
        until(lambda: self._supervise_and_pause() and self._brokers_are_healthy(), SETTLED_S)
        until(lambda: self._supervise_and_pause() and self.cluster.is_healthy(), SETTLED_S)

    def _kill(self) -> None:
        post = self._dice.choice(self._posts)
        post.kill()
        post.copy_replica()

    def _freeze(self) -> None:
        self._dice.choice(self._posts).process.freeze()

    def _stop_without_slot(self) -> None:
        """Send SIGTERM to the worker without a slot; it starts again in a few seconds."""
        self._without_slot.stop_for(self._dice.uniform(0, 4))
        self.counts["leaves"] += 1

    def _overlap_slot(self) -> None:
        """Start the next process of a slot on another disk, and stop the one that it replaces in a few seconds."""
        post = self._dice.choice(self._with_slot)
        post.overlap()
        self._schedule(self._dice.uniform(*OVERLAP_S), post.stop_predecessor)
        self.counts["overlaps of a slot"] += 1

    def _delete_replica(self) -> None:
        self._inject_after_kill(Post.delete_replica, "replicas deleted")

    def _truncate_replica(self) -> None:
        self._inject_after_kill(Post.truncate_replica, "replicas truncated")

    def _restore_replica(self) -> None:
        self._inject_after_kill(Post.restore_replica, "replicas restored from a backup")

    def _fill_disk(self) -> None:
        post = self._inject_after_kill(Post.fill_disk, "full disks")
        self._schedule(self._dice.uniform(5, 12), post.process.request_stop)

    def _inject_after_kill(self, fault: Callable[[Post], None], name: str) -> Post:
        post = self._dice.choice(self._with_slot)
        post.kill()
        post.copy_replica()
        fault(post)
        self.counts[name] += 1
        return post

    def _cut_connections(self) -> None:
        self._dice.choice(self.cluster.proxies).cut()
        self.counts["cuts"] += 1

    def _hold_traffic(self) -> None:
        proxy = self._dice.choice(self.cluster.proxies)
        proxy.hold()
        self._schedule(self._dice.uniform(1, 9), proxy.release)
        self.counts["network partitions"] += 1

    def _disturb_request(self) -> None:
        """Lose or delay one request of a kind, at the broker that receives the first one."""
        api_key, fate = self._dice.choice(DISTURBED_REQUESTS), self._dice.choice(list(Fate))
        for proxy in self.cluster.proxies:
            proxy.arm(api_key, fate)

    def _kill_broker(self) -> None:
        """Kill a leader, a coordinator or any broker; it is started again later."""
        if self._brokers_are_healthy():
            node = self.cluster.nodes[self._choose_node()]
            node.kill()
            self.counts["broker deaths"] += 1
            self._repair_later(partial(self.cluster.start_and_wait, node))

    def _freeze_broker(self) -> None:
        if self._brokers_are_healthy():
            node = self.cluster.nodes[self._choose_node()]
            node.pause()
            self.counts["broker freezes"] += 1
            self._repair_later(node.resume)

    def _rolling_restart(self) -> None:
        """Restart all brokers, one after the other; it can take the rest of the storm, so a broker is killed first."""
        if not self.counts["broker deaths"]:
            self._kill_broker()
        elif self._brokers_are_healthy():
            self.counts["rolling restarts"] += 1
            self._repair = self._repairs.submit(self.cluster.rolling_restart)

    def _repair_later(self, step: Callable[[], None]) -> None:
        away_s = self._dice.uniform(*AWAY_S)
        self.counts["brokers away for longer than every timeout"] += away_s > LONGEST_TIMEOUT_S

        def repair() -> None:
            pause(away_s)
            step()
            self.cluster.wait_until_healthy()

        self._repair = self._repairs.submit(repair)

    def _brokers_are_healthy(self) -> bool:
        if self._repair is not None and not self._repair.done():
            return False
        if self._repair is not None:
            self._repair.result()
        return True

    def _choose_node(self) -> int:
        """The index of the next node to fail: a leader of requests or uploads, a group coordinator, or any node."""
        if len(self.cluster.nodes) == 1:
            return 0
        topics = self.settings.topics
        match self._dice.randrange(4):
            case 0:
                found = answer_or_none(lambda: self.cluster.leader_of(topics.requests.name, 0))
            case 1:
                found = answer_or_none(lambda: self.cluster.leader_of(topics.instructions.name, 1))
            case 2:
                found = answer_or_none(
                    lambda: self.cluster.coordinator_of(self.settings.prep_group)
                )
            case _:
                found = None
        return self._dice.randrange(len(self.cluster.nodes)) if found is None else found

    def check_until_correct(self, direct: Settings, traffic: Traffic, seconds: float) -> Findings:
        """The findings once nothing is wrong; the last ones if a fault is final or the time is up."""
        checks = list[Findings]()
        terms = terms_of(direct, traffic.acknowledged)

        def is_correct_or_final() -> bool:
            self._supervise_and_pause()
            if not progress.is_settled():
                return False
            with suppress(KafkaException):
                if unfolded(installation_of(direct)):
                    return False  # a check reads every record
                checks.append(check(installation_of(direct), terms, table=True))
            return bool(checks) and (checks[-1].is_final or not checks[-1].faults)

        with Progress(direct) as progress, suppress(AssertionError):
            until(is_correct_or_final, seconds)
        return checks[-1] if checks else Findings(uncommitted=["not every request, in time"])

    def event_counts(self, traffic: Traffic) -> Counter[str]:
        """The number of events of each kind in the storm."""
        processes = [post.process for post in self._posts]
        self.counts["rebalances"] = sum(
            process.log_count('"partitions assigned"') for process in processes
        )
        self.counts["planned faults"] = sum(
            process.log_count("planned fault at") for process in processes
        )
        self.counts["disks that were full"] = sum(
            process.log_count("disk is full") for process in processes
        )
        self.counts["tracebacks"] = sum(
            process.log_count("Traceback (most") for process in processes
        )
        for node in self.cluster.nodes:
            kafka_log = node.log.read_text(errors="replace")
            self.counts["markers skipped by Kafka"] += kafka_log.count("hence can be skipped")
        for proxy in self.cluster.proxies:
            for (api_key, fate), number in proxy.fate_counts.items():
                self.counts[f"api {api_key} {fate.value}"] += number
            proxy.fate_counts.clear()
        return self.counts + traffic.counts

    def copy_kafka_logs(self) -> None:
        """Copy the brokers' logs, which are removed with them, beside those of the workers."""
        for node in self.cluster.nodes:
            shutil.copy(node.log, self.folder / f"kafka-{node.port}.log")

    def log_excerpts(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(post.log_excerpt() for post in self._posts)


def storm(cluster: Cluster, direct: Settings, seed: int, seconds: float) -> Aftermath:
    """Run one storm, repair everything, and check the installation."""
    proxied = direct.model_copy(update={"bootstrap_servers": cluster.proxied})
    run = Storm(cluster, proxied, seed, direct.data_dir)
    started = time.monotonic()
    with Traffic(direct, seed, RATE) as traffic, run.workers():
        with Progress(direct) as progress:
            progress.wait_for_more(RATE, seconds=SETTLED_S)
        run.inject_faults(seconds)
        traffic.send_only_delayed()
        run.repair()
        traffic.stop()
        repaired = time.monotonic()
        found, commands = run.check_until_correct(direct, traffic, UNAIDED_S), list[str]()
        if found.faults and not found.is_final:
            commands = run_named_commands(direct)
            found = run.check_until_correct(direct, traffic, SETTLED_S)
        run.counts["settled after s"] = round(time.monotonic() - repaired)
        run.counts["took s"] = round(time.monotonic() - started)
        complaints = complaints_after(direct, HEALTHY_S)
        run.copy_kafka_logs()
    return Aftermath(
        seed, run.event_counts(traffic), found, commands, complaints, run.log_excerpts()
    )
