"""Splices batches in plain Python. Pure."""

from collections.abc import Collection, Sequence

from processors.outcomes.batch_splicer import (
    Kind,
    OutcomeParts,
    ScopeUse,
    Spliced,
    uses_of,
    usual_use_of,
)
from processors.outcomes.encoding import PRESENT, long
from schemas.topics import MAX_REQUEST_BYTES
from tables.scan.layout import FRAME_BYTES
from tables.scan.plain import SHORT, Scan, compile_scan

ENTRY_BYTES = 400  # of a prepared context, beside its id and its context part
MAX_ENTRY_BYTES = 4_000  # of any but a very long one
MAX_DIGITS = 20  # of an offset
Entry = tuple[Kind, bytes]


class PlainSplicer:
    """Splices one request after the other. Prepared contexts take about `max_bytes` of memory at most."""

    def __init__(self, parts: OutcomeParts, max_bytes: int) -> None:
        self._parts = parts
        self._frames = parts.frames()
        self._max_bytes = max_bytes
        self._bytes = 0
        # by ScopeUse.number: the kind and the context part of an id
        self._prepared: tuple[dict[bytes, Entry], ...] = ({}, {}, {}, {})
        self._layouts: list[object] = []
        self._scans: dict[bytes, tuple[Scan, bytes]] = {}
        self._heads: dict[int, tuple[list[bytes], bytes]] = {}

    def splice(
        self, requests: Sequence[bytes], partitions: Sequence[int], offsets: Sequence[int]
    ) -> Spliced:
        self._learn(partitions)
        scans, heads, prepared, frames = self._scans, self._heads, self._prepared, self._frames
        prepared_kind, left = Kind.PREPARED, Kind.LEFT
        values, are_prepared = list[bytes | None](), list[bool]()
        for request, partition, offset in zip(requests, partitions, offsets, strict=True):
            scan, suffix = scans.get(request[:FRAME_BYTES], NO_SCAN)
            places = scan(request)
            if places is None or len(request) > MAX_REQUEST_BYTES:
                values.append(None)
                are_prepared.append(False)
                continue
            start, end, course, course_end, prompt, prompt_end = places
            number = 1 if prompt >= 0 else 0
            if start < 0:
                number, start, end = number + 2, course, course_end
            scope_id = request[start:end]
            kind, part = prepared[number].get(scope_id) or self._prepare(number, scope_id)
            is_prepared = kind is prepared_kind
            are_prepared.append(is_prepared)
            if kind is left:
                values.append(None)
                continue
            digits = b"%d" % offset
            starts, middle = heads[partition]
            brought = b""
            if prompt >= 0 and is_prepared:
                length_bytes = 1 if prompt_end - prompt < SHORT else 2
                brought = PRESENT + request[prompt - length_bytes : prompt_end]
            values.append(
                b"".join(
                    (
                        frames[kind],
                        starts[len(digits)],
                        digits,
                        middle,
                        long(offset),
                        part,
                        brought,
                        request[FRAME_BYTES:],
                        suffix,
                    )
                )
            )
        return Spliced(values, are_prepared)

    def prepare(self, scope_keys: Collection[str]) -> bool:
        for use in map(usual_use_of, scope_keys):
            if self._bytes + MAX_ENTRY_BYTES > self._max_bytes:
                return False
            self._prepare(use.number, use.id)
        return True

    def forget(self, scope_keys: Collection[str]) -> None:
        if any(self._prepared):
            for use in uses_of(scope_keys):
                self._prepared[use.number].pop(use.id, None)

    def _learn(self, partitions: Sequence[int]) -> None:
        """Get ready for layouts and partitions that are new."""
        layouts = self._parts.layouts()
        if layouts != self._layouts:
            self._layouts = list[object](layouts)
            self._scans = {
                frame: (compile_scan(layout), suffix) for frame, layout, suffix in layouts
            }
        for partition in {*partitions} - self._heads.keys():
            prefix, middle = self._parts.head_of(partition)
            starts = [long(len(prefix) + digits) + prefix for digits in range(MAX_DIGITS)]
            self._heads[partition] = (starts, middle)

    def _prepare(self, number: int, scope_id: bytes) -> Entry:
        shared = self._parts.shared_part(ScopeUse(number, scope_id))
        size = ENTRY_BYTES + len(scope_id) + len(shared.encoded)
        if self._bytes + size > self._max_bytes:
            for entries in self._prepared:
                entries.clear()
            self._bytes = 0
        self._bytes += size
        entry = self._prepared[number][scope_id] = (shared.kind, shared.encoded)
        return entry


def _no_scan(_request: bytes) -> None:
    return None


NO_SCAN: tuple[Scan, bytes] = (_no_scan, b"")
