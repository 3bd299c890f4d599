"""Feeds the context replica: one thread, every partition of its topics, committed records only."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from processors.kafka.clients import reader
from processors.kafka.poll import poll_records, read_positions
from processors.log.upload_topics import upload_batch_of
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from tables.replica import ContextReplica, StoppedAt
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tables.store import RocksStore
from tables.upload_batch import UploadBatch
from tables.upload_record import UploadTopics

log = logging.getLogger("cjstream.replica")
MAX_RECORDS = 5000
POLL_S = 0.02  # markers bring no message: position() must be queried again
IF_LOST = "the replica's next offset is gone: delete the replica's folder; it is then rebuilt"


def open_replica(
    settings: Settings,
    codec: Codec,
    process_dir: Path,
    on_change: Callable[[Collection[str]], None] | None = None,
    engine: Engine = PLAIN_ENGINE,
    topics: UploadTopics | None = None,
) -> ContextReplica:
    """The replica of a worker or an API process, in a subfolder of process_dir.

    on_change is called with the scope keys of every fold; topics are by default those of batch preparation.
    """
    store = RocksStore(
        process_dir / "replica", what="the replica", cache_mb=settings.replica_cache_mb
    )
    return ContextReplica(store, codec, topics or upload_topics(settings), on_change, engine)


class ReplicaFeed:
    """Folds its topics into a replica until it is stopped; failures are passed to `fail`."""

    def __init__(
        self,
        settings: Settings,
        replica: ContextReplica,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._partitions = replica.topics.every_partition
        self._replica = replica
        self._fail = fail
        self._reread: set[Partition] = set()  # resumed, and no record read since
        self._logged: dict[Partition, Coordinates] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replica-feed", daemon=True)

    def start(self, positions: Positions) -> None:
        """Continue at the positions; partitions without one are read from their start."""
        self._starts = [
            TopicPartition(*tp, positions.get(tp, OFFSET_BEGINNING)) for tp in self._partitions
        ]
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current batch; returns when the thread has ended."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        consumer = reader(self._settings)
        try:
            consumer.assign(self._starts)
            while not self._stopping.is_set():
                self._advance(consumer)
        except Exception as fault:  # noqa: BLE001 (whatever it is, the replica no longer advances)
            self._fail(fault)
        finally:
            consumer.close()

    def _advance(self, consumer: Consumer) -> None:
        messages = poll_records(consumer, MAX_RECORDS, POLL_S, if_lost=IF_LOST)
        batch = upload_batch_of(messages)
        if self._reread:
            self._reread -= set(map(Partition, batch.topics, batch.partitions))
        positions = {
            partition: position
            for partition, position in read_positions(consumer, self._partitions).items()
            if partition not in self._reread  # it may still be the position before
        }
        if not messages:
            self._replica.advance(positions)
        else:
            for record, fault in self._replica.fold_batch(batch, positions):
                log.warning(
                    "upload is not a valid event: not folded into the replica",
                    extra={"at": str(record.at), "reason": str(fault)},
                )
        if stopped := self._replica.stopped():
            self._log_stops(stopped)
            self._resume(consumer, batch)

    def _log_stops(self, stopped: Mapping[Partition, StoppedAt]) -> None:
        for partition, stop in stopped.items():
            if self._logged.get(partition) != stop.record.at:
                self._logged[partition] = stop.record.at
                log.error(
                    "the fold of an upload partition has stopped", extra={"reason": stop.reason}
                )

    def _resume(self, consumer: Consumer, batch: UploadBatch) -> None:
        """Read ahead for records that set aside what a partition stopped at; read resumed partitions again."""
        for number in batch.sets_aside:
            self._replica.set_aside(batch.record(number))
        resumed = self._replica.resume()
        if not resumed:
            return
        positions = self._replica.positions()
        consumer.incremental_unassign([TopicPartition(*partition) for partition in resumed])
        consumer.incremental_assign(
            [TopicPartition(*partition, positions[partition]) for partition in resumed]
        )
        self._reread |= set(resumed)
        log.warning(
            "the fold of upload partitions goes on",
            extra={"partitions": [f"{one.topic}/{one.partition}" for one in resumed]},
        )
