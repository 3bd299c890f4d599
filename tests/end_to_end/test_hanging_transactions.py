"""Transactions that hang, on a topic and on a group's offsets: found, named by `doctor`, ended by the command."""

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from processors.kafka.clients import reader, transactional_producer
from processors.kafka.consumer_groups import set_committed_offsets
from processors.kafka.offsets import with_open_transactions
from processors.kafka.records import Record
from processors.kafka.transactions import (
    OFFSETS_TOPIC,
    STATE_TOPIC,
    internal_partition,
    logged_decision,
)
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.events import ParkedRequest
from tests.faults.load import CODEC, append, send
from tests.support.builders import requested
from tests.support.hanging_transaction import (
    hang,
    hang_after_commit,
    hang_offsets,
    log_decision,
    unverified_broker,
)
from tests.support.run_command import run_json, run_text
from tools.broker import Broker
from tools.doctor import examine
from tools.doctor_check import Check

ABORT = ("topics", "abort-transaction")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with unverified_broker() as broker:
        yield broker


def is_blocked(settings: Settings, partition: Partition) -> bool:
    return bool(with_open_transactions(settings, [partition]))


def open_transaction_check(settings: Settings) -> Check:
    [check] = [check for check in examine(settings) if check.name == "open transactions"]
    return check


def test_a_hanging_transaction_on_a_topic_is_named_and_ended(settings: Settings) -> None:
    partition = Partition(settings.topics.batches.name, 1)
    producer_id = hang(settings, partition, f"{settings.topic_prefix}lost")
    assert is_blocked(settings, partition)

    check = open_transaction_check(settings)
    command = f"topics abort-transaction {partition.topic}/1 --producer-id {producer_id} --yes"
    assert not check.ok
    assert f"{partition.topic}/1: transactional id {settings.topic_prefix}lost" in check.detail
    assert f"producer id {producer_id}, open since 20" in check.detail
    assert check.detail.endswith(f"end it: `cjstream {command}`")
    assert run_json(settings, "doctor")[0] == 3

    exit_code, shown, _ = run_json(settings, *ABORT)
    [transaction] = shown["transactions"]
    assert (exit_code, shown["dry_run"]) == (0, True)
    assert (transaction["topic"], transaction["partition"]) == (partition.topic, 1)
    assert (transaction["producer_id"], transaction["start_offset"]) == (producer_id, 0)
    assert (transaction["action"], transaction["ended"]) == ("abort", None)
    assert is_blocked(settings, partition)

    exit_code, done, _ = run_json(settings, *command.split())
    assert (exit_code, done["dry_run"]) == (0, False)
    assert done["transactions"] == [{**transaction, "ended": True}]
    assert not is_blocked(settings, partition)
    assert committed_values(settings, partition) == []
    assert open_transaction_check(settings) == Check("open transactions", True, "none")


def test_one_command_ends_several_hanging_transactions(settings: Settings) -> None:
    prefix, topics = settings.topic_prefix, settings.topics
    partitions = [Partition(topics.batches.name, 0), Partition(topics.instructions.name, 3)]
    for number, partition in enumerate(partitions):
        hang(settings, partition, f"{prefix}lost{number}")
    detail = open_transaction_check(settings).detail
    assert all(f"{one}: transactional id {prefix}lost" in detail for one in partitions)
    [named] = re.findall("`cjstream (.+?)`", detail)
    assert run_json(settings, *named.split())[0] == 0
    assert not any(is_blocked(settings, partition) for partition in partitions)


def committed_values(settings: Settings, partition: Partition) -> list[bytes | None]:
    with LogReader(settings, [partition]) as log:
        return [record.value for record in log.records_until(log.seek_to_start())]


@pytest.mark.thorough
def test_a_hanging_transaction_on_offsets_of_a_group_is_named_and_ended(settings: Settings) -> None:
    requests = Partition(settings.topics.requests.name, 0)
    group, name = settings.prep_group, f"{settings.topic_prefix}lost"
    producer_id = hang_offsets(settings, group, {requests: 5}, name)
    assert not has_stable_offset(settings, requests)

    exit_code, shown, _ = run_json(settings, *ABORT, "--producer-id", str(producer_id))
    [transaction] = shown["transactions"]
    place = (OFFSETS_TOPIC, internal_partition(group, 4))
    assert (exit_code, transaction["topic"], transaction["partition"]) == (0, *place)
    assert (
        f"{place[0]}/{place[1]}: transactional id {name}" in open_transaction_check(settings).detail
    )

    exit_code, out, _ = run_text(settings, *ABORT, "--producer-id", str(producer_id), "--yes")
    assert exit_code == 0
    assert "Ended: 1" in out
    assert has_stable_offset(settings, requests)


def has_stable_offset(settings: Settings, partition: Partition) -> bool:
    """Whether a consumer of committed records is given the committed offset of the group."""
    consumer = reader(settings, **{"group.id": settings.prep_group})
    with closing(consumer), suppress(KafkaException):
        [committed] = consumer.committed([TopicPartition(*partition)], timeout=1)
        return committed.error is None
    return False


def test_a_transaction_that_its_coordinator_committed_is_committed_here_too(
    settings: Settings,
) -> None:
    partition = Partition(settings.topics.batches.name, 2)
    producer_id = hang(settings, partition, f"{settings.topic_prefix}lost", b"outcome")
    log_decision(settings, f"{settings.topic_prefix}lost", producer_id, partition)
    exit_code, done, _ = run_json(settings, *ABORT, f"{partition.topic}/2", "--yes")
    [transaction] = done["transactions"]
    assert (exit_code, transaction["action"], transaction["ended"]) == (0, "commit", True)
    assert committed_values(settings, partition) == [b"outcome"]


def test_a_record_that_was_written_after_the_commit_is_not_committed(settings: Settings) -> None:
    partition = Partition(settings.topics.batches.name, 3)
    hang_after_commit(settings, partition, f"{settings.topic_prefix}late", b"in time", b"late")
    _, done, _ = run_json(settings, *ABORT, f"{partition.topic}/3", "--yes")
    assert [(one["action"], one["ended"]) for one in done["transactions"]] == [("abort", True)]
    assert committed_values(settings, partition) == [b"in time"]


def test_decisions_are_read_from_the_log_as_the_coordinator_writes_it(settings: Settings) -> None:
    name, topic = f"{settings.topic_prefix}writer", settings.topics.batches.name
    producer = transactional_producer(settings, name)
    producer.init_transactions(30)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        for partition in (0, 2):
            producer.produce(topic, b"x", b"key", partition)
        producer.flush(30)
        end(30)
    log = Partition(STATE_TOPIC, internal_partition(name, 4))
    decisions = [
        decision
        for value in committed_values(settings, log)
        if (decision := logged_decision(value or b"")) is not None
        and Partition(topic, 0) in decision.partitions
    ]
    both = frozenset({Partition(topic, 0), Partition(topic, 2)})
    assert [(one.is_commit, one.partitions) for one in decisions] == [(True, both), (False, both)]


def test_a_producer_that_keeps_its_transaction_open_is_named_and_fenced(settings: Settings) -> None:
    partition = Partition(settings.topics.student_prompts.name, 0)
    foreign = open_producer(settings, partition)
    assert run_json(settings, *ABORT)[1]["transactions"] == []  # it is not open for long
    assert open_transaction_check(settings).ok

    exit_code, shown, _ = run_json(settings, *ABORT, "--open-for", "0s")
    [transaction] = shown["transactions"]
    assert (exit_code, transaction["action"], transaction["state"]) == (0, "fence", "Ongoing")
    _, done, _ = run_json(settings, *ABORT, "--open-for", "0s", "--yes")
    assert [one["ended"] for one in done["transactions"]] == [True]
    assert not is_blocked(settings, partition)
    with pytest.raises(KafkaException) as fenced:
        foreign.commit_transaction(30)
    assert fenced.value.args[0].code() == KafkaError._FENCED


def open_producer(settings: Settings, partition: Partition) -> Any:
    """A producer of somebody else, with an open transaction on a partition."""
    foreign = transactional_producer(
        settings, f"{settings.topic_prefix}foreign", **{"transaction.timeout.ms": 600_000}
    )
    foreign.init_transactions(30)
    foreign.begin_transaction()
    foreign.produce(partition.topic, b"x", b"key", partition.partition)
    assert foreign.flush(30) == 0
    return foreign


@pytest.mark.thorough
def test_parked_list_shows_what_can_be_read_and_names_the_transaction(settings: Settings) -> None:
    topics = settings.topics
    at = Coordinates(topics.requests.name, 1, 0)
    waiting = ParkedRequest(
        request_at=at,
        scope_key="assignment:late",
        missing=(),
        appended_at_ms=1_000,
        deadline_at_ms=2**62,
        request=CODEC.encode(requested(assignment_id="late")),
    )
    append(settings, [Record(topics.parked.name, 1, str(at).encode(), CODEC.encode(waiting))])
    producer_id = hang(settings, Partition(topics.parked.name, 1), f"{settings.topic_prefix}lost")
    command = f"topics abort-transaction {topics.parked.name}/1 --producer-id {producer_id} --yes"
    exit_code, document, message = run_json(settings, "parked", "list")
    assert exit_code == 3
    assert [one["request_at"] for one in document["parked"]] == [str(at)]
    assert message.startswith(
        "cjstream: the list may lack requests, which open transactions hide: "
    )
    assert message.endswith(f"end it: `cjstream {command}`\n")
    assert message.count("\n") == 1
    checks = {check.name: check for check in examine(settings)}
    assert f"{at} has waited" in checks["oldest parked request"].detail
    assert f"hides records in {topics.parked.name}/1" in checks["oldest parked request"].detail
    assert run_text(settings, *command.split())[0] == 0
    assert run_json(settings, "parked", "list")[::2] == (0, "")


@pytest.mark.thorough
def test_parked_list_shows_overdue_requests_whose_outcomes_are_hidden(settings: Settings) -> None:
    topics = settings.topics
    [at] = send(settings, requested(assignment_id="late"))
    requests = Partition(topics.requests.name, at.partition)
    set_committed_offsets(settings, settings.prep_group, {requests: at.offset + 1})
    waiting = ParkedRequest(
        request_at=at,
        scope_key="assignment:late",
        missing=(),
        appended_at_ms=1_000,
        deadline_at_ms=2_000,
        request=CODEC.encode(requested(assignment_id="late")),
    )
    parked = Record(topics.parked.name, at.partition, str(at).encode(), CODEC.encode(waiting))
    append(settings, [parked])
    hang(settings, Partition(topics.batches.name, at.partition), f"{settings.topic_prefix}lost")
    exit_code, document, message = run_json(settings, "parked", "list")
    assert exit_code == 3
    assert [one["request_at"] for one in document["parked"]] == [str(at)]
    assert f"{topics.batches.name}/{at.partition}: transactional id" in message


def test_only_what_is_named_is_ended(settings: Settings) -> None:
    one, two = (Partition(settings.topics.batches.name, number) for number in (0, 1))
    hang(settings, one, f"{settings.topic_prefix}one")
    hang(settings, two, f"{settings.topic_prefix}two")
    live = open_producer(settings, two)
    assert len(run_json(settings, *ABORT)[1]["transactions"]) == 2
    assert run_json(settings, *ABORT, "--producer-id", "123456789", "--yes")[1] == {
        "dry_run": False,
        "transactions": [],
    }
    [ended] = run_json(settings, *ABORT, f"{one.topic}/0", "--yes")[1]["transactions"]
    assert (ended["partition"], ended["ended"]) == (0, True)
    assert (is_blocked(settings, one), is_blocked(settings, two)) == (False, True)
    assert [found["ended"] for found in run_json(settings, *ABORT, "--yes")[1]["transactions"]] == [
        True
    ]
    live.commit_transaction(30)
    assert not is_blocked(settings, two)


def test_a_partition_that_cannot_be_parsed_is_wrong_usage(settings: Settings) -> None:
    exit_code, _, message = run_text(settings, *ABORT, "no-partition")
    assert (exit_code, message) == (2, "cjstream: a partition looks like topic/partition\n")


def test_without_a_broker_the_command_exits_with_4(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    exit_code, out, message = run_text(away, *ABORT)
    assert (exit_code, out) == (4, "")
    assert message.startswith("cjstream: no Kafka broker answers at 127.0.0.1:1 ")
    assert message.count("\n") == 1
