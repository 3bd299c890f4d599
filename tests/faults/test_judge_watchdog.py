"""If a part of a judge stalls, the judge names it in one line and ends."""

from pathlib import Path

import pytest

from processors.settings import Settings
from tests.faults.running import Process
from tests.faults.stalled_judge import COMMAND
from tests.support.judged_batches import append_batches

pytestmark = pytest.mark.timeout(300)


def log_of_stalled_judge(settings: Settings, tmp_path: Path, part: str) -> str:
    """The log of a judge that must end by itself with exit code 1."""
    own = settings.model_copy(
        update={"judge": "simulated/sim-1", "judge_first_start": "beginning", "slot": "one"}
    )
    judge = Process(own, tmp_path / "judge.log", (*COMMAND, part))
    judge.start()
    try:
        assert judge.wait_for_exit(180) == 1, judge.log_tail()
    finally:
        judge.end()
    return judge.log_tail(500)


@pytest.mark.thorough
def test_a_judge_whose_cycle_hangs_ends_and_leaves_the_stacks_of_its_threads(
    settings: Settings, tmp_path: Path
) -> None:
    log = log_of_stalled_judge(settings, tmp_path, "cycle")
    assert "judge is stalled: it ends" in log
    assert "stuck_in_the_content_store" in log  # in the stack of the thread that hangs


@pytest.mark.thorough
def test_a_judge_that_is_no_member_of_its_group_ends_although_it_owns_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    append_batches(settings, 4)
    log = log_of_stalled_judge(settings, tmp_path, "member")
    assert "cjstream: the judge owns no partition, and makes no progress at " in log
