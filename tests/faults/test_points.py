"""A worker is killed or frozen at named points of its transactions."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, check_until_correct
from tests.faults.faulty_worker import COMMAND
from tests.faults.load import append, assignment, record_of, send
from tests.faults.planned_faults import Plan
from tests.faults.running import Process
from tests.support.builders import requested
from tests.support.until import until

POINTS = ("produced", "committing", "committed", "offsets")
SCOPES = 4
KILL_WAIT_S = 40.0
StartFaulty = Callable[[str, Plan], Process]


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """The installation with a patience longer than a test, so that requests wait for their context."""
    return settings.model_copy(
        update={
            "patience_s": 600,
            "batch_max": 20,
            "release_max": 5,
            "session_timeout_s": 6,
            "transaction_timeout_s": 60,
        }
    )


@pytest.fixture
def start_faulty(patient: Settings, tmp_path: Path) -> Iterator[StartFaulty]:
    """A function that starts a slot's next process with a plan: `start_faulty("one", Plan(action="kill"))`."""
    processes = dict[str, Process]()

    def start(slot: str, plan: Plan) -> Process:
        settings = patient.model_copy(update={"slot": slot})
        process = processes.setdefault(slot, Process(settings, tmp_path / f"{slot}.log", COMMAND))
        process.environment = plan.variables()
        process.start()
        return process

    yield start
    for process in processes.values():
        process.end()


def send_requests(settings: Settings, requests: int) -> None:
    """Append requests for SCOPES assignments."""
    events = (
        requested(batch_id=f"b-{number}", assignment_id=f"a{number % SCOPES}")
        for number in range(requests)
    )
    append(settings, (record_of(settings, event) for event in events))


def upload_contexts(settings: Settings) -> None:
    """Upload the contexts of those assignments."""
    send(settings, *(event for number in range(SCOPES) for event in assignment(f"a{number}")))


def kill_at_each_point(start_faulty: StartFaulty, kind: str) -> int:
    """Start one process after the other, each killed at the next point of its second transaction of a kind.

    Returns the number of killed processes; stops at the first process that does not reach its point.
    """
    for killed, point in enumerate(POINTS):
        after_ms = 2.0 if point == "committing" else 0.0
        worker = start_faulty("one", Plan("kill", point, kind, nth=2, after_ms=after_ms))
        try:
            assert worker.wait_for_exit(KILL_WAIT_S) == -9, worker.log_tail(5)
        except subprocess.TimeoutExpired:
            worker.kill()
            return killed
    return len(POINTS)


@pytest.mark.thorough
def test_a_worker_killed_at_each_point_loses_and_doubles_nothing(
    patient: Settings, start_faulty: StartFaulty
) -> None:
    upload_contexts(patient)
    send_requests(patient, 2000)
    killed = kill_at_each_point(start_faulty, "any")
    start_faulty("one", Plan())
    check_until_correct(patient)
    assert killed == len(POINTS)


@pytest.mark.long
def test_a_worker_killed_while_it_parks_or_releases_loses_and_doubles_nothing(
    patient: Settings, start_faulty: StartFaulty
) -> None:
    send_requests(patient, 300)
    # no request has its context yet, so each transaction parks
    killed = kill_at_each_point(start_faulty, "any")
    upload_contexts(patient)  # some requests are parked, the others are not prepared yet
    killed += kill_at_each_point(start_faulty, "releases")
    start_faulty("one", Plan())
    found = check_until_correct(patient)
    assert (killed, found.counts["cj.batches.v1"]) == (2 * len(POINTS), 300), str(found)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["any", pytest.param("releases", marks=pytest.mark.long)])
def test_a_worker_frozen_in_a_transaction_until_another_takes_over_doubles_nothing(
    patient: Settings, start_faulty: StartFaulty, kind: str
) -> None:
    with Progress(patient) as progress:
        if kind == "releases":
            send_requests(patient, 300)
            parking = start_faulty("other", Plan())
            progress.wait_for_the_end(parking)
            assert parking.stop() == 0
        nth = (
            2 if kind == "any" else 1
        )  # the first transaction of any kind commits the start of the log
        frozen = start_faulty("frozen", Plan("stop", "producing", kind, nth, linger_s=2))
        frozen.wait_until_it_runs()
        upload_contexts(patient)
        send_requests(patient, 300)
        until(lambda: frozen.is_frozen, 60)
        other = start_faulty("other", Plan())
        until(lambda: other.log_count('"partitions":[0,1,2,3]'), 60)
        if kind == "any":
            progress.wait_for_the_end(other)
        else:
            check_until_correct(patient)
        frozen.thaw()
        until(
            lambda: frozen.log_count('"partitions revoked"'), 60
        )  # the revoke waits for the end of its transaction
        progress.wait_for_the_end(frozen, other)
    check_until_correct(patient)
