"""What `doctor` shows for lag, open transactions, dead letters, parked requests and rebalances."""

from confluent_kafka import Producer

from processors.kafka.clients import plain_producer
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers, marker_headers
from schemas.errors import Malformed
from schemas.events import ParkedRequest
from tests.faults.asking import Progress
from tests.faults.load import CODEC, append, assignment, record_of, send, send_in_transaction
from tests.faults.running import StartWorker
from tests.support.builders import prompt_uploaded, requested
from tests.support.run_command import run_json
from tests.support.until import until
from tools.doctor import Check, examine


def checks_by_name(settings: Settings) -> dict[str, Check]:
    """The checks by name, without the topic prefix of the installation."""
    return {check.name.replace(settings.topic_prefix, ""): check for check in examine(settings)}


def test_an_idle_worker_is_shown_without_lag_and_with_its_last_rebalance(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    send_in_transaction(settings, requested(assignment_id="a1"))
    start_worker("one")
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1)
    checks = until(lambda: checks_when_settled(settings))
    assert all(check.ok for check in checks.values())
    # the marker of the request's transaction does not count
    assert "1 members, 0 records behind" in checks["batch preparation"].detail
    assert checks["lag by request partition"].detail == "none"
    assert checks["open transactions"].detail == "none"
    assert checks["oldest parked request"].detail == "none"
    rebalanced = checks["last rebalance of worker-one"].detail
    assert rebalanced.endswith("since its start; request partitions: 0, 1, 2, 3")
    assert run_json(settings, "doctor")[0] == 0


def checks_when_settled(settings: Settings) -> dict[str, Check]:
    """The checks, once the fold's group has a member and no transaction is open."""
    checks = checks_by_name(settings)
    ready = "1 members, 0 records behind" in checks["fold"].detail
    return checks if ready and checks["open transactions"].detail == "none" else {}


def test_lag_open_transactions_parked_requests_and_dead_letters_are_shown(
    settings: Settings,
) -> None:
    topics = settings.topics
    requests = [record_of(settings, requested(batch_id="one")) for _ in range(3)]
    (at, *_) = append(settings, requests)
    parked_at = Coordinates(topics.requests.name, 1, 5)
    waiting = ParkedRequest(
        request_at=parked_at,
        scope_key="assignment:late",
        missing=("student_prompt",),
        appended_at_ms=1_000,
        deadline_at_ms=901_000,
        request=CODEC.encode(requested()),
    )
    letter = dead_letter_headers(parked_at, 1, Malformed("x"))
    append(
        settings,
        [
            Record(topics.parked.name, 1, str(parked_at).encode(), CODEC.encode(waiting)),
            Record(topics.requests_dlq.name, 1, b"k", b"?", letter),
            Record(
                topics.requests_dlq.name, 1, b"k", None, marker_headers(parked_at, "superseded")
            ),
        ],
    )
    upload = record_of(settings, prompt_uploaded())
    producer: Producer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(upload.topic, upload.value, upload.key)
    producer.flush(30)

    checks = checks_by_name(settings)
    assert not checks["batch preparation"].ok  # lag of three, and the group has no member
    assert checks["lag by request partition"].detail.startswith(f"{at.partition}: 3 records, ")
    assert checks["open transactions"].ok  # only open for a moment
    assert checks["open transactions"].detail.startswith(f"{upload.topic}/")
    parked = checks["oldest parked request"]
    assert not parked.ok
    assert f"{parked_at} has waited" in parked.detail
    assert "for assignment:late, until 1970-01-01T00:15:01Z; 1 parked in total" in parked.detail
    assert checks["dead letters in cj.requests.dlq.v1"].detail == "1 in the last day, 0.0 per hour"
    assert checks["dead letters in assessment.uploads.dlq.v1"].detail.startswith("0 in the last")
    producer.abort_transaction(30)
