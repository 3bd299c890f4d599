"""Requests that arrive before their context: parked, released, timed out, also across restarts."""

from collections.abc import Iterable, Sequence

import pytest

from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import CJBatchPrepared, CJBatchUnresolved, ParkedRequest
from tests.faults.asking import all_have_one_outcome
from tests.faults.load import append, record_of, send
from tests.faults.reading import Read, read_all
from tests.faults.running import StartWorker
from tests.support.builders import instructions_uploaded, prompt_uploaded, requested
from tests.support.until import until

CODEC = Codec()
PATIENT = {"patience_s": 600}


@pytest.fixture
def topics(settings: Settings) -> "TopicReader":
    return TopicReader(settings)


class TopicReader:
    """The topics of an installation, read from outside."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def read(self, name: str) -> Sequence[Read]:
        return read_all(self.settings.bootstrap_servers, name, self.settings.partitions)

    @property
    def parked(self) -> list[ParkedRequest]:
        """Every request that was ever parked."""
        values = (one.value for one in self.read(self.settings.topics.parked.name))
        return [CODEC.decode_as(ParkedRequest, value) for value in values if value]

    @property
    def waiting_keys(self) -> set[bytes | None]:
        """The keys without a tombstone: the ones that compaction would retain."""
        newest = {one.key: one.value for one in self.read(self.settings.topics.parked.name)}
        return {key for key, value in newest.items() if value is not None}

    def outcomes(self) -> dict[str, CJBatchPrepared | CJBatchUnresolved]:
        topics = self.settings.topics
        values = [
            one.value
            for topic in (topics.batches, topics.unresolved)
            for one in self.read(topic.name)
        ]
        events = map(CODEC.decode, values)
        found = [one for one in events if isinstance(one, CJBatchPrepared | CJBatchUnresolved)]
        by_batch = {one.request.batch_id: one for one in found}
        assert len(by_batch) == len(found)
        return by_batch


def send_requests(settings: Settings, names: Iterable[str], assignment_id: str = "a1") -> None:
    append(
        settings,
        (
            record_of(settings, requested(batch_id=name, assignment_id=assignment_id))
            for name in names
        ),
    )


def test_a_request_is_released_by_the_upload_that_completes_its_context(
    settings: Settings, start_worker: StartWorker, topics: TopicReader
) -> None:
    start_worker(**PATIENT).wait_until_it_runs()
    send_requests(settings, ["b1"])
    until(lambda: topics.waiting_keys)
    send(settings, instructions_uploaded())
    send_requests(settings, ["b2"])
    until(lambda: len(topics.waiting_keys) == 2)
    assert sorted(len(one.missing) for one in topics.parked) == [1, 2]
    (prompt_at,) = send(settings, prompt_uploaded())
    until(lambda: len(topics.outcomes()) == 2)
    for outcome in topics.outcomes().values():
        assert isinstance(outcome, CJBatchPrepared)
        assert outcome.provenance.student_prompt is not None
        assert outcome.provenance.student_prompt.source == prompt_at
    assert topics.waiting_keys == set()
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_a_request_past_its_deadline_is_unresolved(
    settings: Settings, start_worker: StartWorker, topics: TopicReader
) -> None:
    start_worker(patience_s=2).wait_until_it_runs()
    send_requests(settings, ["b1"], "nobody-knows")
    until(lambda: topics.outcomes())
    (outcome,) = topics.outcomes().values()
    assert isinstance(outcome, CJBatchUnresolved)
    assert outcome.missing == ("instructions", "student_prompt")
    (parked,) = topics.parked
    assert parked.deadline_at_ms - parked.appended_at_ms == 2000
    assert topics.waiting_keys == set()
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_a_restart_does_not_extend_the_deadline(
    settings: Settings, start_worker: StartWorker, topics: TopicReader
) -> None:
    first = start_worker(patience_s=10)  # long enough to see it parked
    first.wait_until_it_runs()
    send_requests(settings, ["b1"])
    until(lambda: topics.waiting_keys)
    first.kill()
    (parked,) = topics.parked
    second = start_worker("two", patience_s=600, session_timeout_s=6)
    second.wait_until_it_runs()
    until(lambda: topics.outcomes(), 60)
    (record,) = topics.read(settings.topics.unresolved.name)
    assert record.appended_at_ms >= parked.deadline_at_ms
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_the_parked_requests_of_a_killed_worker_are_released_after_its_restart(
    settings: Settings, start_worker: StartWorker, topics: TopicReader
) -> None:
    worker = start_worker(**PATIENT)
    worker.wait_until_it_runs()
    names = [f"b{number}" for number in range(200)]
    send_requests(settings, names)
    until(lambda: len(topics.waiting_keys) == 200)
    worker.kill()
    send(settings, instructions_uploaded(), prompt_uploaded())
    worker.start()
    until(lambda: len(topics.outcomes()) == 200)
    assert topics.waiting_keys == set()
    all_have_one_outcome(settings)


@pytest.mark.thorough
def test_many_requests_are_released_in_chunks_while_other_requests_are_prepared(
    settings: Settings, start_worker: StartWorker, topics: TopicReader
) -> None:
    send(
        settings, *(one(assignment_id="ready") for one in (instructions_uploaded, prompt_uploaded))
    )
    worker = start_worker(**PATIENT, release_max=100)
    worker.wait_until_it_runs()
    send_requests(settings, (f"b{number}" for number in range(3000)))
    send_requests(settings, (f"other{number}" for number in range(3000)), "unknown")
    until(lambda: len(topics.waiting_keys) == 6000, 30)
    send(settings, instructions_uploaded(), prompt_uploaded())
    send_requests(settings, (f"ready{number}" for number in range(500)), "ready")
    until(lambda: len(topics.outcomes()) >= 3500, 60)
    outcomes = topics.outcomes()
    assert {one.removeprefix("ready")[:1] for one in outcomes} <= set("b0123456789")
    assert len(topics.waiting_keys) == 3000
    assert worker.is_alive
