"""Compares record keys and partitions with the scope ids of scanned uploads; compiled.

A scope key is a kind, such as `assignment:`, and an id. Its partition is that of Kafka's default partitioner, as in
`schemas.partitioner`.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from tables.scan.compiled import Int32s, Int64s, address_of, ends_of
from tables.scan.memory import byte_at, four_bytes_at

SEED, MULTIPLIER, MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


class ScopeKeys:
    """The kinds of scope keys, in the order of the ids that a scan captures, and the number of partitions."""

    def __init__(self, kinds: Sequence[bytes], partitions: int) -> None:
        self._kinds, self._kind_ends = b"".join(kinds), ends_of(kinds)
        self._partitions = partitions

    def refuse_others(
        self,
        scanned: tuple[Int32s, Int32s],
        joined: bytes,
        ends: Int64s,
        keys: Sequence[bytes],
        partitions: Sequence[int],
    ) -> None:
        """Put the records on the slow path whose key or partition is not that of the one id that they have."""
        joined_keys = b"".join(keys)
        refuse_others(
            *(address_of(joined), ends, *scanned),
            *(address_of(joined_keys), ends_of(keys)),
            *(address_of(self._kinds), self._kind_ends),
            *(np.fromiter(partitions, np.int64, len(partitions)), self._partitions),
        )


@njit(nogil=True)
def _murmur2(start, size):
    value = SEED ^ size
    at = start
    for _ in range(size >> 2):
        word = four_bytes_at(at) * MULTIPLIER & MASK
        value = (value * MULTIPLIER & MASK) ^ ((word ^ word >> 24) * MULTIPLIER & MASK)
        at += 4
    rest = size & 3
    if rest:
        tail = 0
        for number in range(rest):
            tail |= byte_at(at + number) << 8 * number
        value = (value ^ tail) * MULTIPLIER & MASK
    value = (value ^ value >> 13) * MULTIPLIER & MASK
    return value ^ value >> 15


@njit(nogil=True)
def _are_equal(one, other, size):
    at = 0
    while at < size and byte_at(one + at) == byte_at(other + at):
        at += 1
    return at == size


@njit(nogil=True)
def _is_key(key, size, record, places, kinds, kind_ends):
    """Whether a key is the kind and the bytes of the only id that is present."""
    found = -1
    for number in range(len(kind_ends)):
        if places[2 * number] >= 0:
            if found >= 0:
                return False
            found = number
    if found < 0:
        return False
    kind = 0 if found == 0 else kind_ends[found - 1]
    kind_size = kind_ends[found] - kind
    start, end = places[2 * found], places[2 * found + 1]
    return (
        size == kind_size + end - start
        and _are_equal(key, kinds + kind, kind_size)
        and _are_equal(key + kind_size, record + start, end - start)
    )


# last, because it is compiled or loaded from the cache here
@njit(
    "void(int64, int64[::1], int32[::1], int32[:, ::1], int64, int64[::1], int64, int64[::1], int64[::1], int64)",
    cache=True,
    nogil=True,
)
def refuse_others(
    base,
    ends,
    layouts,
    places,
    keys,
    key_ends,
    kinds,
    kind_ends,
    partitions,
    partition_count,
):
    """See `ScopeKeys.refuse_others`."""
    start = 0
    key = 0
    for number in range(len(ends)):
        size = key_ends[number] - key
        if layouts[number] >= 0 and not (
            _is_key(keys + key, size, base + start, places[number], kinds, kind_ends)
            and (_murmur2(keys + key, size) & 0x7FFFFFFF) % partition_count == partitions[number]
        ):
            layouts[number] = -1
        start = ends[number]
        key = key_ends[number]
