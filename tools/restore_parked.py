"""`cjstream parked restore`: parks requests again that lost their entry in the parked topic without an outcome.

An entry alone gives no outcome: batch preparation checks each one before it releases its request. So it does no harm
if this is run twice, or while workers run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record, coordinates_of
from processors.outcomes.resolve import scope_key_for
from processors.parking.parked_record import request_fields
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, coordinates_from
from schemas.errors import BadRecord, Discrepancy, Malformed, Misconfigured
from schemas.events import ParkedRequest
from tools.parked import ParkedRecords, read_parked_records
from tools.printing import number_of
from tools.unanswered import Unanswered, unanswered


@dataclass(frozen=True, slots=True)
class Restored:
    """A request that is parked again, with the coordinates of its entry, or the reason why it is not."""

    request_at: Coordinates
    entry_at: Coordinates | None = None
    reason: str = ""


def restore(
    settings: Settings, coordinates: Sequence[str], now_ms: int, *, yes: bool
) -> list[Restored]:
    """Park these requests again, by default all that lost their entry; without `yes`, only say which.

    Raises Misconfigured, Discrepancy, Unreachable.
    """
    named = [_coordinates(text) for text in coordinates]
    records = read_parked_records(settings, now_ms)
    parked = {at: "it is parked" for at in named if at in records.waiting}
    found = unanswered(settings, [at for at in named if at not in parked] or [])
    if not named:
        found = lost_requests(settings, records)
    lost = sorted(found.requests)
    entries = list[Coordinates | None]([None] * len(lost))
    if yes and lost:
        codec = codec_for(settings)
        restoring = [_entry(settings, codec, found.requests[at]) for at in lost]
        entries = list(map(coordinates_of, deliver(plain_producer(settings), restoring)))
    refused = {**parked, **found.others} if named else {}
    return [
        *(Restored(at, entry_at) for at, entry_at in zip(lost, entries, strict=True)),
        *(Restored(at, None, reason) for at, reason in sorted(refused.items())),
    ]


def lost_requests(
    settings: Settings, records: ParkedRecords, max_outcomes: int | None = None
) -> Unanswered:
    """The requests with a tombstone in the parked topic, but without an outcome; max_outcomes: see `unanswered`.

    Raises Discrepancy, Unreachable.
    """
    return unanswered(settings, records.released, max_outcomes)


def refuse_refusals(done: Iterable[Restored]) -> None:
    """Raise Discrepancy if a request is not parked again."""
    refused = [one for one in done if one.reason]
    if refused:
        first = refused[0]
        raise Discrepancy(
            f"not parked again: {number_of(len(refused), 'request')}, the first {first.request_at}: {first.reason}"
        )


def _coordinates(text: str) -> Coordinates:
    try:
        return coordinates_from(text)
    except Malformed as fault:
        raise Misconfigured(f"{text[:200]!r}: {fault}") from fault


def _entry(settings: Settings, codec: Codec, request: LogRecord) -> Record:
    try:
        scope_key = scope_key_for(request_fields(request.value, codec))
    except BadRecord:
        scope_key = "course:unreadable"  # its outcome is a dead letter
    parked = ParkedRequest(
        request_at=request.at,
        scope_key=scope_key,
        missing=(),
        appended_at_ms=request.appended_at_ms,
        deadline_at_ms=settings.policy.deadline_ms(request.appended_at_ms),
        request_key=request.key,
        request=request.value or b"",
    )
    key, value = str(request.at).encode(), codec.encode(parked)
    return Record(settings.topics.parked.name, request.at.partition, key, value, request.headers)
