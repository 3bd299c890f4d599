"""A worker that is killed at random moments, and started again each time."""

import random

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import Flow
from tests.faults.running import StartWorker
from tests.faults.seeds import SEEDS

REQUESTS = 20_000
RATE = 1500


@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_moments_lose_and_double_nothing(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    dice = random.Random(seed)
    kills = 0
    with Progress(settings) as progress, Flow(settings, REQUESTS, RATE) as flow:
        worker = start_worker(batch_max=200, session_timeout_s=6)
        while not flow.is_over:
            if dice.random() < 0.8:  # in full swing; otherwise wherever it is
                progress.wait_for_more()
            pause(dice.uniform(0, 1))
            assert worker.is_alive
            worker.kill()
            kills += 1
            worker.start()
        progress.wait_for_the_end()
        worker.wait_until_it_runs()
    assert worker.stop() == 0
    found = all_have_one_outcome(settings)
    print(f"seed {seed}: {kills} kills, {found}")  # noqa: T201
