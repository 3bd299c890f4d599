"""What must hold of every history, told from the log alone."""

from collections import defaultdict
from collections.abc import Iterator

from confluent_kafka import Message

from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.positions_header import POSITIONS_HEADER, read_positions
from processors.outcomes.resolve import Unresolved
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import BadRecord, Fenced, Unreachable
from schemas.events import AssignmentContext, CJBatchPrepared, CJBatchUnresolved, ParkedRequest
from tables.context import fold
from tests.simulation.history import CODEC, PARTITIONS, SETTINGS, TOPICS, History, Request
from tests.simulation.log import Stored

POLICY = SETTINGS.policy
MAY_END_A_WORKER = (Fenced, Unreachable)  # it is started again
ROUNDING_MS = 1
UPLOADS = [
    Partition(topic.name, number) for topic in TOPICS.uploads for number in range(PARTITIONS)
]


def broken_promises(history: History) -> Iterator[str]:
    """Every promise that a history broke which was given the time to settle."""
    for fault in history.faults:
        if not isinstance(fault, MAY_END_A_WORKER):
            yield f"a worker ended: {fault!r}"
    outcomes = outcomes_by_request(history)
    for request in history.requests:
        at = coordinates_of(request.stored.message)
        found = outcomes.pop(at, [])
        if len(found) == 1:
            yield from (f"{at}: {what}" for what in _wrong(history, request, found[0]))
        else:
            yield f"{at} has {len(found)} outcomes"
    yield from (f"{at} has an outcome and is no request" for at in outcomes)
    yield from (f"{key!r} is still parked" for key in still_parked(history))


def waiting_in_vain(history: History) -> Iterator[str]:
    """Parked requests whose context is complete, and which wait all the same."""
    rows = contexts_at(history, {at: history.cluster.log(at).last_stable for at in UPLOADS})
    for key, stored in still_parked(history).items():
        parked = CODEC.decode_as(ParkedRequest, stored.message.value())
        answer = OutcomeBuilder(CODEC, POLICY, rows.get).encoded(parked.request, parked.request_at)
        if not isinstance(answer.resolution, Unresolved):
            yield f"{key!r} is complete and still parked"


def outcomes_by_request(history: History) -> dict[Coordinates, list[Stored]]:
    """Every committed record of the outcome topics, by the request that it answers."""
    outcomes = defaultdict[Coordinates, list[Stored]](list)
    for topic in TOPICS.outcomes:
        for number in range(PARTITIONS):
            for stored in history.cluster.log(Partition(topic.name, number)).committed():
                outcomes[_answered(stored.message)].append(stored)
    return outcomes


def _answered(message: Message) -> Coordinates:
    if message.topic() != TOPICS.requests_dlq.name:
        event = CODEC.decode(message.value())
        assert isinstance(event, CJBatchPrepared | CJBatchUnresolved)
        return event.provenance.request
    told = _headers(message)
    topic, partition, offset = (
        told[f"kafka_dlt-original-{name}"].decode() for name in ("topic", "partition", "offset")
    )
    return Coordinates(topic, int(partition), int(offset))


def still_parked(history: History) -> dict[bytes, Stored]:
    """Entries of the parked topic without a tombstone after them, by key."""
    parked = dict[bytes, Stored]()
    for number in range(PARTITIONS):
        for stored in history.cluster.log(Partition(TOPICS.parked.name, number)).committed():
            key = stored.message.key() or b""
            if stored.message.value() is None:
                parked.pop(key, None)
            else:
                parked[key] = stored
    return parked


def deadline_s(history: History) -> float:
    """How many seconds from now the last deadline is of what is still parked."""
    parked = (
        CODEC.decode_as(ParkedRequest, one.message.value())
        for one in still_parked(history).values()
    )
    last_ms = max((one.deadline_at_ms for one in parked), default=0)
    return max(0.0, (last_ms - history.cluster.now_ms) / 1000)


def _wrong(history: History, request: Request, outcome: Stored) -> Iterator[str]:
    asked, answered = request.stored.message, outcome.message
    if answered.partition() != asked.partition() or answered.key() != asked.key():
        yield "its outcome has another partition or key"
    if not request.is_valid:
        if answered.topic() != TOPICS.requests_dlq.name or answered.value() != asked.value():
            yield "it is damaged, and not dead-lettered byte for byte"
        return
    positions = positions_of(answered)
    yield from _unlawful(history, request, outcome, positions)
    rows = contexts_at(history, positions)
    try:
        answer = OutcomeBuilder(CODEC, POLICY, rows.get).encoded(
            asked.value(), coordinates_of(asked)
        )
    except BadRecord as fault:
        yield f"it is valid and was refused: {fault}"
        return
    if answer.value != answered.value():
        yield f"its outcome is not what {dict(positions)} say"
    waited_ms = answered.timestamp()[1] - asked.timestamp()[1]
    may_wait = isinstance(answer.resolution, Unresolved) and answer.resolution.may_wait
    if may_wait and waited_ms + ROUNDING_MS < POLICY.patience_s * 1000:
        yield f"it was given up after {waited_ms} ms"


def _unlawful(
    history: History, request: Request, outcome: Stored, positions: Positions
) -> Iterator[str]:
    """An upload acknowledged before the request was appended is used, none appended after its outcome is."""
    for upload in history.uploads:
        at = coordinates_of(upload.stored.message)
        is_used = at.offset < positions[Partition(at.topic, at.partition)]
        if not is_used and (upload.acknowledged or outcome.order) < request.stored.order:
            yield f"{at} was acknowledged before it and is not used"
        if is_used and upload.stored.order > outcome.order:
            yield f"{at} was appended after its outcome and is used"


def contexts_at(history: History, positions: Positions) -> dict[str, AssignmentContext]:
    """What the uploads below these positions say."""
    rows = dict[str, AssignmentContext]()
    for upload in history.uploads:
        message, transaction = upload.stored.message, upload.stored.transaction
        at = coordinates_of(message)
        is_below = at.offset < positions[Partition(at.topic, at.partition)]
        if is_below and (transaction is None or transaction.committed):
            fold(rows, upload.event, at, message.timestamp()[1])
    return rows


def positions_of(outcome: Message) -> Positions:
    """The upload positions that an outcome rests on."""
    return read_positions(_headers(outcome)[POSITIONS_HEADER], TOPICS)


def _headers(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])  # type: ignore[arg-type]


def coordinates_of(message: Message) -> Coordinates:
    """Where a message stands."""
    return Coordinates(str(message.topic()), message.partition() or 0, message.offset() or 0)
