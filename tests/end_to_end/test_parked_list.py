"""`parked list` on a parked topic as batch preparation writes it."""

import pytest

from processors.kafka.records import Record
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.events import ParkedRequest
from tests.faults.load import CODEC, append
from tests.support.builders import requested
from tests.support.run_command import run_json, run_text
from tools.parked import read_parked_records


def entry(
    settings: Settings, offset: int, appended_at_ms: int, patience_ms: int = 900_000
) -> Record:
    """A request that was parked because its student prompt was missing."""
    topics = settings.topics
    at = Coordinates(topics.requests.name, 1, offset)
    waiting = ParkedRequest(
        request_at=at,
        scope_key=f"assignment:a{offset}",
        missing=("student_prompt",),
        appended_at_ms=appended_at_ms,
        deadline_at_ms=appended_at_ms + patience_ms,
        request_key=b"batch",
        request=CODEC.encode(requested()),
    )
    return Record(topics.parked.name, 1, str(at).encode(), CODEC.encode(waiting))


def released(settings: Settings, offset: int) -> Record:
    key = str(Coordinates(settings.topics.requests.name, 1, offset)).encode()
    return Record(settings.topics.parked.name, 1, key, None)


def test_waiting_requests_are_listed_with_scope_duration_and_deadline(settings: Settings) -> None:
    clock = Record(settings.topics.parked.name, 0, b"clock", None)
    append(
        settings,
        [
            entry(settings, 3, 2_000_000),
            entry(settings, 2, 1_000_000),
            entry(settings, 1, 1_500_000),
            clock,
            released(settings, 1),
        ],
    )
    waiting = read_parked_records(settings, now_ms=1_930_000).parked(1_930_000)
    assert [(request.request_at, request.scope_key, request.missing) for request in waiting] == [
        (f"{settings.topics.requests.name}/1@2", "assignment:a2", ("student_prompt",)),
        (f"{settings.topics.requests.name}/1@3", "assignment:a3", ("student_prompt",)),
    ]
    assert [(request.waits_s, request.left_s) for request in waiting] == [
        (930.0, -30.0),
        (-70.0, 970.0),
    ]
    code, document, messages = run_json(settings, "parked", "list")
    assert (code, messages) == (0, "")
    assert [request["deadline_at_ms"] for request in document["parked"]] == [1_900_000, 2_900_000]
    assert all("request" not in fields for fields in document["parked"])


def test_a_record_that_does_not_count_is_named(settings: Settings) -> None:
    good = entry(settings, 3, 1_000_000)
    topic = settings.topics.parked.name
    append(
        settings,
        [
            Record(topic, 2, b"who", b"?"),
            good,
            Record(topic, 1, good.key, b"?"),
            Record(topic, 2, good.key, good.value),
        ],
    )
    records = read_parked_records(settings, now_ms=1_000_000)
    assert [one.request_at for one in records.parked(0)] == [f"{settings.topics.requests.name}/1@3"]
    assert sorted(map(str, records.strangers)) == [f"{topic}/1@1", f"{topic}/2@0", f"{topic}/2@1"]


@pytest.mark.parametrize(("patience_ms", "until"), [(2**62, "9999-"), (-(2**62), "0001-01-01T")])
def test_a_forged_deadline_that_no_calendar_has_is_listed(
    settings: Settings, patience_ms: int, until: str
) -> None:
    append(settings, [entry(settings, 3, 0, patience_ms)])
    code, out, _ = run_text(settings, "parked", "list")
    assert code == 0
    assert until in out
    code, out, _ = run_text(settings, "doctor")
    assert code in (0, 3)
    assert f"until {until}" in out
