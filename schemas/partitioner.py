"""Kafka's default partitioner: the partition of a key, without a producer."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=4096)  # the hash is slow plain Python, and one scope is looked up once per role
def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2, sign bit cleared, modulo: Kafka's `BuiltInPartitioner` for keyed records."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
