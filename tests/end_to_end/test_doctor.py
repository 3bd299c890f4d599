"""What `doctor` shows of an installation that waits, holds, dies and moves."""

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
from tests.support.run_command import told
from tests.support.until import until
from tools.doctor import Check, examine


def seen(settings: Settings) -> dict[str, Check]:
    """What it looked at, by name; the installation's prefix is taken off."""
    return {one.name.replace(settings.topic_prefix, ""): one for one in examine(settings)}


def test_a_worker_at_rest_is_shown_with_nothing_behind_and_its_last_rebalance(
    settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *assignment("a1"))
    send_in_transaction(settings, requested(assignment_id="a1"))
    start_worker("one")
    with Progress(settings) as progress:
        until(lambda: progress.total() == 1)
    checks = until(lambda: settled(settings))
    assert all(check.ok for check in checks.values())
    assert "1 members, 0 records behind" in checks["batch preparation"].detail  # a marker is none
    assert checks["lag by request partition"].detail == "none"
    assert checks["open transactions"].detail == "none"
    assert checks["oldest parked request"].detail == "none waits"
    rebalanced = checks["last rebalance of worker-one"].detail
    assert rebalanced.endswith("since its start; request partitions: 0, 1, 2, 3")
    assert told(settings, "doctor")[0] == 0


def settled(settings: Settings) -> dict[str, Check]:
    """What is seen, once the fold's group has a member and no transaction is ending."""
    checks = seen(settings)
    ready = "1 members, 0 records behind" in checks["fold"].detail
    return checks if ready and checks["open transactions"].detail == "none" else {}


def test_lag_age_of_transactions_and_parked_requests_and_dead_letters_are_shown(
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
    held = record_of(settings, prompt_uploaded())
    holder: Producer = plain_producer(settings, **{"transactional.id": settings.topic_prefix})
    holder.init_transactions(30)
    holder.begin_transaction()
    holder.produce(held.topic, held.value, held.key)
    holder.flush(30)

    checks = seen(settings)
    assert not checks["batch preparation"].ok  # three behind, and nobody there
    assert checks["lag by request partition"].detail.startswith(f"{at.partition}: 3 records, ")
    assert checks["open transactions"].ok  # for a moment only
    assert checks["open transactions"].detail.startswith(f"{held.topic}/")
    parked = checks["oldest parked request"]
    assert not parked.ok
    assert f"{parked_at} waits" in parked.detail
    assert "for assignment:late, until 1970-01-01T00:15:01Z; 1 in all" in parked.detail
    assert checks["dead letters in cj.requests.dlq.v1"].detail == "1 in the last day, 0.0 an hour"
    assert checks["dead letters in assessment.uploads.dlq.v1"].detail.startswith("0 in the last")
    holder.abort_transaction(30)
