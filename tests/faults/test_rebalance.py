"""Rebalances of either group while batches are prepared."""

import random

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, members_of, pause
from tests.faults.load import Flow, a_request, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.faults.seeds import SEEDS
from tests.support.until import until

FOLD_ONLY = ("-m", "tests.faults.fold_only")
JOINS = 4


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS[:1])
def test_a_worker_that_joins_and_leaves_loses_and_doubles_nothing(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    dice = random.Random(seed)
    with Progress(settings) as progress:
        with Flow(settings, 9_000, 350):
            steady = start_worker("steady", batch_max=50, session_timeout_s=6)
            # without a slot, the worker leaves the group when it stops
            leaving = start_worker("", batch_max=50, session_timeout_s=6)
            for number in range(JOINS):
                leaving.wait_until_it_runs()
                if number % 2:  # otherwise it may stop while it joins, and no partition moves
                    until(lambda: steady.log_count('"partitions revoked"') >= (number + 1) // 2)  # noqa: B023
                progress.wait_for_more(50)
                pause(dice.uniform(0, 1.5))
                assert leaving.stop() == 0
                leaving.start()
        progress.wait_for_the_end(steady, leaving)
        assert steady.log_count('"partitions revoked"') >= JOINS // 2
    print(f"seed {seed}: {JOINS} joins, {all_have_one_outcome(settings)}")  # noqa: T201


@pytest.mark.long
def test_batches_continue_after_a_rebalance_of_the_fold_group(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *(event for number in range(20) for event in assignment(f"a{number}")))
    append(settings, (record_of(settings, a_request(number)) for number in range(20_000)))
    with Progress(settings) as progress:
        worker = start_worker(
            batch_max=10, session_timeout_s=6
        )  # the bounded channel is always full
        worker.wait_until_it_runs()
        for _ in range(2):
            other = start_worker("", command=FOLD_ONLY, session_timeout_s=6)
            until(lambda: members_of(settings, settings.fold_group) == 2)
            progress.wait_for_more(20)
            other.stop()
            until(lambda: members_of(settings, settings.fold_group) == 1)
            progress.wait_for_more(20)
        assert not progress.is_complete(), "every batch was done before the last rebalance"
        progress.wait_for_the_end(worker, seconds=120)
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_a_dead_member_of_the_fold_group_delays_no_batch(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    dead = start_worker("", command=FOLD_ONLY, session_timeout_s=40)
    until(lambda: members_of(settings, settings.fold_group) == 1)
    dead.kill()
    append(settings, (record_of(settings, a_request(number)) for number in range(100)))
    with Progress(settings) as progress:
        worker = start_worker(session_timeout_s=6)
        worker.wait_until_it_runs()
        progress.wait_for_the_end(worker, seconds=15)
    assert members_of(settings, settings.fold_group) == 2, (
        "the dead member has left: the test proves nothing"
    )
    all_have_one_outcome(settings)
