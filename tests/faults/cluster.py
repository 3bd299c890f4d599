"""A three-node cluster of the embedded broker, whose nodes a test may kill, freeze, restart and roll.

Every node listens twice: for the test, directly, and for workers through a proxy, which can cut, hold back and
lose what goes through it.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import TopicState, apply_topics
from processors.settings import Settings
from schemas.errors import Unreachable
from tests.faults.proxy import Proxy
from tests.support.until import until
from tools.broker import Broker, free_port, new_cluster_id

NODES = (1, 2, 3)
HEAP_MB = 256
WHOLE_S = 300
OF_A_CLUSTER = {
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
}


@dataclass(frozen=True)
class Cluster:
    """Nodes 1 to 3 and, in the same order, the proxy before each."""

    nodes: Sequence[Broker]
    proxies: Sequence[Proxy]
    admin: AdminClient

    @classmethod
    @contextmanager
    def temporary(cls, data_dir: Path) -> Iterator[Self]:
        """A ready cluster in a folder of its own; both are gone afterwards. Jars are kept in data_dir."""
        with (
            tempfile.TemporaryDirectory(prefix="cjstream-cluster-") as folder,
            ExitStack() as stack,
        ):
            ports = _free_ports(4 * len(NODES))
            direct, proxied, fronts, controllers = (ports[at::4] for at in range(4))
            quorum = ",".join(
                f"{node}@127.0.0.1:{port}" for node, port in zip(NODES, controllers, strict=True)
            )
            cluster_id = new_cluster_id()
            nodes = [
                Broker(
                    Path(folder) / str(node),
                    data_dir.resolve() / "kafka-libs",
                    direct[at],
                    {
                        **OF_A_CLUSTER,
                        "node.id": str(node),
                        "controller.quorum.voters": quorum,
                        "listeners": f"PLAINTEXT://127.0.0.1:{direct[at]},"
                        f"PROXIED://127.0.0.1:{proxied[at]},CONTROLLER://127.0.0.1:{controllers[at]}",
                        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{direct[at]},"
                        f"PROXIED://127.0.0.1:{fronts[at]}",
                    },
                    cluster_id,
                    HEAP_MB,
                )
                for at, node in enumerate(NODES)
            ]
            proxies = [
                stack.enter_context(Proxy.running(front, behind))
                for front, behind in zip(fronts, proxied, strict=True)
            ]
            bootstrap = ",".join(node.bootstrap for node in nodes)
            cluster = cls(
                nodes, proxies, AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
            )
            try:
                cluster._at_once(Broker.start)
                cluster.wait_until_whole()
                yield cluster
            finally:
                cluster._at_once(Broker.kill)

    def _at_once(self, step: Callable[[Broker], None]) -> None:
        """Do it to all nodes at the same time: one alone has no quorum to start or stop with."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(step, self.nodes))

    @property
    def bootstrap(self) -> str:
        """Where the test begins: the nodes themselves."""
        return ",".join(node.bootstrap for node in self.nodes)

    @property
    def proxied(self) -> str:
        """Where workers begin: the proxies."""
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)

    def installation(self, own: Settings) -> Settings:
        """The same settings, their topics made."""
        admin, made = admin_client(own), list[TopicState]()

        def are_made() -> bool:
            with suppress(Unreachable):  # its patience is for a machine that does nothing else
                made[:] = apply_topics(admin, own)
            return bool(made)

        until(are_made, WHOLE_S)
        return own

    def leader_of(self, topic: str, partition: int) -> int:
        """The place in `nodes` of a partition's leader."""
        found = self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition]
        return NODES.index(found.leader)

    def coordinator_of(self, group: str) -> int:
        """The place in `nodes` of a consumer group's coordinator."""
        (future,) = self.admin.describe_consumer_groups([group], request_timeout=10).values()
        return NODES.index(future.result().coordinator.id)

    def is_whole(self) -> bool:
        """Whether every node is there, and every partition has its leader and all of its replicas in sync."""
        try:
            told = self.admin.list_topics(timeout=5)
        except KafkaException:
            return False
        cuts = [cut for topic in told.topics.values() for cut in topic.partitions.values()]
        return len(told.brokers) == len(NODES) and all(
            cut.leader in cut.isrs and len(cut.isrs) == len(cut.replicas) for cut in cuts
        )

    def wait_until_whole(self) -> None:
        """Wait for that."""
        until(self.is_whole, WHOLE_S)

    def bring_up(self, node: Broker) -> None:
        """Start a node that is down and return when all is whole, however slow the machine."""
        with suppress(Unreachable):  # its own patience is for a machine that does nothing else
            node.start()
        self.wait_until_whole()

    def roll(self) -> None:
        """Restart every node, each once the one before is back in sync."""
        for node in self.nodes:
            node.stop()
            self.bring_up(node)


def _free_ports(count: int) -> list[int]:
    ports = dict.fromkeys(free_port() for _ in range(count))
    while len(ports) < count:
        ports[free_port()] = None
    return list(ports)
