"""Compiled functions that look up prepared contexts and write outcomes.

Prepared contexts are in an arena of bytes, and in an open-addressed hash table of entries with linear probing: one row
of numbers per entry. A slot has the number of its entry plus one; 0 is an empty slot. Entries are never removed; one
that is forgotten keeps its key and gets a new part when it is needed again.
"""

from numba import njit

from tables.scan.hashing import hash_of
from tables.scan.memory import byte_at, copy_bytes, eight_bytes_at, put_byte

# columns of an entry
HASH, USE, KEY_AT, KEY_SIZE, PART_AT, PART_SIZE, KIND = range(7)
COLUMNS = 7
FORGOTTEN = -1  # a kind
LEFT = 2  # a kind; see batch_splicer.Kind
NOT_FOUND, SLOW = -1, -2  # in place of an entry
MAX_PROBES = (
    64  # longer runs mean that somebody chose colliding ids: those requests go the slow way
)
# columns of the heads of partitions: places of what precedes and what follows the offset
PREFIX_AT, PREFIX_SIZE, MIDDLE_AT, MIDDLE_SIZE = range(4)
FRAME_BYTES = 5
SHORT = 64  # the least length that takes two bytes


@njit(nogil=True)
def _are_equal(first, second, size):
    at = 0
    while at + 8 <= size:
        if eight_bytes_at(first + at) != eight_bytes_at(second + at):
            return False
        at += 8
    while at < size:
        if byte_at(first + at) != byte_at(second + at):
            return False
        at += 1
    return True


@njit(nogil=True)
def _find(start, size, use, key_hash, slots, entries, arena):
    """The entry of a key, or -1 - slot of the empty slot where it belongs, or the number of slots if there is none."""
    mask = len(slots) - 1
    slot = key_hash & mask
    for _ in range(MAX_PROBES):
        entry = slots[slot] - 1
        if entry < 0:
            return -1 - slot
        if (
            entries[entry, HASH] == key_hash
            and entries[entry, USE] == use
            and entries[entry, KEY_SIZE] == size
            and _are_equal(arena + entries[entry, KEY_AT], start, size)
        ):
            return entry
        slot = (slot + 1) & mask
    return len(slots)


@njit(
    "void(int64, int64[::1], int32[::1], int32[:, ::1], int64,"
    " int64, int32[::1], int64[:, ::1], int64, int32[::1])",
    cache=True,
    nogil=True,
)
def find_entries(base, ends, layouts, places, max_bytes, seed, slots, entries, arena, found):
    """The entry of each request's scope; NOT_FOUND if it must be prepared, SLOW if the request is left.

    max_bytes: of a request."""
    start = 0
    for number in range(len(ends)):
        if layouts[number] < 0 or ends[number] - start > max_bytes:
            found[number] = SLOW
        else:
            key, end = places[number, 0], places[number, 1]
            use = 0
            if key < 0:
                key, end = places[number, 2], places[number, 3]
                use = 2
            if places[number, 4] >= 0:
                use += 1
            address = base + start + key
            size = end - key
            key_hash = hash_of(address, size, seed + use)
            entry = _find(address, size, use, key_hash, slots, entries, arena)
            if entry >= len(entries):
                found[number] = SLOW
            elif entry < 0 or entries[entry, KIND] == FORGOTTEN:
                found[number] = NOT_FOUND
            else:
                found[number] = SLOW if entries[entry, KIND] == LEFT else entry
        start = ends[number]


@njit(
    "int64(int64, int64[::1], int64[::1], int64, int64[::1], int64[::1],"
    " int64, int32[::1], int64[:, ::1], int64, int64, int64[::1])",
    cache=True,
    nogil=True,
)
def put_entries(
    keys, key_ends, uses, parts, part_ends, kinds, seed, slots, entries, arena, arena_size, counts
):
    """Store parts by key; returns how many were stored before the table was full.

    counts: the number of entries, and the bytes of the arena that are in use.
    """
    key, part = 0, 0
    for number in range(len(key_ends)):
        key_size, part_size = key_ends[number] - key, part_ends[number] - part
        key_hash = hash_of(keys + key, key_size, seed + uses[number])
        entry = _find(keys + key, key_size, uses[number], key_hash, slots, entries, arena)
        if entry < 0:
            is_full = counts[0] == len(entries) or counts[1] + key_size + part_size > arena_size
            if is_full:
                return number
            slots[-1 - entry] = counts[0] + 1
            entry = counts[0]
            counts[0] += 1
            entries[entry, HASH], entries[entry, USE] = key_hash, uses[number]
            entries[entry, KEY_AT], entries[entry, KEY_SIZE] = counts[1], key_size
            copy_bytes(arena + counts[1], keys + key, key_size)
            counts[1] += key_size
        elif entry >= len(entries) or counts[1] + part_size > arena_size:
            if entry < len(entries):
                return number
            entry = -1  # too many probes: it stays out
        if entry >= 0:
            entries[entry, PART_AT], entries[entry, PART_SIZE] = counts[1], part_size
            entries[entry, KIND] = kinds[number]
            copy_bytes(arena + counts[1], parts + part, part_size)
            counts[1] += part_size
        key, part = key_ends[number], part_ends[number]
    return len(key_ends)


@njit(
    "void(int64, int64[::1], int64[::1], int64, int32[::1], int64[:, ::1], int64)",
    cache=True,
    nogil=True,
)
def forget_entries(keys, key_ends, uses, seed, slots, entries, arena):
    """Forget the parts of keys, so that they are prepared anew."""
    key = 0
    for number in range(len(key_ends)):
        size = key_ends[number] - key
        key_hash = hash_of(keys + key, size, seed + uses[number])
        entry = _find(keys + key, size, uses[number], key_hash, slots, entries, arena)
        if 0 <= entry < len(entries):
            entries[entry, KIND] = FORGOTTEN
        key = key_ends[number]


@njit("void(int64[:, ::1], int64, int32[::1])", cache=True, nogil=True)
def fill_slots(entries, count, slots):
    """Enter entries into empty slots, after the table has grown."""
    mask = len(slots) - 1
    for entry in range(count):
        slot = entries[entry, HASH] & mask
        while slots[slot]:
            slot = (slot + 1) & mask
        slots[slot] = entry + 1


@njit(nogil=True)
def _digits_of(number):
    digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


@njit(nogil=True)
def put_long(at, number):
    """Write a non-negative number as an Avro long; returns where it ends."""
    rest = number << 1
    while rest > 127:
        put_byte(at, rest & 127 | 128)
        rest >>= 7
        at += 1
    put_byte(at, rest)
    return at + 1


@njit(nogil=True)
def _size_of_long(number):
    rest = number << 1
    size = 1
    while rest > 127:
        rest >>= 7
        size += 1
    return size


@njit(
    "void(int64[::1], int32[::1], int32[:, ::1], int32[::1], int64[:, ::1],"
    " int64[::1], int64[::1], int64[:, ::1], int64[::1], int64[::1])",
    cache=True,
    nogil=True,
)
def measure_outcomes(
    ends, layouts, places, found, entries, partitions, offsets, heads, suffix_ends, outcome_ends
):
    """Where each outcome ends if they are joined; an outcome of a request without an entry has no bytes."""
    start, outcome_end = 0, 0
    for number in range(len(ends)):
        entry = found[number]
        if entry >= 0:
            head, layout = partitions[number], layouts[number]
            id_size = heads[head, PREFIX_SIZE] + _digits_of(offsets[number])
            outcome_end += (
                _size_of_long(id_size)
                + id_size
                + heads[head, MIDDLE_SIZE]
                + _size_of_long(offsets[number])
                + entries[entry, PART_SIZE]
                + (ends[number] - start)  # its own frame stands for that of the outcome
                + suffix_ends[layout]
                - (suffix_ends[layout - 1] if layout else 0)
            )
            prompt = places[number, 4]
            if prompt >= 0 and entries[entry, KIND] == 0:
                size = places[number, 5] - prompt
                outcome_end += size + (2 if size < SHORT else 3)
        outcome_ends[number] = outcome_end
        start = ends[number]


@njit(
    "void(int64, int64[::1], int32[::1], int32[:, ::1], int32[::1], int64[:, ::1], int64,"
    " int64[::1], int64[::1], int64[:, ::1], int64[::1], int64, int64, int64)",
    cache=True,
    nogil=True,
)
def write_outcomes(
    base, ends, layouts, places, found, entries, arena,
    partitions, offsets, heads, suffix_ends, suffixes, constants, outcomes,
):  # fmt: skip
    """Write the outcomes of all requests that have an entry, one after the other.

    constants: the frames of prepared and of unresolved outcomes, then what the heads refer to.
    """
    at = outcomes
    start = 0
    for number in range(len(ends)):
        entry = found[number]
        if entry >= 0:
            head, layout, offset = partitions[number], layouts[number], offsets[number]
            kind = entries[entry, KIND]
            copy_bytes(at, constants + kind * FRAME_BYTES, FRAME_BYTES)
            size, digits = heads[head, PREFIX_SIZE], _digits_of(offset)
            at = put_long(at + FRAME_BYTES, size + digits)
            copy_bytes(at, constants + heads[head, PREFIX_AT], size)
            at += size + digits
            rest = offset
            for place in range(1, digits + 1):
                put_byte(at - place, 48 + rest % 10)
                rest //= 10
            size = heads[head, MIDDLE_SIZE]
            copy_bytes(at, constants + heads[head, MIDDLE_AT], size)
            at = put_long(at + size, offset)
            size = entries[entry, PART_SIZE]
            copy_bytes(at, arena + entries[entry, PART_AT], size)
            at += size
            request = base + start
            prompt = places[number, 4]
            if prompt >= 0 and kind == 0:
                size = places[number, 5] - prompt
                before = 2 if size < SHORT else 3  # its branch and length
                copy_bytes(at, request + prompt - before, before + size)
                at += before + size
            size = ends[number] - start - FRAME_BYTES
            copy_bytes(at, request + FRAME_BYTES, size)
            at += size
            suffix = suffix_ends[layout - 1] if layout else 0
            size = suffix_ends[layout] - suffix
            copy_bytes(at, suffixes + suffix, size)
            at += size
        start = ends[number]
