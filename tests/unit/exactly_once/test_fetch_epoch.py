"""Which prepared batches may still be committed: contiguous ones of the current epoch."""

import threading
from collections.abc import Callable

import pytest

from processors.exactly_once.fetch_epoch import FetchEpoch
from schemas.coordinates import Partition
from schemas.errors import Discrepancy

P0, P1 = Partition("cj.requests.v1", 0), Partition("cj.requests.v1", 1)
PATIENCE_S = 10


def epoch_one() -> FetchEpoch:
    """Epoch 1, begun at offset 10 of one partition and 0 of the other."""
    epochs = FetchEpoch()
    epochs.end()
    epochs.begin(1, {P0: 10, P1: 0})
    return epochs


def may_commit(epochs: FetchEpoch, epoch: int, start: int, end: int) -> bool:
    with epochs.transaction(epoch, {P0: start}, {P0: end}) as is_current:
        return is_current


def in_thread(step: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def test_contiguous_batches_may_be_committed() -> None:
    epochs = epoch_one()
    assert may_commit(epochs, 1, 10, 15)
    assert may_commit(epochs, 1, 15, 16)


@pytest.mark.parametrize("start", [9, 11, 14, 16])
def test_a_batch_that_does_not_start_at_the_end_of_the_previous_one_is_a_discrepancy(
    start: int,
) -> None:
    epochs = epoch_one()
    may_commit(epochs, 1, 10, 15)
    with pytest.raises(
        Discrepancy, match=f"/0 starts at {start}, but the previous one ended at 15"
    ):
        may_commit(epochs, 1, start, 20)


def test_the_first_batch_must_start_at_the_committed_offsets() -> None:
    with pytest.raises(Discrepancy, match="starts at 0, but the previous one ended at 10"):
        may_commit(epoch_one(), 1, 0, 5)


def test_a_partition_without_a_committed_offset_is_a_discrepancy() -> None:
    epochs = epoch_one()
    with (
        pytest.raises(Discrepancy, match="ended at None"),
        epochs.transaction(1, {Partition("cj.requests.v1", 9): 0}, {}),
    ):
        pass


def test_one_partition_with_a_gap_refuses_the_whole_batch() -> None:
    epochs = epoch_one()
    with (
        pytest.raises(Discrepancy),
        epochs.transaction(1, {P0: 10, P1: 3}, {P0: 11, P1: 4}),
    ):
        pass
    assert may_commit(epochs, 1, 10, 11)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_batch_of_another_epoch_is_dropped(epoch: int) -> None:
    assert not may_commit(epoch_one(), epoch, 10, 15)


def test_a_dropped_batch_changes_no_position() -> None:
    epochs = epoch_one()
    may_commit(epochs, 0, 10, 15)
    assert may_commit(epochs, 1, 10, 12)


def test_batches_of_an_ended_epoch_are_dropped() -> None:
    epochs = epoch_one()
    epochs.end()
    epochs.begin(2, {P0: 10})
    assert not may_commit(epochs, 1, 10, 15)
    assert may_commit(epochs, 2, 10, 15)


def test_committed_offsets_of_an_ended_epoch_are_ignored() -> None:
    epochs = epoch_one()
    epochs.end()
    epochs.begin(1, {P0: 10})
    with pytest.raises(Discrepancy, match="ended at None"):
        may_commit(epochs, 2, 10, 15)


def test_a_failed_transaction_changes_no_position() -> None:
    epochs = epoch_one()
    with (
        pytest.raises(RuntimeError),
        epochs.transaction(1, {P0: 10}, {P0: 15}),
    ):
        raise RuntimeError
    assert may_commit(epochs, 1, 10, 15)


def test_a_transaction_that_ends_the_epoch_changes_no_position() -> None:
    epochs = epoch_one()
    with epochs.transaction(1, {P0: 10}, {P0: 15}) as is_current:
        assert is_current
        epochs.end()
        epochs.begin(2, {P0: 10})
    assert may_commit(epochs, 2, 10, 15)


def test_revocation_waits_for_the_open_transaction_and_drops_later_batches() -> None:
    epochs = epoch_one()
    opened, may_end, revoked = threading.Event(), threading.Event(), threading.Event()
    events: list[str] = []

    def commit() -> None:
        with epochs.transaction(1, {P0: 10}, {P0: 15}) as is_current:
            opened.set()
            may_end.wait(PATIENCE_S)
            events.append(f"committed: {is_current}, epoch {epochs.number}")

    def revoke() -> None:
        opened.wait(PATIENCE_S)
        epochs.end()
        events.append("revoked")
        revoked.set()

    committing, revoking = in_thread(commit), in_thread(revoke)
    assert opened.wait(PATIENCE_S)
    assert not revoked.wait(0.1)
    may_end.set()
    committing.join(PATIENCE_S)
    revoking.join(PATIENCE_S)
    assert events == ["committed: True, epoch 1", "revoked"]
    assert not may_commit(epochs, 1, 15, 16)
