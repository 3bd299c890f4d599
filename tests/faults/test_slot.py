"""A member keeps its slot when its broker was away, also where the client library says that another process has it."""

from pathlib import Path

import pytest

from tests.faults.asking import pause
from tests.faults.load import send
from tests.faults.test_fencing import member
from tests.support.builders import requested
from tests.support.installations import installation
from tests.support.run_command import ROOT
from tests.support.until import until
from tools.broker import Broker

SESSION_S = 6


@pytest.mark.thorough
def test_a_member_joins_again_if_its_broker_was_away_for_longer_than_its_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker.temporary(ROOT / ".cjstream") as broker:
        settings = installation(broker, tmp_path, slot="one", session_timeout_s=SESSION_S)
        send(settings, requested())
        with member(settings, "one") as only:
            until(only.fetch, 30)
            broker.stop()
            pause(SESSION_S + 1)  # as a thread that waits for a commit, it does not poll
            broker.start()
            pause(3)  # heartbeats
            send(settings, requested())
            until(only.fetch, 60)
    assert "its slot is taken" in caplog.text
