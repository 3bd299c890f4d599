"""Kafka's default partitioner: the partition of a key, without a producer."""

from functools import lru_cache
from struct import unpack_from

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
MASK = 0xFFFFFFFF


@lru_cache(maxsize=4096)  # one scope is looked up once per role
def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2, sign bit cleared, modulo: Kafka's `BuiltInPartitioner` for keyed records."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """The hash as an unsigned number of 32 bits, as Kafka's `Utils.murmur2` computes it.

    aiokafka computes it byte by byte, which takes twice as long, and a rebuilt replica hashes every key once.
    """
    words = len(key) >> 2
    value = SEED ^ len(key)
    for word in unpack_from(f"<{words}I", key):
        word = word * MULTIPLIER & MASK
        value = (value * MULTIPLIER ^ (word ^ word >> 24) * MULTIPLIER) & MASK
    if rest := key[words << 2 :]:
        value = (value ^ int.from_bytes(rest, "little")) * MULTIPLIER & MASK
    value = (value ^ value >> 13) * MULTIPLIER & MASK
    return value ^ value >> 15
