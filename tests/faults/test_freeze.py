"""Two workers, one frozen with batches in flight until the other has taken over, then thawed.

Frozen past its session alone: `test_points.py`.
"""

import random

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import Flow
from tests.faults.running import StartWorker
from tests.faults.seeds import SEEDS

FROZEN_S = 12


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_thawed_past_its_session_and_its_transaction_doubles_nothing(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    dice = random.Random(seed)
    knobs = {"batch_max": 50, "session_timeout_s": 6, "transaction_timeout_s": 4}
    with Progress(settings) as progress:
        with Flow(settings, 8_000, 400) as flow:
            frozen, other = start_worker("frozen", **knobs), start_worker("other", **knobs)
            progress.wait_for_more(500)
            pause(dice.uniform(0, 0.5))
            frozen.freeze()
            pause(FROZEN_S)
            frozen.thaw()
            assert not flow.is_over, "thawed too late to do harm"
        progress.wait_for_the_end(frozen, other, seconds=90)
    found = all_have_one_outcome(settings)
    print(f"seed {seed}: {found}")  # noqa: T201
