"""The configuration of every librdkafka client, in one place: no client may miss its partitioner or isolation level."""

import logging
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from processors.kafka.security import aiokafka_security, librdkafka_security
from processors.settings import Settings

Config = dict[str, Any]
# of one response; also bounds a zstd batch after decompression: a consumer stops for ever before a larger one
MAX_RECEIVED_BYTES = 2**31 - 1
# of one partition in one response. Records are taken response by response: with much more, a batch has the records of
# one partition only, whose outcomes are several requests one after the other (see SENT_BY_COMMIT)
FETCH_BYTES = 2_400_000
# of the records that a reader has fetched and nobody has taken yet; librdkafka's default is four times as much. A
# process has several readers, and each would fill its queue while a long log is read
READER_QUEUE_KIB = 16 * 1024
# For a producer of many records in each transaction. An idempotent producer has one request per partition under way;
# while further records are ready for the partition, its thread spins and takes a core from the broker. So the records
# of a transaction should be one request per partition: they linger until the commit, which sends them at once, and a
# record batch may be almost as large as the topics of outcomes allow.
SENT_BY_COMMIT: Config = {"linger.ms": 50, "batch.size": 2_000_000}
log = logging.getLogger("cjstream.librdkafka")
log.setLevel(logging.ERROR)  # otherwise it prints twenty lines a second while the broker is down
log.addHandler(logging.NullHandler())  # a command without logging must print only its one line


def common_config(settings: Settings) -> Config:
    """The configuration of every client. Its error callback only logs; exceptions decide."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": f"{settings.topic_prefix}cjstream-{settings.slot or 'worker'}",
        "logger": log,
        "log_level": 2,
        "error_cb": log_error,
        "reconnect.backoff.max.ms": 1000,
        **librdkafka_security(settings.kafka),
    }


def aiokafka_config(settings: Settings) -> Config:
    """The configuration of an aiokafka client outside Faust; it must reach the same brokers as `common_config`."""
    return {
        "bootstrap_servers": [host.strip() for host in settings.bootstrap_servers.split(",")],
        "client_id": f"{settings.topic_prefix}cjstream-{settings.slot or 'worker'}",
        "request_timeout_ms": 10_000,
        **aiokafka_security(settings.kafka),
    }


def log_error(error: KafkaError) -> None:
    """The error callback of every client."""
    log.info("librdkafka error", extra={"code": error.name()})


def admin_client(settings: Settings) -> AdminClient:
    """A client that never fetches, so that its requests never queue behind a fetch."""
    return AdminClient(common_config(settings))


def plain_producer(settings: Settings, **overrides: Any) -> Producer:
    """An idempotent producer for events that need no transaction."""
    return Producer(
        {
            **common_config(settings),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.max.bytes": 2 * 1024 * 1024,
            "linger.ms": 5,
            "compression.type": "lz4",
            **overrides,
        }
    )


def transactional_id(settings: Settings) -> str:
    """The transactional id of one worker's producer; a restarted worker with a slot has the same id again."""
    return f"{settings.prep_group}-{settings.slot or uuid4()}"


def judge_transactional_id(settings: Settings) -> str:
    """The transactional id of one judge process; a restarted one with a slot has the same id again."""
    return f"{settings.judge_group}-{settings.slot or uuid4()}"


def admin_transactional_id(settings: Settings, partition: int) -> str:
    """The transactional id of the only writer of an upload partition, the same in every API instance."""
    return f"{settings.topic_prefix}cjstream-admin-{partition}"


def transactional_producer(settings: Settings, transactional_id: str, **overrides: Any) -> Producer:
    """A transactional producer, for batch preparation or for the writer of one upload partition."""
    return Producer(
        {
            **common_config(settings),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": settings.transaction_timeout_s * 1000,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.max.bytes": 2 * 1024 * 1024,
            "batch.size": 1024
            * 1024,  # bounds a record batch: at most max.message.bytes of the topic
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 1024 * 1024,
            "linger.ms": 0,
            # AddOffsetsToTxn sleeps this long (default: 100 ms) while the previous markers are written
            "retry.backoff.ms": 2,
            # otherwise send_offsets hangs forever after its coordinator died (librdkafka #5511)
            "metadata.recovery.strategy": "none",
            **overrides,
        }
    )


def reader_group(settings: Settings) -> str:
    """The group that a reader names, as librdkafka demands; it never has a member or a committed offset."""
    return f"{settings.topic_prefix}cjstream-reader"


def reader(settings: Settings, **overrides: Any) -> Consumer:
    """A consumer without rebalances: its partitions are assigned by hand, and it commits nothing."""
    return Consumer(
        {
            **common_config(settings),
            "group.id": reader_group(settings),
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "receive.message.max.bytes": MAX_RECEIVED_BYTES,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": READER_QUEUE_KIB,
            "fetch.wait.max.ms": 100,
            **overrides,
        }
    )


def group_reader(settings: Settings, group_id: str) -> Consumer:
    """A consumer that reads the committed offsets of a group without joining it; it ignores open transactions.

    Do not use an admin client for this: after the coordinator has moved, its process crashes with a null pointer
    (librdkafka #5040).
    """
    return reader(settings, **{"group.id": group_id, "isolation.level": "read_uncommitted"})


def instance_id(settings: Settings, group_id: str) -> str:
    """The `group.instance.id` of this process in a group, if it has a slot."""
    return f"{group_id}-{settings.slot}"


def group_member(settings: Settings, group_id: str) -> Consumer:
    """A member of a consumer group that reads committed records, without automatic commits."""
    static = {"group.instance.id": instance_id(settings, group_id)} if settings.slot else {}
    protocol: Config = {"group.protocol": "consumer"}
    if settings.group_protocol == "classic":
        protocol = {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": settings.session_timeout_s * 1000,
            "heartbeat.interval.ms": 1000,
        }
    return Consumer(
        {
            **common_config(settings),
            **static,
            **protocol,
            "group.id": group_id,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "max.poll.interval.ms": 300_000,
            "receive.message.max.bytes": MAX_RECEIVED_BYTES,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 65_536,
            "fetch.message.max.bytes": FETCH_BYTES,
        }
    )
