"""A worker is killed at random moments and started again each time."""

import random

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import Flow, a_request, append, assignment, record_of, send
from tests.faults.running import StartWorker
from tests.faults.seeds import SEEDS

REQUESTS = 20_000
RATE = 1200
KILLS = 5


@pytest.mark.thorough
@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_moments_lose_and_double_nothing(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    dice = random.Random(seed)
    with Progress(settings) as progress:
        with Flow(settings, REQUESTS, RATE):
            worker = start_worker(batch_max=200, session_timeout_s=6)
            for _ in range(KILLS):
                if (
                    dice.random() < 0.8
                ):  # while it prepares batches; otherwise at any moment, start-up included
                    progress.wait_for_more()
                pause(dice.uniform(0, 1))
                assert worker.is_alive
                worker.kill()
                worker.start()
        progress.wait_for_the_end(worker)
        worker.wait_until_it_runs()
    assert worker.stop() == 0
    found = all_have_one_outcome(settings)
    print(f"seed {seed}: {KILLS} kills, {found}")  # noqa: T201


@pytest.mark.long
def test_an_open_transaction_of_a_killed_worker_does_not_block_the_next_start(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *(event for number in range(20) for event in assignment(f"a{number}")))
    append(settings, (record_of(settings, a_request(number)) for number in range(8_000)))
    with Progress(settings) as progress:
        worker = start_worker(batch_max=200, session_timeout_s=6, transaction_timeout_s=60)
        for delay_s in (0.1, 0.25, 0.4):
            worker.wait_until_it_runs()
            progress.wait_for_more(seconds=15)
            pause(delay_s)
            worker.kill()
            worker.start()
        worker.wait_until_it_runs()
        progress.wait_for_the_end(worker, seconds=40)
    all_have_one_outcome(settings)
