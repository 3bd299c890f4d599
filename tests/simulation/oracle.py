"""What must hold after every history, checked on the log alone."""

from collections import defaultdict
from collections.abc import Iterator

from confluent_kafka import Message

from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import POSITIONS_HEADER, read_positions
from processors.outcomes.resolve import Unresolved
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import BadRecord, Fenced, Unreachable
from schemas.events import AssignmentContext, CJBatchPrepared, CJBatchUnresolved
from tables.context import fold
from tests.simulation.history import CODEC, PARTITIONS, SETTINGS, TOPICS, History, Request
from tests.simulation.log import Stored

POLICY = SETTINGS.policy
MAY_END_A_WORKER = (Fenced, Unreachable)  # the worker is restarted
ROUNDING_MS = 1
UPLOADS = [
    Partition(topic.name, number) for topic in TOPICS.uploads for number in range(PARTITIONS)
]


def broken_promises(history: History) -> Iterator[str]:
    """Every promise that a settled history broke."""
    for fault in history.faults:
        if not isinstance(fault, MAY_END_A_WORKER):
            yield f"a worker ended: {fault!r}"
    outcomes = outcomes_by_request(history)
    for request in history.requests:
        at = coordinates_of(request.stored.message)
        of_request = outcomes.pop(at, [])
        if len(of_request) == 1:
            problems = _outcome_problems(history, request, of_request[0])
            yield from (f"{at}: {problem}" for problem in problems)
        else:
            yield f"{at} has {len(of_request)} outcomes"
    yield from (f"{at} has an outcome but is not a request" for at in outcomes)
    yield from (f"{key!r} is still parked" for key in still_parked(history))


def parked_despite_context(history: History) -> Iterator[str]:
    """Parked requests that wait although their context is complete."""
    rows = contexts_at(history, {tp: history.cluster.log(tp).last_stable for tp in UPLOADS})
    for key, request in still_parked(history).items():
        message = request.stored.message
        builder = OutcomeBuilder(CODEC, POLICY, rows.get)
        built = builder.encoded(message.value(), coordinates_of(message))
        if not isinstance(built.resolution, Unresolved):
            yield f"{key!r} is complete and still parked"


def outcomes_by_request(history: History) -> dict[Coordinates, list[Stored]]:
    """Every committed record of the outcome topics, by its request."""
    outcomes = defaultdict[Coordinates, list[Stored]](list)
    for topic in TOPICS.outcomes:
        for number in range(PARTITIONS):
            for stored in history.cluster.log(Partition(topic.name, number)).committed():
                outcomes[_request_of(stored.message)].append(stored)
    return outcomes


def _request_of(message: Message) -> Coordinates:
    if message.topic() != TOPICS.requests_dlq.name:
        event = CODEC.decode(message.value())
        assert isinstance(event, CJBatchPrepared | CJBatchUnresolved)
        return event.provenance.request
    headers = _headers(message)
    topic, partition, offset = (
        headers[f"kafka_dlt-original-{name}"].decode() for name in ("topic", "partition", "offset")
    )
    return Coordinates(topic, int(partition), int(offset))


def still_parked(history: History) -> dict[bytes, Request]:
    """The requests with an entry in the parked topic and no tombstone after it; forged entries do not count."""
    keys = set[bytes]()
    for number in range(PARTITIONS):
        for stored in history.cluster.log(Partition(TOPICS.parked.name, number)).committed():
            key = stored.message.key() or b""
            if stored.message.value() is None:
                keys.discard(key)
            else:
                keys.add(key)
    answered = {str(at).encode() for at in outcomes_by_request(history)}
    by_key = {
        str(coordinates_of(request.stored.message)).encode(): request
        for request in history.requests
    }
    fetched = {
        key
        for key, request in by_key.items()
        if coordinates_of(request.stored.message).offset < _committed(history, request)
    }
    return {
        key: by_key[key] for key in keys if key not in history.forged or key in fetched - answered
    }


def _committed(history: History, request: Request) -> int:
    message = request.stored.message
    partition = Partition(str(message.topic()), message.partition() or 0)
    return history.cluster.committed.get(partition, (0, 0))[0]


def deadline_s(history: History) -> float:
    """The seconds from now until the last deadline of a parked request."""
    deadlines = (
        POLICY.deadline_ms(request.stored.message.timestamp()[1])
        for request in still_parked(history).values()
    )
    last_ms = max(deadlines, default=0)
    return max(0.0, (last_ms - history.cluster.now_ms) / 1000)


def _outcome_problems(history: History, request: Request, outcome: Stored) -> Iterator[str]:
    request_message, outcome_message = request.stored.message, outcome.message
    if (
        outcome_message.partition() != request_message.partition()
        or outcome_message.key() != request_message.key()
    ):
        yield "its outcome has another partition or key"
    if not request.is_valid:
        if (
            outcome_message.topic() != TOPICS.requests_dlq.name
            or outcome_message.value() != request_message.value()
        ):
            yield "it is damaged, but its dead letter does not have the same bytes"
        return
    positions = positions_of(outcome_message)
    yield from _wrong_uploads(history, request, outcome, positions)
    rows = contexts_at(history, positions)
    try:
        built = OutcomeBuilder(CODEC, POLICY, rows.get).encoded(
            request_message.value(), coordinates_of(request_message)
        )
    except BadRecord as fault:
        yield f"it is valid but was refused: {fault}"
        return
    if built.value != outcome_message.value():
        yield f"its outcome does not match its upload positions {dict(positions)}"
    waited_ms = outcome_message.timestamp()[1] - request_message.timestamp()[1]
    may_wait = isinstance(built.resolution, Unresolved) and built.resolution.may_wait
    if may_wait and waited_ms + ROUNDING_MS < POLICY.patience_s * 1000:
        yield f"it was unresolved after only {waited_ms} ms"


def _wrong_uploads(
    history: History, request: Request, outcome: Stored, positions: Positions
) -> Iterator[str]:
    """Uploads acknowledged before the request that are not used, and uploads appended after the outcome that are."""
    for upload in history.uploads:
        at = coordinates_of(upload.stored.message)
        is_used = at.offset < positions[Partition(at.topic, at.partition)]
        if not is_used and (upload.acknowledged or outcome.order) < request.stored.order:
            yield f"{at} was acknowledged before the request but is not used"
        if is_used and upload.stored.order > outcome.order:
            yield f"{at} was appended after the outcome but is used"


def contexts_at(history: History, positions: Positions) -> dict[str, AssignmentContext]:
    """The contexts that the uploads below these positions give."""
    rows = dict[str, AssignmentContext]()
    for upload in history.uploads:
        message, transaction = upload.stored.message, upload.stored.transaction
        at = coordinates_of(message)
        is_below = at.offset < positions[Partition(at.topic, at.partition)]
        if is_below and (transaction is None or transaction.committed):
            fold(rows, upload.event, at, message.timestamp()[1])
    return rows


def positions_of(outcome: Message) -> Positions:
    """The upload positions in an outcome's header."""
    return read_positions(_headers(outcome)[POSITIONS_HEADER], TOPICS)


def _headers(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])  # type: ignore[arg-type]


def coordinates_of(message: Message) -> Coordinates:
    """The coordinates of a message."""
    return Coordinates(str(message.topic()), message.partition() or 0, message.offset() or 0)
