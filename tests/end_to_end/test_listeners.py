"""A broker whose advertised.listeners is wrong: every command names it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.faults.running import Process
from tests.support.run_command import ROOT, run_json
from tools.broker import Broker, free_port

pytestmark = pytest.mark.thorough
ELSEWHERE = f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    properties = {"advertised.listeners": f"PLAINTEXT://{ELSEWHERE}"}
    with Broker.temporary(ROOT / ".cjstream", properties) as broker:
        data_dir = tmp_path_factory.mktemp("data")
        yield Settings(bootstrap_servers=broker.bootstrap, data_dir=data_dir)


@pytest.mark.parametrize(
    "command", ["doctor", "topics list", "audit verify", "requests reset-offsets", "parked list"]
)
def test_a_command_names_the_listeners(settings: Settings, command: str) -> None:
    exit_code, problem, message = run_json(settings, *command.split())
    assert exit_code == 4
    assert f"tells its clients to use {ELSEWHERE}, where nothing answers" in problem["detail"]
    assert "advertised.listeners" in message


def test_a_worker_names_the_listeners(settings: Settings, tmp_path: Path) -> None:
    worker = Process(settings, tmp_path / "worker.log")
    worker.start()
    try:
        assert worker.wait_for_exit(120) == 4, worker.log_tail()
        (line,) = [one for one in worker.log_tail(1000).splitlines() if one[:1] != "{"]
        assert f"tells its clients to use {ELSEWHERE}, where nothing answers" in line
    finally:
        worker.end()
