"""Finds the live anchors of an assignment at the end of their topic, in a replica of that topic alone.

So a run uses every anchor that was acknowledged before it was opened, and its position says up to where it looked.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from confluent_kafka.admin import AdminClient

from processors.fold.catch_up import require_reached
from processors.fold.replica_feed import ReplicaFeed
from processors.kafka.offsets import high_watermarks
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.partitioner import partition_for
from tables.anchors import AnchorsFound, anchors_found
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadTopics

FOLD_S = 5.0
Watermarks = Callable[[Iterable[Partition]], Positions]


class AnchorsLookup:
    """Finds anchors in a replica that a feed keeps current; any thread may call `find`."""

    def __init__(
        self, replica: ContextReplica, watermarks: Watermarks, fold_timeout_s: float = FOLD_S
    ) -> None:
        self._replica = replica
        (self._topic,) = replica.topics.by_name
        self._watermarks = watermarks
        self._fold_timeout_s = fold_timeout_s

    def find(self, assignment_id: str) -> AnchorsFound:
        """The live anchors of an assignment at the log's end; blocks.

        Raises Unreachable, or ReplicaBehind if the replica does not reach the end in time: ask again later.
        """
        until = time.monotonic() + self._fold_timeout_s
        scope_key = f"assignment:{assignment_id}"
        partitions = self._replica.topics.partitions
        partition = Partition(self._topic, partition_for(scope_key.encode(), partitions))
        require_reached(self._replica, self._watermarks([partition]), until)
        with self._replica.frozen() as positions:
            return anchors_found(self._replica.context(scope_key), positions.get(partition, 0))


class AnchorsFeed:
    """A replica of the anchors topic, kept in memory and current from `start` to `stop`; a lookup reads it."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        admin: AdminClient,
        fail: Callable[[BaseException], None],
    ) -> None:
        anchors = settings.topics.anchors
        topics = UploadTopics({anchors.name: anchors}, settings.partitions)
        self._replica = ContextReplica(MemoryStore(), codec, topics)
        self._feed = ReplicaFeed(settings, self._replica, fail)
        self.lookup = AnchorsLookup(self._replica, partial(high_watermarks, admin))

    def start(self, topic_ids: Mapping[str, str]) -> None:
        """Read the topic from its start; topic_ids are those of `checked_topics`."""
        ids = {name: topic_ids[name] for name in self._replica.topics.by_name}
        self._feed.start(self._replica.open(ids))

    def stop(self) -> None:
        """Stop reading; returns when the thread has ended."""
        self._feed.stop()
        self._replica.close()
