"""A cluster of the embedded broker, of three nodes or of one, which a test may kill, freeze and restart.

Every node has two listeners: a direct one for the test, and one behind a proxy for the workers. The proxy can
cut connections, hold them back, and lose requests and responses.
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

HEAP_MB = 256
HEALTHY_S = 300
LISTENERS = {
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
}
REPLICATED = {
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
}


@dataclass(frozen=True)
class Cluster:
    """The nodes 1, 2 … and, in the same order, the proxy in front of each."""

    nodes: Sequence[Broker]
    proxies: Sequence[Proxy]
    admin: AdminClient

    @classmethod
    @contextmanager
    def temporary(cls, data_dir: Path, size: int = 3) -> Iterator[Self]:
        """A ready cluster in a temporary folder; both are removed afterwards. The jars are cached in data_dir.

        With more than one node, every topic has three replicas; one node is what `cjstream up` starts.
        """
        with (
            tempfile.TemporaryDirectory(prefix="cjstream-cluster-") as folder,
            ExitStack() as stack,
        ):
            numbers = range(1, size + 1)
            ports = _free_ports(4 * size)
            direct, proxied, proxy_ports, controllers = (ports[start::4] for start in range(4))
            quorum = ",".join(
                f"{node}@127.0.0.1:{port}" for node, port in zip(numbers, controllers, strict=True)
            )
            cluster_id = new_cluster_id()
            nodes = [
                Broker(
                    Path(folder) / str(node),
                    data_dir.resolve() / "kafka-libs",
                    direct[index],
                    {
                        **LISTENERS,
                        **(REPLICATED if size > 1 else {}),
                        "node.id": str(node),
                        "controller.quorum.voters": quorum,
                        "listeners": f"PLAINTEXT://127.0.0.1:{direct[index]},"
                        f"PROXIED://127.0.0.1:{proxied[index]},CONTROLLER://127.0.0.1:{controllers[index]}",
                        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{direct[index]},"
                        f"PROXIED://127.0.0.1:{proxy_ports[index]}",
                    },
                    cluster_id,
                    HEAP_MB,
                )
                for index, node in enumerate(numbers)
            ]
            proxies = [
                stack.enter_context(Proxy.running(proxy_port, broker_port))
                for proxy_port, broker_port in zip(proxy_ports, proxied, strict=True)
            ]
            bootstrap = ",".join(node.bootstrap for node in nodes)
            cluster = cls(
                nodes, proxies, AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
            )
            try:
                cluster._on_all_nodes(Broker.start)
                cluster.wait_until_healthy()
                yield cluster
            finally:
                cluster._on_all_nodes(Broker.kill)

    def _on_all_nodes(self, step: Callable[[Broker], None]) -> None:
        """Run a step on all nodes at the same time: one node alone has no quorum, so it can neither start nor stop."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(step, self.nodes))

    @property
    def bootstrap(self) -> str:
        """The bootstrap servers for the test: the nodes themselves."""
        return ",".join(node.bootstrap for node in self.nodes)

    @property
    def proxied(self) -> str:
        """The bootstrap servers for workers: the proxies."""
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)

    def installation(self, settings: Settings) -> Settings:
        """Create the topics of these settings and return the settings."""
        admin, states = admin_client(settings), list[TopicState]()

        def are_created() -> bool:
            with suppress(Unreachable):  # its own timeout is too short on a busy machine
                states[:] = apply_topics(admin, settings)
            return bool(states)

        until(are_created, HEALTHY_S)
        return settings

    def leader_of(self, topic: str, partition: int) -> int:
        """The index in `nodes` of a partition's leader."""
        found = self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition]
        return int(found.leader) - 1

    def coordinator_of(self, group: str) -> int:
        """The index in `nodes` of a consumer group's coordinator."""
        (future,) = self.admin.describe_consumer_groups([group], request_timeout=10).values()
        return int(future.result().coordinator.id) - 1

    def is_healthy(self) -> bool:
        """Whether every node is up, and every partition has a leader and all of its replicas in sync."""
        try:
            metadata = self.admin.list_topics(timeout=5)
        except KafkaException:
            return False
        partitions = [
            partition
            for topic in metadata.topics.values()
            for partition in topic.partitions.values()
        ]
        return len(metadata.brokers) == len(self.nodes) and all(
            partition.leader in partition.isrs and len(partition.isrs) == len(partition.replicas)
            for partition in partitions
        )

    def wait_until_healthy(self) -> None:
        """Wait until the cluster is healthy."""
        until(self.is_healthy, HEALTHY_S)

    def start_and_wait(self, node: Broker) -> None:
        """Start a node that is down and wait until the cluster is healthy, even on a slow machine."""
        with suppress(Unreachable):  # its own timeout is too short on a busy machine
            node.start()
        self.wait_until_healthy()

    def rolling_restart(self) -> None:
        """Restart every node, one after the other, each when the node before is back in sync."""
        for node in self.nodes:
            node.stop()
            self.start_and_wait(node)


def _free_ports(count: int) -> list[int]:
    ports = dict.fromkeys(free_port() for _ in range(count))
    while len(ports) < count:
        ports[free_port()] = None
    return list(ports)
