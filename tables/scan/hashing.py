"""Hashes texts in memory, for compiled functions. Not against somebody who chooses texts that collide."""

import numpy as np
from numba import njit

from tables.scan.memory import byte_at, eight_bytes_at

FACTOR = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(32)
EIGHT = np.uint64(8)
NO_BYTES = np.uint64(0)


@njit(nogil=True)
def hash_of(start, size, seed=0):
    """A hash of 64 bits of the bytes at an address, as an int64."""
    state = np.uint64(seed) ^ (np.uint64(size) * FACTOR)
    at = start
    end = start + size
    while at + 8 <= end:
        state = (state ^ eight_bytes_at(at)) * FACTOR
        state ^= state >> SHIFT
        at += 8
    rest = NO_BYTES
    while at < end:
        rest = (rest << EIGHT) | np.uint64(byte_at(at))
        at += 1
    state = (state ^ rest) * FACTOR
    return np.int64(state ^ (state >> SHIFT))
