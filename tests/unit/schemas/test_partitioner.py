"""The partition of a key, with the murmur2 values of Kafka's own tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.partitioner import partition_for

KAFKAS_HASHES = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "murmur2"), KAFKAS_HASHES.items())
@pytest.mark.parametrize("partitions", [1, 2, 3, 4, 7, 1000])
def test_a_key_gets_the_same_partition_as_in_kafka(
    key: bytes, murmur2: int, partitions: int
) -> None:
    assert partition_for(key, partitions) == (murmur2 & 0x7FFFFFFF) % partitions


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_every_key_gets_an_existing_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_for(key, partitions) < partitions
