"""How every librdkafka client is set up: one place, so that no partitioner or isolation is forgotten."""

import logging
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from processors.settings import Settings

Config = dict[str, Any]
log = logging.getLogger("cjstream.librdkafka")
log.setLevel(logging.ERROR)  # with the broker down it prints twenty lines a second otherwise
log.addHandler(logging.NullHandler())  # a command that logs nothing ends with its one line alone


def common(settings: Settings) -> Config:
    """What every client needs; error callbacks are information only, exceptions decide."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": f"{settings.topic_prefix}cjstream-{settings.slot or 'worker'}",
        "logger": log,
        "log_level": 2,
        "error_cb": _heard,
        "reconnect.backoff.max.ms": 1000,
    }


def _heard(error: KafkaError) -> None:
    log.info("librdkafka says", extra={"code": error.name()})


def admin_client(settings: Settings) -> AdminClient:
    """A client that never fetches: its answers queue behind nothing."""
    return AdminClient(common(settings))


def plain_producer(settings: Settings, **more: Any) -> Producer:
    """An idempotent producer for events that need no transaction."""
    return Producer(
        {
            **common(settings),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.max.bytes": 2 * 1024 * 1024,
            "linger.ms": 5,
            "compression.type": "lz4",
            **more,
        }
    )


def transactional_id(settings: Settings) -> str:
    """The id of one worker's producer; with a slot, a restart takes over its predecessor's."""
    return f"{settings.prep_group}-{settings.slot or uuid4()}"


def admin_transactional_id(settings: Settings, partition: int) -> str:
    """The id of the one writer of an upload partition, whichever instance of the API has it."""
    return f"{settings.topic_prefix}cjstream-admin-{partition}"


def transactional_producer(settings: Settings, transactional_id: str, **more: Any) -> Producer:
    """The producer of batch preparation, or of one upload partition's writer."""
    return Producer(
        {
            **common(settings),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": settings.transaction_timeout_s * 1000,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.max.bytes": 2 * 1024 * 1024,
            "batch.size": 1024 * 1024,  # at most max.message.bytes: it bounds the record batch
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 1024 * 1024,
            "linger.ms": 0,
            # AddOffsetsToTxn sleeps this long while the last markers are written (100 ms by default)
            "retry.backoff.ms": 2,
            # without it send_offsets hangs for ever once its coordinator died (librdkafka #5511)
            "metadata.recovery.strategy": "none",
            **more,
        }
    )


def reader(settings: Settings, **more: Any) -> Consumer:
    """A consumer outside any group's rebalances: partitions are assigned, nothing is committed."""
    return Consumer(
        {
            **common(settings),
            "group.id": f"{settings.topic_prefix}cjstream-reader-{uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 20,
            "fetch.wait.max.ms": 100,
            **more,
        }
    )


def group_reader(settings: Settings, group_id: str) -> Consumer:
    """A consumer that asks what a group has committed, open transactions aside, and joins nothing.

    An admin client must not ask that: once the coordinator has moved, its process dies of a null
    pointer (librdkafka #5040).
    """
    return reader(settings, **{"group.id": group_id, "isolation.level": "read_uncommitted"})


def group_member(settings: Settings, group_id: str) -> Consumer:
    """A member of a consumer group that reads committed records and never commits by itself."""
    static = {"group.instance.id": f"{group_id}-{settings.slot}"} if settings.slot else {}
    protocol: Config = {"group.protocol": "consumer"}
    if settings.group_protocol == "classic":
        protocol = {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": settings.session_timeout_s * 1000,
            "heartbeat.interval.ms": 1000,
        }
    return Consumer(
        {
            **common(settings),
            **static,
            **protocol,
            "group.id": group_id,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "max.poll.interval.ms": 300_000,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 65_536,
        }
    )
