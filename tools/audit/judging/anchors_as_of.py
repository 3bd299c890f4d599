"""The anchors of an assignment as a judge found them: live at a position of their partition, from the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.log.judging_log import JudgingLog
from processors.log.upload_topics import upload_of
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import BadRecord
from schemas.events import AssignmentContext, UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from tables.anchors import AnchorsFound, anchors_found
from tables.context import fold
from tables.upload_record import UploadTopics, read_upload


@dataclass(slots=True)
class _Records:
    """The uploads of one partition, and its records that no judge has folded."""

    uploads: list[tuple[Coordinates, int, UploadEvent]] = field(default_factory=list)
    damaged: list[tuple[Coordinates, BadRecord]] = field(default_factory=list)


class AnchorsAsOf:
    """Each partition is read once, when it is first asked for."""

    def __init__(self, log: JudgingLog, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        topic = log.settings.topics.anchors
        self._topics = UploadTopics({topic.name: topic}, log.settings.partitions)
        self._records: dict[Partition, _Records] = {}

    def find(self, assignment_id: str, position: int) -> AnchorsFound:
        """The live anchors before a position of the assignment's partition. Raises Unreachable."""
        scope_key = f"assignment:{assignment_id}"
        number = partition_for(scope_key.encode(), self._log.settings.partitions)
        rows: dict[str, AssignmentContext] = {}
        for at, appended_at_ms, event in self._records_of(number).uploads:
            if at.offset < position and scope_key_of(event) == scope_key:
                fold(rows, event, at, appended_at_ms)
        return anchors_found(rows.get(scope_key), position)

    def damaged(self, number: int) -> Sequence[tuple[Coordinates, BadRecord]]:
        """The records of a partition that are no upload of anchors, and why. Raises Unreachable."""
        return self._records_of(number).damaged

    def _records_of(self, number: int) -> _Records:
        partition = Partition(self._log.settings.topics.anchors.name, number)
        if partition not in self._records:
            self._records[partition] = self._read(partition)
        return self._records[partition]

    def _read(self, partition: Partition) -> _Records:
        found = _Records()
        start, end = self._log.ranges_of(self._log.settings.topics.anchors)[partition]
        for record in (
            self._log.records({partition: start}, {partition: end}) if start < end else ()
        ):
            upload = upload_of(record)
            if upload.sets_aside is not None and upload.value is None:
                continue
            try:
                event = read_upload(upload, self._codec, self._topics)
            except BadRecord as fault:
                found.damaged.append((record.at, fault))
            else:
                found.uploads.append((record.at, record.appended_at_ms, event))
        return found
