"""The chain links of many uploads at once, by the engine that scans compiled. Pure."""

from collections.abc import Sequence

from schemas.codec import Codec
from tables.scan.scanner import Engine
from tables.upload_batch import UploadBatch
from tables.upload_check import Places, UploadCheck
from tables.upload_record import UploadTopics

CAPTURED = ("version", "event_id", "previous_event_id")
Link = tuple[int, str, str | None]  # the fields of a VersionLink, which takes longer to make


class ScannedLinks:
    """Reads the links of records that the check accepts."""

    def __init__(self, codec: Codec, topics: UploadTopics, engine: Engine) -> None:
        self._check = UploadCheck(codec, topics, engine, CAPTURED)

    def of(self, batch: UploadBatch) -> list[Link | None]:
        """The link of each record; None for one that must be scanned or decoded by itself."""
        return [
            None if places is None or value is None else _link(value, places)
            for value, places in zip(batch.values, self._check.places(batch), strict=True)
        ]


def _link(upload: bytes, places: Places) -> Link:
    version, version_end, event_id, event_id_end, previous, previous_end = places
    return (
        upload[version] >> 1  # most have one byte
        if version_end == version + 1
        else _number(upload[version:version_end]),
        upload[event_id:event_id_end].decode(),
        upload[previous:previous_end].decode() if previous >= 0 else None,
    )


def _number(varint: Sequence[int]) -> int:
    """A number that is not negative, of its zigzag varint."""
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 127
    return value >> 1
