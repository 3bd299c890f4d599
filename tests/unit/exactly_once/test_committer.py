"""One transaction per batch: the calls that are made, and the reaction to every kind of error."""

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import MAX_FENCED, Committer, commit_batch
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.kafka.records import Record, RecordColumns
from processors.kafka.transactional_producer import TooLargeError, TransactionalProducer
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Aborted, Discrepancy, Fenced
from tests.support.librdkafka import abortable_error, fenced_error, retriable_error, state_error

P0 = Partition("cj.requests.v1", 0)
RECORDS = tuple(
    Record("cj.batches.v1", 0, b"k", value, headers=(("h", b"v"),)) for value in (b"1", b"2", b"3")
)
BATCH = Batch(RECORDS, 3, {P0: 10}, {P0: 13}, b"CGMDv2:group", 1)
ALL_CALLS = ["init", "begin", "produce", "produce", "produce", "offsets", "commit"]


RETRIABLE: Exception = KafkaException(retriable_error())
ABORTABLE: Exception = KafkaException(abortable_error())
FATAL: Exception = KafkaException(fenced_error())
UNMARKED: Exception = KafkaException(state_error())
TOO_LARGE: Exception = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))  # by `produce`


class ScriptedProducer:
    """A transactional producer that records calls and committed values, and raises the scripted faults."""

    def __init__(self, faults: dict[str, list[Exception]] | None = None) -> None:
        self.calls: list[str] = []
        self.committed: list[bytes] = []
        self.offsets: list[tuple[list[TopicPartition], bytes]] = []
        self.headers: list[Any] = []
        self._open: list[bytes] = []
        self._faults = {step: list(raised) for step, raised in (faults or {}).items()}

    def _called(self, step: str) -> None:
        self.calls.append(step)
        if self._faults.get(step):
            raise self._faults[step].pop(0)

    def init_transactions(self, timeout: float) -> None:
        self._called("init")

    def begin_transaction(self) -> None:
        self._called("begin")

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        partition: int,
        callback: None = None,
        on_delivery: None = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        self._called("produce")
        self.headers.append(headers)
        self._open.append(value)

    def poll(self, timeout: float) -> int:
        if timeout:  # else it only asks for errors of connections
            self.calls.append("poll")
        return 0

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], group: bytes, timeout: float
    ) -> None:
        self._called("offsets")
        self.offsets.append((offsets, group))

    def commit_transaction(self, timeout: float) -> None:
        self._called("commit")
        self.committed += self._open
        self._open = []

    def abort_transaction(self, timeout: float) -> None:
        self._called("abort")
        self._open = []


def producer_of(*producers: ScriptedProducer, timeout_s: float = 10.0) -> TransactionalProducer:
    """A TransactionalProducer that uses these producers, one after the other."""
    remaining = iter(producers)
    return TransactionalProducer(lambda: cast(Producer, next(remaining)), timeout_s=timeout_s)


def scripted(**faults: list[Exception]) -> ScriptedProducer:
    return ScriptedProducer(faults)


def test_a_batch_is_one_transaction() -> None:
    producer = scripted()
    commit_batch(producer_of(producer), BATCH)
    assert producer.calls == ALL_CALLS
    assert producer.committed == [b"1", b"2", b"3"]


def test_offsets_are_sent_with_the_group_metadata_of_the_fetch() -> None:
    producer = scripted()
    commit_batch(producer_of(producer), BATCH)
    ((offsets, group),) = producer.offsets
    assert [(tp.topic, tp.partition, tp.offset) for tp in offsets] == [("cj.requests.v1", 0, 13)]
    assert group == b"CGMDv2:group"


def test_the_second_batch_uses_the_same_producer() -> None:
    producer = scripted()
    transactions = producer_of(producer)
    commit_batch(transactions, BATCH)
    commit_batch(transactions, BATCH)
    assert producer.calls == ALL_CALLS + ALL_CALLS[1:]


def test_a_batch_without_offsets_is_refused_before_any_call() -> None:
    producer = scripted()
    with pytest.raises(ValueError, match="no offsets"):
        commit_batch(producer_of(producer), Batch((), 0, {}, {}, b"", 1))
    assert producer.calls == []


STEPS = ["begin", "offsets", "commit"]


@pytest.mark.parametrize("step", STEPS)
def test_a_retriable_error_repeats_the_call(step: str) -> None:
    producer = ScriptedProducer({step: [RETRIABLE, RETRIABLE]})
    commit_batch(producer_of(producer), BATCH)
    assert producer.calls.count(step) == 3
    assert list(dict.fromkeys(producer.calls)) == list(dict.fromkeys(ALL_CALLS))
    assert producer.committed == [b"1", b"2", b"3"]


@pytest.mark.parametrize("step", STEPS)
def test_an_abortable_error_aborts(step: str) -> None:
    producer = ScriptedProducer({step: [ABORTABLE]})
    with pytest.raises(Aborted, match="TOPIC_AUTHORIZATION_FAILED"):
        commit_batch(producer_of(producer), BATCH)
    assert producer.calls[-2:] == [step, "abort"]
    assert producer.committed == []


@pytest.mark.parametrize("raised", [FATAL, UNMARKED], ids=["fatal", "other"])
@pytest.mark.parametrize("step", STEPS)
def test_any_other_error_is_fenced_without_an_abort(step: str, raised: Exception) -> None:
    producer = ScriptedProducer({step: [raised]})
    with pytest.raises(Fenced):
        commit_batch(producer_of(producer), BATCH)
    assert producer.calls[-1] == step


@pytest.mark.parametrize("step", STEPS)
def test_a_retriable_error_is_not_retried_forever(step: str) -> None:
    class AlwaysRetriable(ScriptedProducer):
        def _called(self, called: str) -> None:
            self.calls.append(called)
            if called == step:
                raise RETRIABLE

    started_at = time.monotonic()
    with pytest.raises(Fenced):
        commit_batch(producer_of(AlwaysRetriable(), timeout_s=0.05), BATCH)
    assert 0.05 <= time.monotonic() - started_at < 5


def test_stopping_ends_the_retries() -> None:
    class StoppedInCommit(ScriptedProducer):
        def commit_transaction(self, timeout: float) -> None:
            self.calls.append("commit")
            transactions.stop()
            raise RETRIABLE

    producer = StoppedInCommit()
    transactions = producer_of(producer)
    with pytest.raises(Fenced):
        commit_batch(transactions, BATCH)
    assert producer.calls == ALL_CALLS


def test_a_full_queue_is_polled_and_no_record_is_skipped() -> None:
    producer = scripted(produce=[BufferError(), BufferError()])
    commit_batch(producer_of(producer), BATCH)
    assert producer.calls[2:7] == ["produce", "poll", "produce", "poll", "produce"]
    assert producer.committed == [b"1", b"2", b"3"]


OUTCOMES = RecordColumns(
    ["t"] * 5, [b"1", b"2", b"3", b"4", b"5"], [b"k"] * 5, [0] * 5, headers=(("h", b"v"),)
)
COLUMNS = Batch(RECORDS[:1], 6, {P0: 10}, {P0: 16}, b"CGMDv2:group", 1, outcomes=OUTCOMES)


class FullAt(ScriptedProducer):
    """A producer whose queue is full at some calls of `produce`, from 1."""

    def __init__(self, *calls: int, fault: Exception | None = None) -> None:
        super().__init__()
        self._full_at = calls
        self._fault = fault or BufferError()
        self._produce_calls = 0

    def produce(self, *record: Any, **options: Any) -> None:
        self._produce_calls += 1
        if self._produce_calls in self._full_at:
            raise self._fault
        super().produce(*record, **options)


@pytest.mark.parametrize("full_at", [(), (1,), (3, 4), (5,), (2, 5, 6), (1, 2, 3, 8)])
def test_columns_are_produced_in_order_also_if_the_queue_is_full(full_at: tuple[int, ...]) -> None:
    producer = FullAt(*full_at)
    commit_batch(producer_of(producer), COLUMNS)
    assert producer.committed == [b"1", b"2", b"3", b"4", b"5", b"1"]
    assert producer.headers == [[("h", b"v")]] * 6


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_column_that_cannot_be_produced_completely_is_aborted(at: int) -> None:
    producer = FullAt(at, fault=ABORTABLE)
    with pytest.raises(Aborted):
        commit_batch(producer_of(producer), COLUMNS)
    assert (producer.committed, producer.calls[-1]) == ([], "abort")


@pytest.mark.parametrize("name", ["topics", "keys", "partitions"])
def test_columns_of_different_lengths_are_aborted(name: str) -> None:
    short = replace(OUTCOMES, **{name: getattr(OUTCOMES, name)[:4]})
    producer = scripted()
    with pytest.raises(Aborted, match="5 records for 6 inputs"):
        commit_batch(producer_of(producer), replace(COLUMNS, outcomes=short))
    assert producer.committed == []


def test_a_queue_that_stays_full_aborts() -> None:
    class Full(ScriptedProducer):
        def produce(self, *_: Any, **__: Any) -> None:
            self.calls.append("produce")
            raise BufferError

    producer = Full()
    with pytest.raises(Aborted, match="stayed full"):
        commit_batch(producer_of(producer, timeout_s=0.05), BATCH)
    assert producer.calls[-1] == "abort"


@pytest.mark.parametrize("inputs", [2, 4])
def test_a_batch_with_more_or_fewer_records_than_inputs_aborts(inputs: int) -> None:
    producer = scripted()
    with pytest.raises(Aborted, match=f"3 records for {inputs} inputs"):
        commit_batch(producer_of(producer), Batch(RECORDS, inputs, {P0: 10}, {P0: 13}, b"g", 1))
    assert (producer.committed, producer.calls[-1]) == ([], "abort")


def test_an_outcome_that_is_too_large_aborts_with_its_own_error() -> None:
    producer = scripted(produce=[TOO_LARGE])
    with pytest.raises(TooLargeError):
        commit_batch(producer_of(producer), BATCH)
    assert producer.calls[-1] == "abort"


@pytest.mark.parametrize(
    ("raised", "expected"), [(ABORTABLE, Aborted), (FATAL, Fenced), (UNMARKED, Fenced)]
)
def test_a_record_that_cannot_be_produced_is_not_skipped(
    raised: Exception, expected: type[Exception]
) -> None:
    producer = scripted(produce=[raised])
    with pytest.raises(expected):
        commit_batch(producer_of(producer), BATCH)
    assert producer.committed == []


@pytest.mark.parametrize("raised", [ABORTABLE, FATAL, UNMARKED], ids=["abort", "fatal", "other"])
def test_an_abort_that_fails_is_fenced(raised: Exception) -> None:
    producer = scripted(commit=[ABORTABLE], abort=[raised])
    with pytest.raises(Fenced):
        commit_batch(producer_of(producer), BATCH)


def test_an_abort_is_retried_like_every_step() -> None:
    producer = scripted(commit=[ABORTABLE], abort=[RETRIABLE])
    with pytest.raises(Aborted):
        commit_batch(producer_of(producer), BATCH)
    assert producer.calls[-2:] == ["abort", "abort"]


@pytest.mark.parametrize("faults", [{}, {"commit": [ABORTABLE]}, {"commit": [FATAL]}])
def test_opened_at_is_set_while_a_transaction_is_open(
    faults: dict[str, list[Exception]],
) -> None:
    opened_at: list[float | None] = []

    class Watched(ScriptedProducer):
        def _called(self, step: str) -> None:
            opened_at.append(transactions.opened_at)
            super()._called(step)

    transactions = producer_of(Watched(faults))
    with suppress(Aborted, Fenced):
        commit_batch(transactions, BATCH)
    assert None not in opened_at[1:]
    assert transactions.opened_at is None


def test_the_producer_waits_until_the_coordinator_answers() -> None:
    producer = scripted(init=[RETRIABLE, RETRIABLE, RETRIABLE])
    commit_batch(producer_of(producer), BATCH)
    assert producer.calls[:5] == ["init", "init", "init", "init", "begin"]


def test_a_producer_that_the_broker_refuses_is_fenced() -> None:
    with pytest.raises(Fenced, match="init_transactions"):
        commit_batch(producer_of(scripted(init=[FATAL])), BATCH)


def test_stopping_ends_the_wait_for_the_coordinator() -> None:
    was_called = threading.Event()

    class Unanswered(ScriptedProducer):
        def init_transactions(self, timeout: float) -> None:
            was_called.set()
            raise RETRIABLE

    transactions = producer_of(Unanswered())
    waiting = threading.Thread(target=transactions.take_over, daemon=True)
    waiting.start()
    assert was_called.wait(10)
    transactions.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    with pytest.raises(Fenced, match="stopped"):
        commit_batch(stopped_producer(), BATCH)


def stopped_producer() -> TransactionalProducer:
    transactions = producer_of(scripted())
    transactions.stop()
    return transactions


def test_closing_aborts_and_ignores_a_failed_abort() -> None:
    producer = scripted(abort=[FATAL])
    transactions = producer_of(producer)
    commit_batch(transactions, BATCH)
    transactions.close()
    transactions.close()
    assert producer.calls[-1] == "abort"


def committer_of(*producers: ScriptedProducer) -> tuple[FetchEpoch, Committer]:
    """A committer in epoch 1, with committed offset 10."""
    epochs = FetchEpoch()
    epochs.end()
    epochs.begin(1, {P0: 10})
    return epochs, Committer(epochs, producer_of(*producers))


def test_the_next_batch_continues_after_a_committed_one() -> None:
    producer = scripted()
    epochs, committer = committer_of(producer)
    committer.commit(BATCH)
    committer.commit(Batch(RECORDS, 3, {P0: 13}, {P0: 16}, b"g", 1))
    assert (len(producer.committed), epochs.number) == (6, 1)


def test_a_batch_of_an_old_epoch_reaches_no_producer() -> None:
    epochs, committer = committer_of()
    epochs.end()
    committer.commit(BATCH)


def test_a_gap_reaches_no_producer() -> None:
    _, committer = committer_of()
    with pytest.raises(Discrepancy):
        committer.commit(Batch(RECORDS, 3, {P0: 12}, {P0: 15}, b"g", 1))


@pytest.mark.parametrize("raised", [ABORTABLE, FATAL, UNMARKED], ids=["abort", "fatal", "other"])
def test_a_failed_batch_ends_the_epoch_and_later_batches_are_dropped(
    raised: Exception,
) -> None:
    first, second = scripted(commit=[raised]), scripted()
    epochs, committer = committer_of(first, second)
    committer.commit(BATCH)
    committer.commit(Batch(RECORDS, 3, {P0: 13}, {P0: 16}, b"g", 1))
    assert epochs.number == 2
    assert [*first.committed, *second.committed] == []


def test_after_a_fenced_batch_a_new_producer_starts_at_the_committed_offset() -> None:
    first, second = scripted(commit=[UNMARKED]), scripted()
    epochs, committer = committer_of(first, second)
    committer.commit(BATCH)
    epochs.begin(2, {P0: 13})  # the broker says that it was committed after all
    committer.commit(Batch(RECORDS, 3, {P0: 13}, {P0: 16}, b"g", 2))
    assert second.calls == ALL_CALLS
    assert second.offsets[0][0][0].offset == 16


def test_a_worker_that_is_fenced_too_often_in_a_row_stops() -> None:
    producers = [scripted(commit=[FATAL]) for _ in range(MAX_FENCED + 1)]
    epochs, committer = committer_of(*producers)

    def commit_fenced() -> None:
        epochs.begin(epochs.number, {P0: 10})
        committer.commit(Batch(RECORDS, 3, {P0: 10}, {P0: 13}, b"g", epochs.number))

    for _ in range(MAX_FENCED):
        commit_fenced()
    with pytest.raises(Fenced):
        commit_fenced()


def test_an_input_is_refused_as_too_large_only_if_it_is_alone_in_its_batch() -> None:
    too_large = TOO_LARGE
    _, committer = committer_of(scripted(produce=[too_large]))
    committer.commit(BATCH)
    assert (committer.too_large_inputs, committer.refused_at) == (3, None)
    _, committer = committer_of(scripted(produce=[too_large]))
    only_input = Coordinates("cj.requests.v1", 0, 10)
    committer.commit(Batch(RECORDS[:1], 1, {P0: 10}, {P0: 11}, b"g", 1, only_input=only_input))
    assert (committer.too_large_inputs, committer.refused_at) == (1, only_input)


def test_a_committed_batch_resets_the_number_of_too_large_inputs() -> None:
    producer = scripted(produce=[TOO_LARGE])
    epochs, committer = committer_of(producer)
    committer.commit(BATCH)
    epochs.begin(2, {P0: 10})
    committer.commit(Batch(RECORDS[:1], 1, {P0: 10}, {P0: 11}, b"g", 2))
    assert committer.too_large_inputs == 0
