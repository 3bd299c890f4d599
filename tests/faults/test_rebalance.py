"""Partitions that move while batches are under way, in either group."""

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
def test_a_worker_that_comes_and_goes_disturbs_nothing(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    dice = random.Random(seed)
    with Progress(settings) as progress:
        with Flow(settings, 9_000, 350):
            steady = start_worker("steady", batch_max=50, session_timeout_s=6)
            guest = start_worker("", batch_max=50, session_timeout_s=6)  # without a slot it leaves
            for number in range(JOINS):
                guest.wait_until_it_runs()
                if number % 2:  # every other guest leaves while it joins, and moves no partitions
                    until(lambda: steady.said('"partitions revoked"') >= (number + 1) // 2)  # noqa: B023
                progress.wait_for_more(50)
                pause(dice.uniform(0, 1.5))
                assert guest.stop() == 0
                guest.start()
        progress.wait_for_the_end(steady, guest)
        assert steady.said('"partitions revoked"') >= JOINS // 2
    print(f"seed {seed}: {JOINS} joins, {all_have_one_outcome(settings)}")  # noqa: T201


@pytest.mark.long
def test_batches_outlive_a_rebalance_of_the_folds_group(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *(event for number in range(20) for event in assignment(f"a{number}")))
    append(settings, (record_of(settings, a_request(number)) for number in range(20_000)))
    with Progress(settings) as progress:
        worker = start_worker(batch_max=10, session_timeout_s=6)  # the lane is always full
        worker.wait_until_it_runs()
        for _ in range(2):
            other = start_worker("", command=FOLD_ONLY, session_timeout_s=6)
            until(lambda: members_of(settings, settings.fold_group) == 2)
            progress.wait_for_more(20)
            other.stop()
            until(lambda: members_of(settings, settings.fold_group) == 1)
            progress.wait_for_more(20)
        assert not progress.is_complete(), "done before the rebalances were"
        progress.wait_for_the_end(worker, seconds=120)
    all_have_one_outcome(settings)


def test_a_dead_member_of_the_folds_group_holds_no_batch_back(
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
    assert members_of(settings, settings.fold_group) == 2, "the dead one is gone: too late to tell"
    all_have_one_outcome(settings)
