"""Copies requests exactly once with librdkafka: `python -m tools.bench.join.byte_copy GROUP OUTPUT [--pipelined]`.

It is the ceiling of the join: the same clients with the same configuration, the same batch size and transactions, and
nothing between consuming and producing. With --pipelined, the next batch is fetched while the last one is committed,
as in a worker.
"""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat

from confluent_kafka import Message, Producer, TopicPartition

from processors.allocator import keep_freed_memory
from processors.kafka.clients import SENT_BY_COMMIT, group_member, transactional_producer
from processors.kafka.poll import poll_records
from processors.settings import settings_from_environment
from tools.end_signals import exit_on_end_signals

FETCH_WAIT_S = 0.2
COMMIT_S = 30.0


def main(group_id: str, output: str, *options: str) -> None:
    """Copy until the process is ended; the group needs committed offsets."""
    exit_on_end_signals()
    settings = settings_from_environment()
    keep_freed_memory()  # as a worker does
    producer = transactional_producer(settings, group_id, **SENT_BY_COMMIT)
    producer.init_transactions(COMMIT_S)
    consumer = group_member(settings, group_id)
    topic = settings.topics.requests.name
    consumer.subscribe([topic])
    last = Future[None]()
    last.set_result(None)
    with ThreadPoolExecutor(1) as committing:
        while True:
            messages = poll_records(consumer, settings.batch_max, FETCH_WAIT_S)
            if not messages:
                continue
            group = consumer.consumer_group_metadata()
            last.result()
            if "--pipelined" in options:
                last = committing.submit(commit, producer, messages, output, group)
            else:
                commit(producer, messages, output, group)


def commit(producer: Producer, messages: Sequence[Message], output: str, group: object) -> None:
    """Commit one batch: the copies of its records, and the offsets after them."""
    partitions = [message.partition() or 0 for message in messages]
    values = [message.value() for message in messages]
    keys = [message.key() for message in messages]
    ends = {message.partition() or 0: (message.offset() or 0) + 1 for message in messages}
    topic = str(messages[0].topic())
    producer.begin_transaction()
    produce: Callable[[str, bytes | None, bytes | None, int], None] = producer.produce
    deque(map(produce, repeat(output), values, keys, partitions), maxlen=0)
    offsets = [TopicPartition(topic, number, end) for number, end in ends.items()]
    producer.send_offsets_to_transaction(offsets, group, COMMIT_S)
    producer.commit_transaction(COMMIT_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
