"""Kafka's default partitioner, so that a key's partition can be told without a producer."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=4096)  # the hash is plain Python; who reads a scope asks for its roles in turn
def partition_for(key: bytes, partitions: int) -> int:
    """murmur2, sign bit cleared, modulo: Kafka's `BuiltInPartitioner` for keyed records."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
