"""The upload positions that a join tells, written and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.positions import read_positions, told_positions
from schemas.errors import Malformed
from schemas.topics import Topics
from tables.replica import Partition


def test_a_join_tells_the_upload_positions_by_topic_and_partition() -> None:
    topics = Topics()
    instructions, prompts, rubrics = (topic.name for topic in topics.uploads)
    positions = {
        Partition(rubrics, 0): 0,
        Partition(instructions, 10): 4,
        Partition(instructions, 2): 3,
        Partition(prompts, 1): 8,
        Partition(prompts, 0): 7,
    }
    assert told_positions(positions, topics) == b"3 4|7 8|0|crc32:1417bfc2"


def test_a_join_before_any_upload_tells_three_empty_topics() -> None:
    assert told_positions({}, Topics().under("p-")) == b"|||crc32:9be01912"


@given(st.lists(st.lists(st.integers(0, 2**63 - 1), max_size=12), min_size=3, max_size=3))
def test_what_a_join_tells_is_read_back(offsets: list[list[int]]) -> None:
    topics = Topics().under("p-")
    positions = {
        Partition(topic.name, number): offset
        for topic, of_topic in zip(topics.uploads, offsets, strict=True)
        for number, offset in enumerate(of_topic)
    }
    assert read_positions(told_positions(positions, topics), topics) == positions


@pytest.mark.parametrize(
    "told", [b"", b"1|2", b"1|2|3|4", b"1|x|3", b"1|-2|3", b"1 |2|3", b"\xff||"]
)
def test_what_no_join_tells_is_refused(told: bytes) -> None:
    with pytest.raises(Malformed):
        read_positions(told, Topics())


def test_positions_of_a_release_that_told_no_sum_are_read() -> None:
    topics = Topics()
    instructions, prompts, rubrics = (topic.name for topic in topics.uploads)
    expected = {Partition(instructions, 0): 3, Partition(prompts, 0): 4, Partition(rubrics, 0): 5}
    assert read_positions(b"3|4|5", topics) == expected


@given(st.data())
def test_positions_with_one_byte_altered_are_refused(data: st.DataObject) -> None:
    topics = Topics()
    positions = {Partition(topic.name, one): 90 + one for topic in topics.uploads for one in (0, 1)}
    told = bytearray(told_positions(positions, topics))
    told[data.draw(st.integers(0, len(told) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        read_positions(bytes(told), topics)
