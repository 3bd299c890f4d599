"""Two workers, one frozen with batches in flight until the other has taken over, then thawed."""

import random

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome, pause
from tests.faults.load import Flow
from tests.faults.running import StartWorker
from tests.faults.seeds import SEEDS

SESSION_S = 6


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("frozen_s", "transaction_timeout_s"),
    [(SESSION_S + 3, 40), (SESSION_S + 6, 4)],
    ids=["past its session", "past its transaction, too"],
)
def test_a_thawed_worker_doubles_nothing(
    settings: Settings,
    start_worker: StartWorker,
    seed: int,
    frozen_s: int,
    transaction_timeout_s: int,
) -> None:
    dice = random.Random(seed)
    knobs = {
        "batch_max": 100,
        "session_timeout_s": SESSION_S,
        "transaction_timeout_s": transaction_timeout_s,
    }
    with Progress(settings) as progress:
        with Flow(settings, 18_000, 800) as flow:
            frozen, other = start_worker("frozen", **knobs), start_worker("other", **knobs)
            progress.wait_for_more(500)
            pause(dice.uniform(0, 0.5))
            frozen.freeze()
            pause(frozen_s)
            frozen.thaw()
            assert not flow.is_over, "thawed too late to do harm"
        progress.wait_for_the_end(frozen, other, seconds=90)
    found = all_have_one_outcome(settings)
    print(f"seed {seed}: {found}")  # noqa: T201
