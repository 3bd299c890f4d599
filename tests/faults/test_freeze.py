"""One of two workers is frozen with batches in flight, and thawed after the other has taken over.

Here it is frozen past its session and transaction timeouts; `test_points.py` freezes past the session timeout only.
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
def test_a_worker_thawed_after_its_session_and_transaction_timeouts_doubles_nothing(
    settings: Settings, start_worker: StartWorker, seed: int
) -> None:
    dice = random.Random(seed)
    overrides = {"batch_max": 50, "session_timeout_s": 6, "transaction_timeout_s": 4}
    with Progress(settings) as progress:
        with Flow(settings, 8_000, 400):
            frozen, other = start_worker("frozen", **overrides), start_worker("other", **overrides)
            progress.wait_for_more(500)
            pause(dice.uniform(0, 0.5))
            frozen.freeze()
            pause(FROZEN_S)
            frozen.thaw()
        progress.wait_for_the_end(frozen, other, seconds=90)
    found = all_have_one_outcome(settings)
    print(f"seed {seed}: {found}")  # noqa: T201
