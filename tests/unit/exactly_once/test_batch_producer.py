"""One transaction a batch: which calls are made, and what becomes of every kind of error."""

import threading
import time
from contextlib import suppress
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.exactly_once.batch_producer import BatchProducer, TooLargeError
from processors.exactly_once.committer import MAX_FENCED, Committer
from processors.kafka.records import Record
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Aborted, Discrepancy, Fenced

P0 = Partition("cj.requests.v1", 0)
RECORDS = tuple(
    Record("cj.batches.v1", 0, b"k", value, headers=(("h", b"v"),)) for value in (b"1", b"2", b"3")
)
BATCH = Batch(RECORDS, 3, {P0: 10}, {P0: 13}, b"CGMDv2:group", 1)
WHOLE = ["init", "begin", "produce", "produce", "produce", "offsets", "commit"]


def fault(
    code: int = KafkaError._TRANSPORT,
    *,
    fatal: bool = False,
    retriable: bool = False,
    abort: bool = False,
) -> KafkaException:
    """An error as librdkafka marks it."""
    return KafkaException(KafkaError(code, "as said", fatal, retriable, abort))


AGAIN: Exception = fault(retriable=True)
ABORT: Exception = fault(KafkaError.INVALID_TXN_STATE, abort=True)
FATAL: Exception = fault(KafkaError._FENCED, fatal=True)
TIMED_OUT: Exception = fault(KafkaError._TIMED_OUT)


class ScriptedProducer:
    """Takes what a transactional producer takes, keeps what was committed, and fails where it is told to."""

    def __init__(self, faults: dict[str, list[Exception]] | None = None) -> None:
        self.calls: list[str] = []
        self.committed: list[bytes] = []
        self.offsets: list[tuple[list[TopicPartition], bytes]] = []
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
        self, topic: str, value: bytes, key: bytes, partition: int, *, headers: Any
    ) -> None:
        self._called("produce")
        self._open.append(value)

    def poll(self, timeout: float) -> int:
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


def outbox_of(*producers: ScriptedProducer, timeout_s: float = 10.0) -> BatchProducer:
    """An outbox that is given these producers, one after the other."""
    left = iter(producers)
    return BatchProducer(lambda: cast(Producer, next(left)), timeout_s=timeout_s)


def scripted(**faults: list[Exception]) -> ScriptedProducer:
    return ScriptedProducer(faults)


def test_a_batch_is_one_transaction() -> None:
    producer = scripted()
    outbox_of(producer).commit(BATCH)
    assert producer.calls == WHOLE
    assert producer.committed == [b"1", b"2", b"3"]


def test_the_offsets_go_with_the_group_metadata_of_the_fetch() -> None:
    producer = scripted()
    outbox_of(producer).commit(BATCH)
    ((offsets, group),) = producer.offsets
    assert [(at.topic, at.partition, at.offset) for at in offsets] == [("cj.requests.v1", 0, 13)]
    assert group == b"CGMDv2:group"


def test_the_second_batch_takes_the_same_producer() -> None:
    producer = scripted()
    outbox = outbox_of(producer)
    outbox.commit(BATCH)
    outbox.commit(BATCH)
    assert producer.calls == WHOLE + WHOLE[1:]


def test_a_batch_without_offsets_is_refused_before_anything_is_begun() -> None:
    producer = scripted()
    with pytest.raises(ValueError, match="not fenced"):
        outbox_of(producer).commit(Batch((), 0, {}, {}, b"", 1))
    assert producer.calls == []


STEPS = ["begin", "offsets", "commit"]


@pytest.mark.parametrize("step", STEPS)
def test_a_retriable_error_means_the_same_call_again(step: str) -> None:
    producer = ScriptedProducer({step: [AGAIN, AGAIN]})
    outbox_of(producer).commit(BATCH)
    assert producer.calls.count(step) == 3
    assert list(dict.fromkeys(producer.calls)) == list(dict.fromkeys(WHOLE))
    assert producer.committed == [b"1", b"2", b"3"]


@pytest.mark.parametrize("step", STEPS)
def test_an_abortable_error_means_abort(step: str) -> None:
    producer = ScriptedProducer({step: [ABORT]})
    with pytest.raises(Aborted, match="INVALID_TXN_STATE"):
        outbox_of(producer).commit(BATCH)
    assert producer.calls[-2:] == [step, "abort"]
    assert producer.committed == []


@pytest.mark.parametrize("raised", [FATAL, TIMED_OUT, fault()], ids=["fatal", "timed out", "other"])
@pytest.mark.parametrize("step", STEPS)
def test_anything_else_means_another_producer_and_no_abort(step: str, raised: Exception) -> None:
    producer = ScriptedProducer({step: [raised]})
    with pytest.raises(Fenced):
        outbox_of(producer).commit(BATCH)
    assert producer.calls[-1] == step


@pytest.mark.parametrize("step", STEPS)
def test_an_error_that_is_retriable_and_abortable_is_not_tried_again(step: str) -> None:
    producer = ScriptedProducer({step: [fault(retriable=True, abort=True)]})
    with pytest.raises(Aborted):
        outbox_of(producer).commit(BATCH)
    assert producer.calls.count(step) == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_fatal_error_is_fatal_whatever_else_it_is_marked(step: str) -> None:
    producer = ScriptedProducer({step: [fault(fatal=True, retriable=True, abort=True)]})
    with pytest.raises(Fenced):
        outbox_of(producer).commit(BATCH)
    assert "abort" not in producer.calls


@pytest.mark.parametrize("step", STEPS)
def test_a_retriable_error_is_not_tried_for_ever(step: str) -> None:
    class Endless(ScriptedProducer):
        def _called(self, called: str) -> None:
            self.calls.append(called)
            if called == step:
                raise AGAIN

    begun = time.monotonic()
    with pytest.raises(Fenced):
        outbox_of(Endless(), timeout_s=0.05).commit(BATCH)
    assert 0.05 <= time.monotonic() - begun < 5


def test_stopping_ends_the_tries() -> None:
    class Stopped(ScriptedProducer):
        def commit_transaction(self, timeout: float) -> None:
            self.calls.append("commit")
            outbox.stop()
            raise AGAIN

    producer = Stopped()
    outbox = outbox_of(producer)
    with pytest.raises(Fenced):
        outbox.commit(BATCH)
    assert producer.calls == WHOLE


def test_a_full_queue_is_emptied_and_no_record_is_skipped() -> None:
    producer = scripted(produce=[BufferError(), BufferError()])
    outbox_of(producer).commit(BATCH)
    assert producer.calls[2:7] == ["produce", "poll", "produce", "poll", "produce"]
    assert producer.committed == [b"1", b"2", b"3"]


def test_a_queue_that_stays_full_aborts() -> None:
    class Full(ScriptedProducer):
        def produce(self, *_: Any, **__: Any) -> None:
            self.calls.append("produce")
            raise BufferError

    producer = Full()
    with pytest.raises(Aborted, match="stayed full"):
        outbox_of(producer, timeout_s=0.05).commit(BATCH)
    assert producer.calls[-1] == "abort"


@pytest.mark.parametrize("requests", [2, 4])
def test_records_that_are_not_as_many_as_requests_abort(requests: int) -> None:
    producer = scripted()
    with pytest.raises(Aborted, match=f"3 records for {requests} requests"):
        outbox_of(producer).commit(Batch(RECORDS, requests, {P0: 10}, {P0: 13}, b"g", 1))
    assert (producer.committed, producer.calls[-1]) == ([], "abort")


def test_an_outcome_that_is_too_large_aborts_and_says_so() -> None:
    producer = scripted(produce=[fault(KafkaError.MSG_SIZE_TOO_LARGE)])
    with pytest.raises(TooLargeError):
        outbox_of(producer).commit(BATCH)
    assert producer.calls[-1] == "abort"


@pytest.mark.parametrize(
    ("raised", "becomes"), [(ABORT, Aborted), (FATAL, Fenced), (fault(), Fenced)]
)
def test_a_record_that_cannot_be_produced_is_never_skipped(
    raised: Exception, becomes: type[Exception]
) -> None:
    producer = scripted(produce=[raised])
    with pytest.raises(becomes):
        outbox_of(producer).commit(BATCH)
    assert producer.committed == []


@pytest.mark.parametrize("raised", [ABORT, FATAL, TIMED_OUT], ids=["abort", "fatal", "timed out"])
def test_an_abort_that_fails_means_another_producer(raised: Exception) -> None:
    producer = scripted(commit=[ABORT], abort=[raised])
    with pytest.raises(Fenced):
        outbox_of(producer).commit(BATCH)


def test_an_abort_is_tried_again_like_any_step() -> None:
    producer = scripted(commit=[ABORT], abort=[AGAIN])
    with pytest.raises(Aborted):
        outbox_of(producer).commit(BATCH)
    assert producer.calls[-2:] == ["abort", "abort"]


@pytest.mark.parametrize("faults", [{}, {"commit": [ABORT]}, {"commit": [FATAL]}])
def test_the_watchdog_sees_a_transaction_for_as_long_as_it_is_open(
    faults: dict[str, list[Exception]],
) -> None:
    seen: list[float | None] = []

    class Watched(ScriptedProducer):
        def _called(self, step: str) -> None:
            seen.append(outbox.opened_at)
            super()._called(step)

    outbox = outbox_of(Watched(faults))
    with suppress(Aborted, Fenced):
        outbox.commit(BATCH)
    assert None not in seen[1:]
    assert outbox.opened_at is None


def test_waiting_for_the_coordinator_goes_on_until_it_answers() -> None:
    producer = scripted(init=[AGAIN, AGAIN, AGAIN])
    outbox_of(producer).commit(BATCH)
    assert producer.calls[:5] == ["init", "init", "init", "init", "begin"]


def test_a_producer_that_cannot_be_had_is_fenced() -> None:
    with pytest.raises(Fenced, match="init_transactions"):
        outbox_of(scripted(init=[FATAL])).commit(BATCH)


def test_stopping_ends_the_wait_for_the_coordinator() -> None:
    asked = threading.Event()

    class Away(ScriptedProducer):
        def init_transactions(self, timeout: float) -> None:
            asked.set()
            raise AGAIN

    outbox = outbox_of(Away())
    waiting = threading.Thread(target=outbox.recreate, daemon=True)
    waiting.start()
    assert asked.wait(10)
    outbox.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    with pytest.raises(Fenced, match="stopped"):
        outbox_of_stopped().commit(BATCH)


def outbox_of_stopped() -> BatchProducer:
    outbox = outbox_of(scripted())
    outbox.stop()
    return outbox


def test_closing_aborts_what_is_open_and_forgives() -> None:
    producer = scripted(abort=[FATAL])
    outbox = outbox_of(producer)
    outbox.commit(BATCH)
    outbox.close()
    outbox.close()
    assert producer.calls[-1] == "abort"


def committer_of(*producers: ScriptedProducer) -> tuple[AssignmentEpoch, Committer]:
    """A committer in epoch 1, after offset 10."""
    ownership = AssignmentEpoch()
    ownership.end()
    ownership.begin(1, {P0: 10})
    return ownership, Committer(ownership, outbox_of(*producers))


def test_a_committed_batch_moves_on() -> None:
    producer = scripted()
    ownership, committer = committer_of(producer)
    committer.commit(BATCH)
    committer.commit(Batch(RECORDS, 3, {P0: 13}, {P0: 16}, b"g", 1))
    assert (len(producer.committed), ownership.number) == (6, 1)


def test_a_batch_of_an_old_epoch_reaches_no_producer() -> None:
    ownership, committer = committer_of()
    ownership.end()
    committer.commit(BATCH)


def test_a_gap_reaches_no_producer() -> None:
    _, committer = committer_of()
    with pytest.raises(Discrepancy):
        committer.commit(Batch(RECORDS, 3, {P0: 12}, {P0: 15}, b"g", 1))


@pytest.mark.parametrize("raised", [ABORT, FATAL, TIMED_OUT], ids=["abort", "fatal", "timed out"])
def test_a_batch_that_failed_ends_the_epoch_so_that_all_prepared_ones_are_dropped(
    raised: Exception,
) -> None:
    first, second = scripted(commit=[raised]), scripted()
    ownership, committer = committer_of(first, second)
    committer.commit(BATCH)
    committer.commit(Batch(RECORDS, 3, {P0: 13}, {P0: 16}, b"g", 1))
    assert ownership.number == 2
    assert [*first.committed, *second.committed] == []


def test_a_fenced_batch_gets_a_new_producer_and_is_not_replayed_from_memory() -> None:
    first, second = scripted(commit=[TIMED_OUT]), scripted()
    ownership, committer = committer_of(first, second)
    committer.commit(BATCH)
    ownership.begin(2, {P0: 13})  # the broker's word: it was committed after all
    committer.commit(Batch(RECORDS, 3, {P0: 13}, {P0: 16}, b"g", 2))
    assert second.calls == WHOLE
    assert second.offsets[0][0][0].offset == 16


def test_a_worker_that_is_fenced_again_and_again_gives_up() -> None:
    producers = [scripted(commit=[FATAL]) for _ in range(MAX_FENCED + 1)]
    ownership, committer = committer_of(*producers)

    def fenced_again() -> None:
        ownership.begin(ownership.number, {P0: 10})
        committer.commit(Batch(RECORDS, 3, {P0: 10}, {P0: 13}, b"g", ownership.number))

    for _ in range(MAX_FENCED):
        fenced_again()
    with pytest.raises(Fenced):
        fenced_again()


def test_only_a_lone_request_that_is_too_large_is_told_to_be_it() -> None:
    too_large = fault(KafkaError.MSG_SIZE_TOO_LARGE)
    _, committer = committer_of(scripted(produce=[too_large]))
    committer.commit(BATCH)
    assert (committer.too_large, committer.refused_at) == (3, None)
    _, committer = committer_of(scripted(produce=[too_large]))
    alone = Coordinates("cj.requests.v1", 0, 10)
    committer.commit(Batch(RECORDS[:1], 1, {P0: 10}, {P0: 11}, b"g", 1, only_input=alone))
    assert (committer.too_large, committer.refused_at) == (1, alone)


def test_after_a_batch_that_went_through_batches_are_whole_again() -> None:
    producer = scripted(produce=[fault(KafkaError.MSG_SIZE_TOO_LARGE)])
    ownership, committer = committer_of(producer)
    committer.commit(BATCH)
    ownership.begin(2, {P0: 10})
    committer.commit(Batch(RECORDS[:1], 1, {P0: 10}, {P0: 11}, b"g", 2))
    assert committer.too_large == 0
