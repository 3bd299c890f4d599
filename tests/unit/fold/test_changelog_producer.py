"""The offsets that a worker has published are kept as ranges."""

from hypothesis import given
from hypothesis import strategies as st

from processors.fold.changelog_producer import OffsetRanges


@given(st.lists(st.sets(st.integers(0, 40), max_size=6)))
def test_exactly_the_added_offsets_are_in_the_ranges(calls: list[set[int]]) -> None:
    ranges, added = OffsetRanges(), set[int]()
    for offsets in calls:
        new = sorted(offset for offset in offsets if offset > max(added, default=-1))
        ranges.add(new)
        added.update(new)
    assert {offset for offset in range(42) if offset in ranges} == added
