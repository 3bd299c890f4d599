"""Checks uploads without decoding them, many at a time.

Records that the check accepts, `read_upload` accepts too; all others are left to `read_upload` (the slow path), which
decides. A property test checks this.
"""

from collections.abc import Callable, Sequence

from schemas.codec import Codec
from schemas.partitioner import partition_for
from tables.scan.layout import is_flat, layout_of
from tables.scan.plain import PlainEngine
from tables.scan.scanner import SLOW_PATH, Engine, FrameLayouts
from tables.upload_batch import UploadBatch
from tables.upload_record import UploadTopics

SCOPE_IDS = ("assignment_id", "course_id")
KINDS = (b"assignment:", b"course:")
Places = Sequence[int]  # of the captured fields of a record, as `Scanned` has them
AllPlaces = Callable[[], Sequence[Places]]  # a call, for making so many objects takes long
Check = Callable[[UploadBatch], tuple[Sequence[int], AllPlaces]]  # layouts, or SLOW_PATH


class UploadCheck:
    """Accepts uploads that are canonical, in their topic and partition, and under their scope key."""

    def __init__(
        self, codec: Codec, topics: UploadTopics, engine: Engine, captured: Sequence[str] = ()
    ) -> None:
        layouts = [
            (topic, frame, layout_of(schema, (*SCOPE_IDS, *captured)))
            for topic, catalogued in topics.by_name.items()
            for frame, (event_class, schema) in codec.schemas().items()
            if event_class in catalogued.carries and is_flat(schema)
        ]
        self._topics = [*(topic for topic, _, _ in layouts), None]  # the last is that of SLOW_PATH
        by_frame = [(frame, layout) for _, frame, layout in layouts]
        make = _plain_check if engine.name == PlainEngine.name else _compiled_check
        self._check = make(by_frame, topics.partitions)

    def accepts(self, batch: UploadBatch) -> Sequence[bool]:
        """Whether each record is accepted."""
        topics = self._topics
        layouts, _ = self._check(batch)
        return [
            topics[layout] == topic for layout, topic in zip(layouts, batch.topics, strict=True)
        ]

    def places(self, batch: UploadBatch) -> list[Places | None]:
        """The places of the captured fields of each record that is accepted; None for any other."""
        topics, skipped = self._topics, 2 * len(SCOPE_IDS)
        layouts, places = self._check(batch)
        return [
            place[skipped:] if topics[layout] == topic else None
            for layout, place, topic in zip(layouts, places(), batch.topics, strict=True)
        ]


def _plain_check(layouts: FrameLayouts, partitions: int) -> Check:
    scanner = PlainEngine().scanner(layouts)

    def check(batch: UploadBatch) -> tuple[list[int], AllPlaces]:
        found, places = scanner.scan([value or b"" for value in batch.values])
        checked = [
            layout
            if layout != SLOW_PATH and _is_key(key, partition, value or b"", place, partitions)
            else SLOW_PATH
            for layout, place, key, partition, value in zip(
                found, places, batch.keys, batch.partitions, batch.values, strict=True
            )
        ]
        return checked, lambda: places

    return check


def _is_key(
    key: bytes | None, partition: int, value: bytes, places: Places, partitions: int
) -> bool:
    """Whether a key is the kind and the bytes of the only id that is present, and belongs to the partition."""
    present = [number for number in range(len(KINDS)) if places[2 * number] >= 0]
    if len(present) != 1:
        return False
    start, end = places[2 * present[0] : 2 * present[0] + 2]
    expected = KINDS[present[0]] + value[start:end]
    return key == expected and partition_for(expected, partitions) == partition


def _compiled_check(layouts: FrameLayouts, partitions: int) -> Check:
    from tables.scan.compiled import CompiledScanner, ends_of  # import numba
    from tables.scan.scope_keys import ScopeKeys

    scanner, scope_keys = CompiledScanner(layouts), ScopeKeys(KINDS, partitions)

    def check(batch: UploadBatch) -> tuple[list[int], AllPlaces]:
        values = [value or b"" for value in batch.values]
        joined, ends = b"".join(values), ends_of(values)
        scanned = scanner.scan_joined(joined, ends)
        keys = [key or b"" for key in batch.keys]
        scope_keys.refuse_others(scanned, joined, ends, keys, batch.partitions)
        return scanned[0].tolist(), scanned[1].tolist

    return check
