"""SIGTERM while a worker is under load."""

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import Flow
from tests.faults.running import StartWorker


@pytest.mark.thorough
def test_sigterm_under_load_ends_in_time_and_loses_nothing(
    settings: Settings, start_worker: StartWorker
) -> None:
    with Progress(settings) as progress:
        with Flow(settings, 6_000, 800):
            worker = start_worker(batch_max=100, session_timeout_s=6)
            for _ in range(2):
                progress.wait_for_more(500)
                assert worker.stop(seconds=10) == 0
                worker.start()
        progress.wait_for_the_end(worker)
    assert "Traceback" not in worker.log_tail()
    all_have_one_outcome(settings)
