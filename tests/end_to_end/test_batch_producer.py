"""The producer of batches: the records that a transaction has for a partition are one request."""

import json
from collections import Counter
from typing import Any

import pytest

from processors.kafka.clients import SENT_BY_COMMIT
from processors.kafka.records import RecordColumns
from processors.kafka.transactional_producer import TransactionalProducer, producer_with_id
from processors.settings import Settings
from schemas.topics import MAX_OUTCOME_BYTES
from tests.support.until import until

pytestmark = pytest.mark.thorough
COUNT = 1400
VALUE = b"x" * 1400  # together almost 2 MB


class Sent:
    """Records and record batches that a producer has sent to one partition, by its statistics."""

    def __init__(self, topic: str) -> None:
        self.counts = Counter[str]()
        self._topic = topic

    def add(self, statistics: str) -> None:
        topic = json.loads(statistics)["topics"].get(self._topic)
        if topic is not None and "0" in topic["partitions"]:
            self.counts["records"] = topic["partitions"]["0"]["txmsgs"]
            self.counts["record batches"] += topic["batchcnt"]["cnt"]  # since the last statistics


def producer_for(settings: Settings, sent: Sent, **overrides: Any) -> TransactionalProducer:
    options = {"stats_cb": sent.add, "statistics.interval.ms": 100, **overrides}
    producer = producer_with_id(settings, f"{settings.topic_prefix}together", **options)
    producer.take_over(60)
    return producer


def record_batches(settings: Settings, **overrides: Any) -> int:
    topic = settings.topics.batches.name
    sent = Sent(topic)
    producer = producer_for(settings, sent, **overrides)
    producer.begin()
    columns = RecordColumns([topic] * COUNT, [VALUE] * COUNT, [b"key"] * COUNT, [0] * COUNT)
    assert producer.produce_columns(columns) == COUNT
    producer.commit()
    until(lambda: producer.is_open and sent.counts["records"] == COUNT)
    producer.close()
    return sent.counts["record batches"]


def test_the_records_of_a_partition_are_sent_as_one_record_batch(settings: Settings) -> None:
    assert COUNT * len(VALUE) < SENT_BY_COMMIT["batch.size"] < MAX_OUTCOME_BYTES
    assert record_batches(settings, **SENT_BY_COMMIT) == 1
    assert record_batches(settings) > 1
