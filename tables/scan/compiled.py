"""The compiled engine: one function that reads any field table, compiled once and then loaded from its cache.

Compiled functions work on addresses (`memory`). A table is one row of numbers per value, so that a new schema needs no
compiler.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from tables.scan.hashing import hash_of
from tables.scan.layout import (
    FRAME_BYTES,
    STABLE,
    TWO_BYTES,
    Boolean,
    Identifier,
    Items,
    Layout,
    Number,
    Text,
    Value,
    Word,
)
from tables.scan.memory import byte_at, eight_bytes_at, four_bytes_at
from tables.scan.scanner import FrameLayouts, Scanned

TEXT, IDENTIFIER, WORD, NUMBER, BOOLEAN, ITEMS = range(6)  # the texts come first
# columns of a field table
KIND, IS_OPTIONAL, MINIMUM, MAXIMUM, CAPTURE, VALUES, FIRST_LOW, FIRST_HIGH, REST_LOW, REST_HIGH = (
    range(10)
)
LEAST_BYTES, MOST_BYTES = FIRST_LOW, FIRST_HIGH  # of a number
IS_DISTINCT = FIRST_LOW  # of items
MAX_PROBES = (
    64  # longer runs mean that somebody chose colliding ids: the record takes the slow path
)
NO_CAPTURE = -1
DAMAGED = -1  # in place of an address
Int64s = np.ndarray[Any, np.dtype[np.int64]]
Int32s = np.ndarray[Any, np.dtype[np.int32]]
LOW_BITS, HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
ZERO = np.uint64(0)


class CompiledEngine:
    """Scans all records of a call by one call of a compiled function, which does not hold the interpreter's lock."""

    name = "numba"

    def scanner(self, layouts: FrameLayouts) -> "CompiledScanner":
        return CompiledScanner(layouts)


class CompiledScanner:
    """Scans records that are joined to one piece of memory."""

    def __init__(self, layouts: FrameLayouts) -> None:
        self._frames = np.array([_word_of(frame) for frame, _ in layouts], np.int64)
        tables = [_table_of(layout) for _, layout in layouts]
        self._tables = np.array([row for table in tables for row in table], np.int64)
        self._ends = np.cumsum([len(table) for table in tables], dtype=np.int64)
        self._captures = max((len(layout.captured) for _, layout in layouts), default=0)

    def scan(self, records: Sequence[bytes]) -> Scanned:
        ends = ends_of(records)
        scanned = self.scan_joined(b"".join(records), ends)
        return Scanned(scanned[0].tolist(), scanned[1].tolist())

    def scan_joined(self, joined: bytes, ends: Int64s) -> tuple[Int32s, Int32s]:
        """The layouts and the places (see `Scanned`) of records that end at these positions of their joined bytes."""
        layouts = np.empty(len(ends), np.int32)
        places = np.empty((len(ends), 2 * self._captures), np.int32)
        scan_records(
            address_of(joined), ends, self._frames, self._ends, self._tables, layouts, places
        )
        return layouts, places


def ends_of(records: Sequence[bytes]) -> Int64s:
    """Where each record ends if they are joined."""
    return np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))


def address_of(joined: bytes) -> int:
    """The address of the first byte; valid while the bytes are referenced."""
    return int(np.frombuffer(joined, np.uint8).ctypes.data) if joined else 0


def _word_of(frame: bytes) -> int:
    """The last four bytes of a frame in the machine's order; the first one is 0 in every frame."""
    return int(np.frombuffer(frame, np.uint32, 1, 1)[0])


def _table_of(layout: Layout) -> list[list[int]]:
    rows = []
    for field in layout.fields:
        number = layout.capture_of(field)
        capture = NO_CAPTURE if number is None else number
        rows.append(_row(field.value, int(field.is_optional), capture))
        if isinstance(field.value, Items):
            rows += [_row(text, 0, NO_CAPTURE) for text in field.value.texts]
    return rows


def _row(value: Value, is_optional: int, capture: int) -> list[int]:
    match value:
        case Text(maximum):
            return [TEXT, is_optional, 1, maximum, capture, 0, 0, 0, 0, 0]
        case Identifier(maximum):
            return [IDENTIFIER, is_optional, 1, maximum, capture, 0, 0, 0, 0, 0]
        case Word(minimum, maximum, first, rest):
            sets = [*_bits_of(first), *_bits_of(rest)]
            return [WORD, is_optional, minimum, maximum, capture, 0, *sets]
        case Number(minimum, least, most):
            return [NUMBER, is_optional, minimum, 0, capture, 0, least, most, 0, 0]
        case Boolean():
            return [BOOLEAN, is_optional, 0, 0, capture, 0, 0, 0, 0, 0]
        case Items(minimum, maximum, texts, is_distinct):
            return [ITEMS, is_optional, minimum, maximum, capture, len(texts), is_distinct, 0, 0, 0]


def _bits_of(characters: frozenset[int]) -> tuple[int, int]:
    """A set of ASCII characters as two int64: of the characters below 64, and of the others."""
    bits = sum(1 << character for character in characters)
    low, high = np.array([bits & (1 << 64) - 1, bits >> 64], np.uint64).astype(np.int64)
    return int(low), int(high)


@njit(nogil=True)
def _scan_record(start, end, tables, row, last_row, places):
    for place in range(len(places)):
        places[place] = -1
    at = start + FRAME_BYTES
    while row < last_row:
        if tables[row, IS_OPTIONAL]:
            if at >= end:
                return False
            branch = byte_at(at)
            at += 1
            if branch == 0:
                row += 1 + tables[row, VALUES]
                continue
            if branch != 2:
                return False
        kind = tables[row, KIND]
        if kind <= WORD:
            size, at = _length(at, end, 2 * tables[row, MINIMUM], 2 * tables[row, MAXIMUM])
            value, at = at, at + size
            if size == DAMAGED or at > end:
                return False
            if kind == TEXT:
                if not _is_text(value, size):
                    return False
            elif kind == IDENTIFIER:
                if not _is_id(value, size) or not _is_text(value, size):
                    return False
            elif not _is_word(value, size, tables, row):
                return False
        elif kind == NUMBER:
            value, at = at, _after_number(at, end, tables, row)
            if at == DAMAGED:
                return False
        elif kind == BOOLEAN:
            value = at
            if at >= end or byte_at(at) > 1:
                return False
            at += 1
        else:
            value = at
            at = _after_items(at, end, tables, row)
            if at == DAMAGED:
                return False
        capture = tables[row, CAPTURE]
        if capture >= 0:
            places[2 * capture] = value - start
            places[2 * capture + 1] = at - start
        row += 1 + tables[row, VALUES]
    return at == end


@njit(nogil=True)
def _after_items(at, end, tables, row):
    """The end of an array in one block, or DAMAGED."""
    count, at = _length(at, end, 2 * tables[row, MINIMUM], 2 * tables[row, MAXIMUM])
    if count == DAMAGED:
        return DAMAGED
    values = tables[row, VALUES]
    slots = 2  # of a hash table of the first fields, at least half of them empty
    while slots < 2 * count:
        slots *= 2
    hashes = np.zeros(slots if tables[row, IS_DISTINCT] else 0, np.int64)
    for _ in range(count):
        for value in range(row + 1, row + 1 + values):
            size, at = _length(at, end, 2, 2 * tables[value, MAXIMUM])
            if size == DAMAGED or at + size > end or not _is_text(at, size):
                return DAMAGED
            if value == row + 1 and len(hashes) and not _is_new(hash_of(at, size), hashes):
                return DAMAGED
            at += size
    if at >= end or byte_at(at) != 0:  # a second block
        return DAMAGED
    return at + 1


@njit(nogil=True)
def _is_new(a_hash, hashes):
    """Enter a hash; False if it, or too many with its slot, are there already: the slow path compares the texts."""
    mask = len(hashes) - 1
    a_hash |= 1  # 0 is an empty slot
    slot = (a_hash >> 1) & mask
    for _ in range(MAX_PROBES):
        if hashes[slot] == 0:
            hashes[slot] = a_hash
            return True
        if hashes[slot] == a_hash:
            return False
        slot = (slot + 1) & mask
    return False


@njit(nogil=True)
def _length(at, end, minimum, maximum):
    """A length or count and the address after it, read from a minimal zigzag of up to two bytes; or DAMAGED."""
    if at >= end:
        return DAMAGED, at
    zigzag = byte_at(at)
    at += 1
    if zigzag >= 128:
        if at >= end:
            return DAMAGED, at
        zigzag += (byte_at(at) - 1) << 7
        at += 1
        if zigzag < 128 or zigzag >= TWO_BYTES:  # not minimal, or three bytes long
            return DAMAGED, at
    if zigzag & 1 or zigzag < minimum or zigzag > maximum:  # odd is negative
        return DAMAGED, at
    return zigzag >> 1, at


@njit(nogil=True)
def _after_number(at, end, tables, row):
    """The end of a minimal varint of a number within its limits, or DAMAGED."""
    if at >= end or byte_at(at) & 1:  # negative
        return DAMAGED
    start = at
    while byte_at(at) >= 128:
        at += 1
        if at >= end or at - start >= tables[row, MOST_BYTES]:
            return DAMAGED
    last = byte_at(at)
    at += 1
    if at - start < tables[row, LEAST_BYTES]:
        return DAMAGED
    if at - start == 1:
        return at if last >= 2 * tables[row, MINIMUM] else DAMAGED
    return at if last != 0 else DAMAGED


@njit(nogil=True)
def _is_text(start, size):
    """Whether bytes are UTF-8 without U+0000; quick if they are ASCII."""
    high = ZERO
    zeros = ZERO
    if size < 8:
        for at in range(start, start + size):
            byte = byte_at(at)
            if byte == 0:
                return False
            if byte >= 128:
                return _is_utf8(start, size)
        return True
    last = start + size - 8
    at = start
    while at < last:
        word = eight_bytes_at(at)
        high |= word
        zeros |= (word - LOW_BITS) & ~word
        at += 8
    word = eight_bytes_at(last)  # may overlap the one before
    high |= word
    zeros |= (word - LOW_BITS) & ~word
    if high & HIGH_BITS == ZERO:
        return zeros & HIGH_BITS == ZERO
    return _is_utf8(start, size)


@njit(nogil=True)
def _is_utf8(start, size):
    """Whether bytes are UTF-8 without U+0000, byte by byte: Unicode 16, table 3-7."""
    at = start
    end = start + size
    while at < end:
        first = byte_at(at)
        at += 1
        if first == 0:
            return False
        if first < 0x80:
            continue
        low, high = 0x80, 0xBF  # of the second byte
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                low = 0xA0
            elif first == 0xED:
                high = 0x9F
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                low = 0x90
            elif first == 0xF4:
                high = 0x8F
        else:
            return False
        if at + more > end:
            return False
        for _ in range(more):
            if not low <= byte_at(at) <= high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True


@njit(nogil=True)
def _is_id(start, size):
    """Whether UTF-8 is an id in normal form, as far as `STABLE` shows it; not if it is invalid UTF-8."""
    if byte_at(start) == 0x20 or byte_at(start + size - 1) == 0x20:
        return False
    dots = 0
    before = 0
    for at in range(start, start + size):
        byte = byte_at(at)
        if byte < 0x20 or byte == 0x7F or byte == 0x2F or byte == 0x5C:
            return False
        if before == 0xC2 and (byte <= 0xA0 or byte == 0xAD):  # U+0080 to U+00A0, U+00AD
            return False
        if byte >= 0xCC and not _is_stable(at, start + size):
            return False
        dots += byte == 0x2E
        before = byte
    return dots < size or size > 2


@njit(nogil=True)
def _is_stable(at, end):
    """Whether a character of two or three bytes, U+0300 or later, is one of `STABLE`."""
    lead = byte_at(at)
    if lead < 0xE0:
        if at + 2 > end:
            return False
        character = (lead & 0x1F) << 6 | byte_at(at + 1) & 0x3F
    elif lead < 0xF0:
        if at + 3 > end:
            return False
        character = (lead & 0x0F) << 12 | (byte_at(at + 1) & 0x3F) << 6 | byte_at(at + 2) & 0x3F
    else:
        return False
    for first, last in STABLE:  # noqa: SIM110  numba compiles no generator
        if first <= character <= last:
            return True
    return False


@njit(nogil=True)
def _is_word(start, size, tables, row):
    for at in range(start, start + size):
        byte = byte_at(at)
        if byte >= 128:
            return False
        column = FIRST_LOW if at == start else REST_LOW
        bits = tables[row, column + (byte >> 6)]
        if not (bits >> (byte & 63)) & 1:
            return False
    return True


# last, because it is compiled or loaded from the cache here
@njit(
    "void(int64, int64[::1], int64[::1], int64[::1], int64[:, ::1], int32[::1], int32[:, ::1])",
    cache=True,
    nogil=True,
)
def scan_records(base, ends, frames, table_ends, tables, layouts, places):
    """Scan each record with the table of its frame; see `Scanned` for the results."""
    start = 0
    for number in range(len(ends)):
        end = ends[number]
        layout = -1
        if end - start > FRAME_BYTES and byte_at(base + start) == 0:
            frame = four_bytes_at(base + start + 1)
            for index in range(len(frames)):
                if frames[index] == frame:
                    layout = index
                    break
        if layout >= 0:
            first_row = 0 if layout == 0 else table_ends[layout - 1]
            last_row = table_ends[layout]
            if not _scan_record(
                base + start, base + end, tables, first_row, last_row, places[number]
            ):
                layout = -1
        layouts[number] = layout
        start = end
