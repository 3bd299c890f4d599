"""Splices batches by compiled functions: a batch is one piece of memory, prepared contexts are another."""

import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from processors.outcomes import splice_kernels as kernels
from processors.outcomes.batch_splicer import (
    Kind,
    OutcomeParts,
    ScopeUse,
    Spliced,
    uses_of,
    usual_use_of,
)
from processors.outcomes.compiled_parts import CompiledParts, EncodedParts
from schemas.topics import MAX_REQUEST_BYTES
from tables.scan.compiled import CompiledScanner, Int32s, Int64s, address_of, ends_of
from tables.scan.scanner import FrameLayouts

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
CHUNK = 512  # requests; their bytes and those of their outcomes fit into the processor's cache
FIRST_ENTRIES, FIRST_BYTES = 1024, 1024 * 1024
ENTRY_BYTES = 8 * kernels.COLUMNS + 2 * 4  # with two slots


class ContextTable:
    """Prepared contexts, by the use of their scope. It grows up to about `max_bytes` of memory.

    While it grows it has two copies for a moment.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._seed = int.from_bytes(os.urandom(7))  # ids do not tell their slots
        self._counts = np.zeros(2, np.int64)  # of entries, and of bytes in the arena
        self._arena = np.empty(min(FIRST_BYTES, max_bytes), np.uint8)
        self._entries = np.zeros((FIRST_ENTRIES, kernels.COLUMNS), np.int64)
        self._slots = np.zeros(2 * FIRST_ENTRIES, np.int32)

    def find(self, joined: bytes, ends: Int64s, layouts: Int32s, places: Int32s) -> Int32s:
        """The entry of each request; NOT_FOUND or SLOW if it has none."""
        found = np.empty(len(ends), np.int32)
        kernels.find_entries(
            address_of(joined),
            ends,
            layouts,
            places,
            MAX_REQUEST_BYTES,
            self._seed,
            self._slots,
            self._entries,
            self.arena,
            found,
        )
        return found

    @property
    def entries(self) -> Int64s:
        return self._entries

    @property
    def arena(self) -> int:
        """The address of the parts."""
        return int(self._arena.ctypes.data)

    def put(self, uses: Sequence[ScopeUse], parts: EncodedParts) -> bool:
        """Store parts; False if not all of them fit."""
        ids = [use.id for use in uses]
        keys = b"".join(ids)
        self._make_room(len(uses), len(keys) + int(parts.ends[-1]))
        stored = kernels.put_entries(
            address_of(keys),
            ends_of(ids),
            np.fromiter((use.number for use in uses), np.int64, len(uses)),
            int(parts.joined.ctypes.data),
            parts.ends,
            parts.kinds,
            self._seed,
            self._slots,
            self._entries,
            self.arena,
            len(self._arena),
            self._counts,
        )
        return bool(stored == len(uses))

    def forget(self, uses: Sequence[ScopeUse]) -> None:
        """Prepare the parts of these uses anew when they are needed."""
        if self._counts[0]:
            ids = [use.id for use in uses]
            keys = b"".join(ids)
            kernels.forget_entries(
                address_of(keys),
                ends_of(ids),
                np.array([use.number for use in uses], np.int64),
                self._seed,
                self._slots,
                self._entries,
                self.arena,
            )

    def clear(self) -> None:
        """Forget every part."""
        self._counts[:] = 0
        self._slots[:] = 0

    def _make_room(self, entries: int, size: int) -> None:
        """Grow to hold so many more entries and bytes, as far as the bound allows."""
        count, used = int(self._counts[0]), int(self._counts[1])
        capacity = len(self._entries)
        while capacity < count + entries and self._fits(2 * capacity, len(self._arena)):
            capacity *= 2
        if capacity > len(self._entries):
            grown = np.zeros((capacity, kernels.COLUMNS), np.int64)
            grown[:count] = self._entries[:count]
            self._entries, self._slots = grown, np.zeros(2 * capacity, np.int32)
            kernels.fill_slots(self._entries, count, self._slots)
        wanted = len(self._arena)
        while wanted < used + size and self._fits(capacity, 2 * wanted):
            wanted *= 2
        if wanted > len(self._arena):
            arena = np.empty(wanted, np.uint8)
            arena[:used] = self._arena[:used]
            self._arena = arena

    def _fits(self, entries: int, size: int) -> bool:
        return entries * ENTRY_BYTES + size <= self._max_bytes


class CompiledSplicer:
    """Splices all requests of a batch by a few calls of compiled functions."""

    def __init__(self, parts: OutcomeParts, max_bytes: int) -> None:
        self._parts = parts
        self._compiled_parts = CompiledParts(parts)
        self._table = ContextTable(max_bytes)
        self._layouts: list[object] = []
        self._heads = np.zeros((0, 4), np.int64)
        self._constants = b"".join(parts.frames())

    def splice(
        self, requests: Sequence[bytes], partitions: Sequence[int], offsets: Sequence[int]
    ) -> Spliced:
        self._learn(max(partitions, default=-1))
        values, are_prepared = list[bytes | None](), list[bool]()
        for start in range(0, len(requests), CHUNK):
            chunk = slice(start, start + CHUNK)
            spliced = self._splice_chunk(requests[chunk], partitions[chunk], offsets[chunk])
            values += spliced[0]
            are_prepared += spliced[1]
        return Spliced(values, are_prepared)

    def _splice_chunk(
        self, requests: Sequence[bytes], partitions: Sequence[int], offsets: Sequence[int]
    ) -> tuple[list[bytes | None], list[bool]]:
        joined, ends = b"".join(requests), ends_of(requests)
        layouts, places = self._scanner.scan_joined(joined, ends)
        found = self._entries_of(joined, ends, layouts, places)
        heads = np.array(partitions, np.int64), np.array(offsets, np.int64), self._heads
        outcome_ends = np.empty(len(ends), np.int64)
        entries = self._table.entries
        kernels.measure_outcomes(
            ends, layouts, places, found, entries, *heads, self._suffix_ends, outcome_ends
        )
        outcomes = np.empty(int(outcome_ends[-1]), np.uint8)
        kernels.write_outcomes(
            address_of(joined),
            ends,
            layouts,
            places,
            found,
            entries,
            self._table.arena,
            *heads,
            self._suffix_ends,
            address_of(self._suffixes),
            address_of(self._constants),
            int(outcomes.ctypes.data),
        )
        return self._results(outcomes, outcome_ends, found)

    def _results(
        self, outcomes: Bytes, ends: Int64s, found: Int32s
    ) -> tuple[list[bytes | None], list[bool]]:
        end_list, view = ends.tolist(), memoryview(outcomes.data)
        values: list[bytes | None] = [
            view[start:end].tobytes() for start, end in zip([0, *end_list], end_list, strict=False)
        ]
        left = np.flatnonzero(found < 0)
        for number in left.tolist():
            values[number] = None
        are_prepared = self._table.entries[found, kernels.KIND] == Kind.PREPARED
        are_prepared[left] = False
        return values, are_prepared.tolist()

    def _entries_of(self, joined: bytes, ends: Int64s, layouts: Int32s, places: Int32s) -> Int32s:
        """The entry of each request; those that are missing are prepared, as far as they fit."""
        found = self._table.find(joined, ends, layouts, places)
        for is_last in (False, True):
            uses = self._missing_uses(joined, ends, places, found)
            if not uses:
                return found
            are_stored = self._prepare(uses)
            if not are_stored and not is_last:
                self._table.clear()  # the entries of this batch are prepared once more
            found = self._table.find(joined, ends, layouts, places)
            if are_stored:
                break
        found[found == kernels.NOT_FOUND] = kernels.SLOW
        return found

    def _prepare(self, uses: Sequence[ScopeUse]) -> bool:
        """Store the parts of uses; False if not all of them fit."""
        return self._table.put(uses, self._compiled_parts.make(uses))

    def _missing_uses(
        self, joined: bytes, ends: Int64s, places: Int32s, found: Int32s
    ) -> list[ScopeUse]:
        missing = np.flatnonzero(found == kernels.NOT_FOUND)
        starts = np.where(missing > 0, ends[missing - 1], 0).tolist()
        uses = dict[ScopeUse, None]()
        for start, place in zip(starts, places[missing].tolist(), strict=True):
            first, end, course, course_end, prompt, _ = place
            use = 1 if prompt >= 0 else 0
            if first < 0:
                use, first, end = use + 2, course, course_end
            uses[ScopeUse(use, joined[start + first : start + end])] = None
        return list(uses)

    def prepare(self, scope_keys: Collection[str]) -> bool:
        uses = [usual_use_of(scope_key) for scope_key in scope_keys]
        return not uses or self._prepare(uses)

    def forget(self, scope_keys: Collection[str]) -> None:
        self._table.forget(uses_of(scope_keys))

    def _learn(self, last_partition: int) -> None:
        """Get ready for layouts and partitions that are new."""
        layouts = self._parts.layouts()
        if layouts != self._layouts:
            self._layouts = list[object](layouts)
            frames: FrameLayouts = [(frame, layout) for frame, layout, _ in layouts]
            self._scanner = CompiledScanner(frames)
            suffixes = [suffix for _, _, suffix in layouts]
            self._suffixes, self._suffix_ends = b"".join(suffixes), ends_of(suffixes)
        if last_partition >= len(self._heads):
            heads, constants = [], b"".join(self._parts.frames())
            for partition in range(last_partition + 1):
                prefix, middle = self._parts.head_of(partition)
                prefix_at, middle_at = len(constants), len(constants) + len(prefix)
                heads.append((prefix_at, len(prefix), middle_at, len(middle)))
                constants += prefix + middle
            self._heads, self._constants = np.array(heads, np.int64), constants
