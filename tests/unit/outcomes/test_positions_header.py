"""The header with upload positions, written and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.outcomes.positions_header import encode_positions, read_positions
from schemas.coordinates import Partition
from schemas.errors import Malformed
from schemas.topics import Topics


def test_the_header_has_the_upload_positions_by_topic_and_partition() -> None:
    topics = Topics()
    instructions, prompts, rubrics = (topic.name for topic in topics.uploads)
    positions = {
        Partition(rubrics, 0): 0,
        Partition(instructions, 10): 4,
        Partition(instructions, 2): 3,
        Partition(prompts, 1): 8,
        Partition(prompts, 0): 7,
    }
    header = encode_positions(positions, topics, 11)
    assert header.startswith(
        b"0 0 3 0 0 0 0 0 0 0 4|7 8 0 0 0 0 0 0 0 0 0|0 0 0 0 0 0 0 0 0 0 0|crc32:"
    )


def test_a_partition_without_a_position_is_zero_in_its_place() -> None:
    topics = Topics().under("p-")
    assert encode_positions({}, topics, 2).startswith(b"0 0|0 0|0 0|")
    known = {Partition(topics.instructions.name, 1): 5}
    assert encode_positions(known, topics, 2).startswith(b"0 5|0 0|0 0|")


@given(st.integers(1, 12), st.data())
def test_an_encoded_header_is_read_back(partitions: int, data: st.DataObject) -> None:
    topics = Topics().under("p-")
    positions = {
        Partition(topic.name, number): data.draw(st.integers(0, 2**63 - 1))
        for topic in topics.uploads
        for number in range(partitions)
    }
    assert read_positions(encode_positions(positions, topics, partitions), topics) == positions


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"1|2",
        b"1|2|3|4",
        b"1|x|3",
        b"1|-2|3",
        b"1 |2|3",
        b"\xff||",
        b"1|9223372036854775808|3",
    ],
)
def test_a_header_of_another_form_is_refused(header: bytes) -> None:
    with pytest.raises(Malformed):
        read_positions(header, Topics())


def test_a_header_of_a_release_without_checksums_is_read() -> None:
    topics = Topics()
    instructions, prompts, rubrics = (topic.name for topic in topics.uploads)
    expected = {Partition(instructions, 0): 3, Partition(prompts, 0): 4, Partition(rubrics, 0): 5}
    assert read_positions(b"3|4|5", topics) == expected


@given(st.data())
def test_positions_with_one_byte_altered_are_refused(data: st.DataObject) -> None:
    topics = Topics()
    positions = {
        Partition(topic.name, number): 90 + number for topic in topics.uploads for number in (0, 1)
    }
    header = bytearray(encode_positions(positions, topics, 2))
    header[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        read_positions(bytes(header), topics)
