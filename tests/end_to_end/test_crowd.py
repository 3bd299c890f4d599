"""The cost of taking over a parked topic in which many requests wait for the same assignment."""

from collections import Counter
from functools import partial

from processors.kafka.clients import admin_client, reader
from processors.kafka.offsets import high_watermarks
from processors.kafka.records import Record
from processors.parking.parked_topic import ParkedTopic
from processors.policy import Policy
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.events import AssignmentContext, ParkedRequest
from tables.changed_scopes import ChangedScopes
from tests.faults.load import append
from tests.support.builders import requested

CODEC = Codec()
CROWD = 200


def test_a_takeover_looks_up_the_context_once_per_parked_request(settings: Settings) -> None:
    topic, lookups = settings.topics.parked.name, Counter[str]()

    def context_of(scope_key: str) -> AssignmentContext | None:
        lookups[scope_key] += 1
        return None

    append(settings, [entry(settings, number) for number in range(CROWD)])
    parking = ParkedTopic(
        settings.topics,
        CODEC,
        Policy(),
        context_of,
        ChangedScopes(),
        partial(high_watermarks, admin_client(settings)),
        lambda: reader(settings),
    )
    requests = Partition(settings.topics.requests.name, 0)
    assert parking.take_over({Partition(topic, 0): 0}, {requests: CROWD})
    parking.close()
    assert lookups == {"assignment:a1": CROWD}


def entry(settings: Settings, number: int) -> Record:
    at = Coordinates(settings.topics.requests.name, 0, number)
    parked = ParkedRequest(
        request_at=at,
        scope_key="assignment:a1",
        missing=("instructions",),
        appended_at_ms=0,
        deadline_at_ms=1,
        request_key=None,
        request=CODEC.encode(requested()),
    )
    return Record(settings.topics.parked.name, 0, str(at).encode(), CODEC.encode(parked))
