"""The estimate of a run's cost against what whole simulated runs cost."""

import pytest

from schemas.judging_events import JudgingOpened
from tests.support.simulated_runs import run_of, texts_of
from tools.runner.estimate import estimate_of
from tools.runner.judged_run import judged_run

ANCHORS = 6
COVERED_MIN = 0.9


def is_covered(seed: int) -> bool:
    """Whether the estimate before a run is at least what the run cost; runs have 20 to 33 items."""
    essays = 14 + seed % 14
    opened = (collected := run_of(essays, ANCHORS, seed)).judging[0].event
    assert isinstance(opened, JudgingOpened)
    texts = {one["storage_id"]: text for one, text in texts_of(essays, ANCHORS, seed)}
    estimated = estimate_of(opened, texts.__getitem__).cost_pusd
    run = judged_run(collected).run
    assert run is not None
    assert estimated is not None
    assert run.ledger.spent_pusd > 0
    return estimated >= run.ledger.spent_pusd


def test_the_estimate_covers_the_cost_of_runs() -> None:
    assert sum(map(is_covered, range(4))) == 4


@pytest.mark.thorough
@pytest.mark.timeout(1200)
def test_the_estimate_covers_the_cost_in_nine_of_ten_of_50_runs() -> None:
    assert sum(map(is_covered, range(100, 150))) >= 50 * COVERED_MIN
