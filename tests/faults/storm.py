"""A storm: faults dealt by a seed against workers and brokers, while requests and uploads flow.

Once it is over, everything is mended, the traffic ends, and the checker has the word.
"""

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from processors.settings import Settings
from tests.faults.asking import Progress, answer, installation_of, pause, terms_of
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
from tests.faults.traffic import Traffic
from tests.support.until import until

RATE = 80
TICK_S = 0.1
GAP_S = (1.0, 4.0)
HOUR_S = 3600
SETTLED_S = 600  # patience, where others use the machine, too
ROLL_S = 60  # a storm shorter than that has no time for it
KNOBS: dict[str, Any] = {
    "batch_max": 40,
    "release_max": 5,
    "session_timeout_s": 6,
    "transaction_timeout_s": 8,
}
CUT_OFF = (PRODUCE, FETCH, ADD_OFFSETS_TO_TXN, END_TXN, END_TXN, TXN_OFFSET_COMMIT)


@dataclass(frozen=True)
class Aftermath:
    """What a storm was, and what the checker found."""

    seed: int
    counts: Counter[str]
    found: Findings
    words: str  # the workers' last

    @property
    def line(self) -> dict[str, Any]:
        """All of it, to be told in one line."""
        counts = dict(sorted(self.counts.items()))
        return {
            "seed": self.seed,
            **counts,
            "found": dict(self.found.counts),
            "faults": self.found.faults,
        }


@dataclass
class Storm:
    """Workers at their posts, and the faults that befall them."""

    cluster: Cluster
    settings: Settings  # the workers': through the proxies
    seed: int
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        off_s = self._dice.choice((HOUR_S, -HOUR_S))
        self._steady = [self._post("one"), self._post("two", clock_off_s=off_s)]
        self._guest = self._post("", planned=0.2)  # without a slot it leaves, and all is dealt anew
        self._posts = [*self._steady, self._guest]
        self._rolls = False
        self._deck: list[Callable[[], None]] = []
        self._later: list[tuple[float, int, Callable[[], Any]]] = []
        self._repairs = ThreadPoolExecutor(1)
        self._repair: Future[None] | None = None  # of brokers: one misfortune at a time

    def _post(self, slot: str, **more: Any) -> Post:
        own = self.settings.model_copy(update={"slot": slot, **KNOBS})
        log = self.folder / f"{slot or 'guest'}.log"
        return Post(own, log, random.Random(f"{self.seed} {slot}"), self.counts, **more)

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Workers at every post; none is left afterwards."""
        for post in self._posts:
            post.start()
        try:
            yield
        finally:
            for post in self._posts:
                post.process.thaw()
                if post.process.is_alive:
                    post.process.kill()
            self._repairs.shutdown()

    def rage(self, seconds: float) -> None:
        """Deal fault after fault for so long."""
        self._rolls = seconds >= ROLL_S
        over, next_at = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < over:
            self._tended()
            if now >= next_at:
                self._dealt()()
                next_at = now + self._dice.uniform(*GAP_S)

    def _tend(self) -> None:
        for post in self._posts:
            post.tend()
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()

    def _tended(self) -> bool:
        self._tend()
        pause(TICK_S)
        return True

    def _in(self, seconds: float, step: Callable[[], Any]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, len(self._later), step))

    def _dealt(self) -> Callable[[], None]:
        """The next fault of a shuffled deck: each comes before any comes again too often."""
        if not self._deck:
            self._deck = [
                *(self._kill, self._freeze, self._cut, self._cut_off) * 2,
                *(self._guest_leaves,) * 4,
                *(self._hold, self._kill_broker, self._freeze_broker),
                *(self._roll,) * self._rolls,
                *(self._lose_replica, self._cut_replica, self._put_yesterday_back),
                self._fill_disk,
            ]
            self._dice.shuffle(self._deck)
        return self._deck.pop()

    def calm(self) -> None:
        """Mend everything: brokers, network, whoever is frozen or away."""
        for post in self._posts:
            post.planned = 0
            post.away_until = 0
        for proxy in self.cluster.proxies:
            proxy.calm()
        while self._later:
            heapq.heappop(self._later)[2]()
        until(lambda: self._tended() and self._brokers_are_well(), SETTLED_S)
        until(lambda: self._tended() and self.cluster.is_whole(), SETTLED_S)

    def _kill(self) -> None:
        post = self._dice.choice(self._posts)
        post.kill()
        post.keep_a_copy()

    def _freeze(self) -> None:
        self._dice.choice(self._posts).process.freeze()

    def _guest_leaves(self) -> None:
        """SIGTERM; it comes again in a few seconds."""
        self._guest.leave(self._dice.uniform(0, 4))
        self.counts["leaves"] += 1

    def _lose_replica(self) -> None:
        self._spoil(Post.lose_replica, "replicas deleted")

    def _cut_replica(self) -> None:
        self._spoil(Post.cut_replica, "replicas truncated")

    def _put_yesterday_back(self) -> None:
        self._spoil(Post.put_yesterday_back, "replicas from yesterday")

    def _fill_disk(self) -> None:
        post = self._spoil(Post.fill_disk, "full disks")
        self._in(self._dice.uniform(5, 12), post.process.stop_soon)

    def _spoil(self, spoil: Callable[[Post], None], what: str) -> Post:
        post = self._dice.choice(self._steady)
        post.kill()
        post.keep_a_copy()
        spoil(post)
        self.counts[what] += 1
        return post

    def _cut(self) -> None:
        self._dice.choice(self.cluster.proxies).cut()
        self.counts["cuts"] += 1

    def _hold(self) -> None:
        proxy = self._dice.choice(self.cluster.proxies)
        proxy.hold()
        self._in(self._dice.uniform(1, 9), proxy.release)
        self.counts["networks lost"] += 1

    def _cut_off(self) -> None:
        """One request of a kind meets its fate, at whichever broker it comes first."""
        api_key, fate = self._dice.choice(CUT_OFF), self._dice.choice(list(Fate))
        for proxy in self.cluster.proxies:
            proxy.arm(api_key, fate)

    def _kill_broker(self) -> None:
        """A leader's, a coordinator's or any other's; it comes back."""
        if self._brokers_are_well():
            node = self.cluster.nodes[self._chosen()]
            node.kill()
            self.counts["broker deaths"] += 1
            bring_up = partial(self.cluster.bring_up, node)
            self._repair = self._repairs.submit(self._bring_back, bring_up)

    def _freeze_broker(self) -> None:
        if self._brokers_are_well():
            node = self.cluster.nodes[self._chosen()]
            node.pause()
            self.counts["broker freezes"] += 1
            self._repair = self._repairs.submit(self._bring_back, node.resume)

    def _roll(self) -> None:
        """All brokers, one after the other: it may take the rest of the storm, so that a death comes first."""
        if not self.counts["broker deaths"]:
            self._kill_broker()
        elif self._brokers_are_well():
            self.counts["rolls"] += 1
            self._repair = self._repairs.submit(self.cluster.roll)

    def _bring_back(self, step: Callable[[], None]) -> None:
        pause(random.Random(self.seed + self.counts["broker deaths"]).uniform(1, 12))
        step()
        self.cluster.wait_until_whole()

    def _brokers_are_well(self) -> bool:
        if self._repair is not None and not self._repair.done():
            return False
        if self._repair is not None:
            self._repair.result()
        return True

    def _chosen(self) -> int:
        """The node to suffer: the leader of requests or uploads, the coordinator of a group, or any."""
        topics = self.settings.topics
        match self._dice.randrange(4):
            case 0:
                found = answer(lambda: self.cluster.leader_of(topics.requests.name, 0))
            case 1:
                found = answer(lambda: self.cluster.leader_of(topics.instructions.name, 1))
            case 2:
                found = answer(lambda: self.cluster.coordinator_of(self.settings.prep_group))
            case _:
                found = None
        return self._dice.randrange(3) if found is None else found

    def settled(self, direct: Settings, traffic: Traffic) -> Findings:
        """What the checker finds once all is settled: at once where it is final, else when the time is up."""
        looks = list[Findings]()
        terms = terms_of(direct, traffic.acknowledged)

        def is_settled() -> bool:
            self._tended()
            if not progress.is_complete():
                return False
            with suppress(KafkaException):
                if unfolded(installation_of(direct)):
                    return False  # a look reads everything
                looks.append(check(installation_of(direct), terms, table=True))
            return bool(looks) and (looks[-1].is_final or not looks[-1].faults)

        with Progress(direct) as progress, suppress(AssertionError):
            until(is_settled, SETTLED_S)
        return looks[-1] if looks else check(installation_of(direct), terms, table=True)

    def told(self, traffic: Traffic) -> Counter[str]:
        """All that happened, counted."""
        logs = [post.process for post in self._posts]
        self.counts["rebalances"] = sum(log.said('"partitions assigned"') for log in logs)
        self.counts["falls at points"] = sum(log.said("falls at") for log in logs)
        self.counts["disks that were full"] = sum(log.said("disk is full") for log in logs)
        self.counts["tracebacks"] = sum(log.said("Traceback (most") for log in logs)
        for proxy in self.cluster.proxies:
            for (api_key, fate), number in proxy.met.items():
                self.counts[f"api {api_key} {fate.value}"] += number
            proxy.met.clear()
        return self.counts + traffic.counts

    def words(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(post.words() for post in self._posts)


def storm(cluster: Cluster, direct: Settings, seed: int, seconds: float) -> Aftermath:
    """One storm, its calm, and the checker's word."""
    proxied = direct.model_copy(update={"bootstrap_servers": cluster.proxied})
    one = Storm(cluster, proxied, seed, direct.data_dir)
    begun = time.monotonic()
    with Traffic(direct, seed, RATE) as traffic, one.workers():
        with Progress(direct) as progress:
            progress.wait_for_more(RATE, seconds=SETTLED_S)
        one.rage(seconds)
        traffic.send_no_more()
        one.calm()
        traffic.stop()
        mended = time.monotonic()
        found = one.settled(direct, traffic)
        one.counts["settled after s"] = round(time.monotonic() - mended)
        one.counts["took s"] = round(time.monotonic() - begun)
    return Aftermath(seed, one.told(traffic), found, one.words())
