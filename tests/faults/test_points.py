"""A worker that falls, or stands still, at the named points of its transactions."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.faults.asking import Progress, settled
from tests.faults.faulty_worker import COMMAND, Plan
from tests.faults.load import append, assignment, record_of, send
from tests.faults.running import Process
from tests.support.builders import requested
from tests.support.until import until

POINTS = ("produced", "committing", "committed", "offsets")
SCOPES = 4
FALL_S = 40.0
StartFaulty = Callable[[str, Plan], Process]


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """The installation, in which a request waits for its context for as long as a test takes."""
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
    """Starts a slot's next life by a plan: `start_faulty("one", Plan(does="kill"))`."""
    lives = dict[str, Process]()

    def start(slot: str, plan: Plan) -> Process:
        own = patient.model_copy(update={"slot": slot})
        life = lives.setdefault(slot, Process(own, tmp_path / f"{slot}.log", COMMAND))
        life.environment = plan.told()
        life.start()
        return life

    yield start
    for life in lives.values():
        life.thaw()
        if life.is_alive:
            life.kill()
        print(f"--- {life.log.name}, ended with {life.exit_code}\n{life.last_words()}")  # noqa: T201


def ask(settings: Settings, requests: int) -> None:
    """Append requests for a few assignments."""
    asked = (
        requested(batch_id=f"b-{number}", assignment_id=f"a{number % SCOPES}")
        for number in range(requests)
    )
    append(settings, (record_of(settings, one) for one in asked))


def give_contexts(settings: Settings) -> None:
    """Upload all that those assignments need."""
    send(settings, *(event for number in range(SCOPES) for event in assignment(f"a{number}")))


def fall_at_each_point(start_faulty: StartFaulty, kind: str) -> int:
    """Let one life after the other fall, each at the next point of its second transaction of a kind.

    Gives how many did; after one whose transactions never come there, no more are tried.
    """
    for fallen, point in enumerate(POINTS):
        after_ms = 2.0 if point == "committing" else 0.0
        worker = start_faulty("one", Plan("kill", point, kind, nth=2, after_ms=after_ms))
        try:
            assert worker.ended(FALL_S) == -9, worker.last_words(5)
        except subprocess.TimeoutExpired:
            worker.kill()
            return fallen
    return len(POINTS)


def test_a_worker_killed_at_each_point_loses_and_doubles_nothing(
    patient: Settings, start_faulty: StartFaulty
) -> None:
    give_contexts(patient)
    ask(patient, 2000)
    fallen = fall_at_each_point(start_faulty, "any")
    start_faulty("one", Plan())
    settled(patient)
    assert fallen == len(POINTS)


@pytest.mark.long
def test_a_worker_killed_while_it_parks_or_releases_loses_and_doubles_nothing(
    patient: Settings, start_faulty: StartFaulty
) -> None:
    ask(patient, 300)
    fallen = fall_at_each_point(
        start_faulty, "any"
    )  # nothing has its context: each transaction parks
    give_contexts(patient)  # some were parked, others were just about to be
    fallen += fall_at_each_point(start_faulty, "releases")
    start_faulty("one", Plan())
    found = settled(patient)
    assert (fallen, found.counts["cj.batches.v1"]) == (2 * len(POINTS), 300), str(found)


@pytest.mark.parametrize("kind", ["any", pytest.param("releases", marks=pytest.mark.long)])
def test_a_worker_frozen_inside_a_transaction_until_another_took_over_doubles_nothing(
    patient: Settings, start_faulty: StartFaulty, kind: str
) -> None:
    with Progress(patient) as progress:
        if kind == "releases":
            ask(patient, 300)
            parking = start_faulty("other", Plan())
            progress.wait_for_the_end(parking)
            assert parking.stop() == 0
        nth = 2 if kind == "any" else 1  # the first of any commits where the log begins
        frozen = start_faulty("frozen", Plan("stop", "producing", kind, nth, linger_s=2))
        frozen.wait_until_it_runs()
        give_contexts(patient)
        ask(patient, 300)
        until(lambda: frozen.is_frozen, 60)
        other = start_faulty("other", Plan())
        until(lambda: other.said('"partitions":[0,1,2,3]'), 60)
        if kind == "any":
            progress.wait_for_the_end(other)
        else:
            settled(patient)
        frozen.thaw()
        until(lambda: frozen.said('"partitions revoked"'), 60)  # not before its transaction ended
        progress.wait_for_the_end(frozen, other)
    settled(patient)
