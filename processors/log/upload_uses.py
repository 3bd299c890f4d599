"""Finds the uploads that the prepared batches of one scope used."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from processors.kafka.records import coordinates_of
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import ROLES, CJBatchPrepared


@dataclass(frozen=True, slots=True)
class BatchUse:
    """An upload that a batch used."""

    source: Coordinates
    version: int
    event_id: str


@dataclass(slots=True)
class CountedUses:
    """How many retained batches used each upload in each role, and the records that are no batches."""

    batches: Counter[tuple[str, BatchUse]] = field(default_factory=Counter)
    foreign_records: list[Coordinates] = field(default_factory=list)


def count_uses(settings: Settings, scope_key: str) -> CountedUses:
    """Count the uploads that the batches of this scope used; reads the whole topic. Raises Unreachable.

    Foreign records are those that contain the id of the scope, but are no batches.
    """
    found = CountedUses()
    kind, _, scope_id = scope_key.partition(":")
    needle, codec = scope_id.encode(), codec_for(settings)
    partitions = settings.partitions_of(settings.topics.batches)
    with LogReader(settings, partitions) as log:
        ends = log.seek_to_start()
        for messages in log.messages_until(ends):
            for message in messages:
                value = message.value()
                if value is None or needle not in value:  # most batches belong to other scopes
                    continue
                try:
                    batch = codec.decode_as(CJBatchPrepared, value)
                except BadRecord:
                    found.foreign_records.append(coordinates_of(message))
                    continue
                if _scope_of(batch) == (kind, scope_id):
                    found.batches.update(_uses_in(batch))
    return found


def _scope_of(batch: CJBatchPrepared) -> tuple[str, str | None]:
    source = batch.processing_metadata.context_source
    return (
        source,
        batch.request.assignment_id if source == "assignment" else batch.request.course_code,
    )


def _uses_in(batch: CJBatchPrepared) -> Iterator[tuple[str, BatchUse]]:
    for role in ROLES:
        if used := getattr(batch.provenance, role):
            yield role, BatchUse(used.source, used.version, used.event_id)
