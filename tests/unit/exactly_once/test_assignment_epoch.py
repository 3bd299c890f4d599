"""Which prepared batches may still be committed: those of this epoch that join up."""

import threading
from collections.abc import Callable

import pytest

from processors.exactly_once.assignment_epoch import AssignmentEpoch
from schemas.coordinates import Partition
from schemas.errors import Discrepancy

P0, P1 = Partition("cj.requests.v1", 0), Partition("cj.requests.v1", 1)
PATIENCE_S = 10


def settled() -> AssignmentEpoch:
    """Fetching in epoch 1, from offset 10 of one partition and 0 of the other."""
    ownership = AssignmentEpoch()
    ownership.end()
    ownership.begin(1, {P0: 10, P1: 0})
    return ownership


def commits(ownership: AssignmentEpoch, epoch: int, start: int, end: int) -> bool:
    with ownership.transaction(epoch, {P0: start}, {P0: end}) as mine:
        return mine


def in_thread(step: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def test_batches_that_join_up_may_be_committed() -> None:
    ownership = settled()
    assert commits(ownership, 1, 10, 15)
    assert commits(ownership, 1, 15, 16)


@pytest.mark.parametrize("start", [9, 11, 14, 16])
def test_a_batch_that_does_not_start_where_the_last_one_ended_is_a_discrepancy(start: int) -> None:
    ownership = settled()
    commits(ownership, 1, 10, 15)
    with pytest.raises(Discrepancy, match=f"/0 starts at {start}, the last one ended at 15"):
        commits(ownership, 1, start, 20)


def test_the_first_batch_starts_where_the_committed_offsets_are() -> None:
    with pytest.raises(Discrepancy, match="starts at 0, the last one ended at 10"):
        commits(settled(), 1, 0, 5)


def test_a_partition_that_was_never_settled_is_a_discrepancy() -> None:
    ownership = settled()
    with (
        pytest.raises(Discrepancy, match="ended at None"),
        ownership.transaction(1, {Partition("cj.requests.v1", 9): 0}, {}),
    ):
        pass


def test_one_partition_that_does_not_join_up_refuses_the_whole_batch() -> None:
    ownership = settled()
    with (
        pytest.raises(Discrepancy),
        ownership.transaction(1, {P0: 10, P1: 3}, {P0: 11, P1: 4}),
    ):
        pass
    assert commits(ownership, 1, 10, 11)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_batch_of_another_epoch_is_dropped(epoch: int) -> None:
    assert not commits(settled(), epoch, 10, 15)


def test_a_dropped_batch_moves_nothing() -> None:
    ownership = settled()
    commits(ownership, 0, 10, 15)
    assert commits(ownership, 1, 10, 12)


def test_an_epoch_that_ended_takes_its_batches_with_it() -> None:
    ownership = settled()
    ownership.end()
    ownership.begin(2, {P0: 10})
    assert not commits(ownership, 1, 10, 15)
    assert commits(ownership, 2, 10, 15)


def test_positions_of_an_epoch_that_has_ended_are_not_taken() -> None:
    ownership = settled()
    ownership.end()
    ownership.begin(1, {P0: 10})
    with pytest.raises(Discrepancy, match="ended at None"):
        commits(ownership, 2, 10, 15)


def test_a_transaction_that_failed_moves_nothing() -> None:
    ownership = settled()
    with (
        pytest.raises(RuntimeError),
        ownership.transaction(1, {P0: 10}, {P0: 15}),
    ):
        raise RuntimeError
    assert commits(ownership, 1, 10, 15)


def test_a_transaction_that_ended_the_epoch_moves_nothing() -> None:
    ownership = settled()
    with ownership.transaction(1, {P0: 10}, {P0: 15}) as mine:
        assert mine
        ownership.end()
        ownership.begin(2, {P0: 10})
    assert commits(ownership, 2, 10, 15)


def test_revocation_waits_for_the_open_transaction_and_drops_what_comes_after() -> None:
    ownership = settled()
    opened, may_end, revoked = threading.Event(), threading.Event(), threading.Event()
    seen: list[str] = []

    def commit() -> None:
        with ownership.transaction(1, {P0: 10}, {P0: 15}) as mine:
            opened.set()
            may_end.wait(PATIENCE_S)
            seen.append(f"committed: {mine}, epoch {ownership.number}")

    def revoke() -> None:
        opened.wait(PATIENCE_S)
        ownership.end()
        seen.append("revoked")
        revoked.set()

    committing, revoking = in_thread(commit), in_thread(revoke)
    assert opened.wait(PATIENCE_S)
    assert not revoked.wait(0.1)
    may_end.set()
    committing.join(PATIENCE_S)
    revoking.join(PATIENCE_S)
    assert seen == ["committed: True, epoch 1", "revoked"]
    assert not commits(ownership, 1, 15, 16)
