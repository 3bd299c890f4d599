"""The newest rows below positions: those that a loop over all rows finds, for any rows and positions."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.partitioner import partition_for
from tests.support.installation_in_memory import UPLOADS
from tools.audit.check.newest_rows import NO_LATER_RECORD, NO_ROW, NewestRows
from tools.audit.check.upload_rows import PositionTable, Row, UploadRows

KEYS = (b"assignment:a1", b"assignment:a2", b"course:ENG5", b"")
TOPICS = range(len(UPLOADS.by_name))
LARGEST = 2**63 - 1
OFFSETS = st.integers(0, 6) | st.sampled_from([2**40, 2**62, LARGEST])


@st.composite
def uploads(draw: st.DrawFn) -> UploadRows:
    """Records of few scopes with any offsets, some in a partition that is not the one of their key."""
    rows = UploadRows(UPLOADS)
    places = st.tuples(
        st.sampled_from(KEYS), st.sampled_from(TOPICS), st.integers(0, 2), st.sets(OFFSETS)
    )
    for key, topic, away, offsets in draw(st.lists(places, max_size=8)):
        partition = (partition_for(key, UPLOADS.partitions) + away % 2) % UPLOADS.partitions
        known = {row[3] for row in rows.rows if row[:3] == (key, topic, partition)}
        for offset in sorted(offsets - known):
            rows.add([(key, topic, partition, offset, draw(st.integers(0, 9)), b"value")])
    return rows


TABLES = st.tuples(*(st.tuples(*(OFFSETS for _ in TOPICS)) for _ in range(UPLOADS.partitions)))


def partition_of(rows: UploadRows, key: bytes) -> int:
    """The one partition of a scope's rows, or that of its key."""
    partitions = {row[2] for row in rows.rows if row[0] == key}
    return partitions.pop() if len(partitions) == 1 else partition_for(key, UPLOADS.partitions)


def around(
    rows: UploadRows, key: bytes, topic: int, positions: PositionTable
) -> tuple[list[Row], list[Row]]:
    """A scope's rows below its position, and the others, by offset."""
    partition = partition_of(rows, key)
    mine = sorted(row for row in rows.rows if row[:3] == (key, topic, partition))
    older = [row for row in mine if row[3] < positions[partition][topic]]
    return older, mine[len(older) :]


@given(uploads(), st.lists(st.tuples(st.sampled_from([*KEYS, b"course:none"]), TABLES), max_size=6))
def test_the_newest_rows_and_the_earliest_time_beyond_them_are_found(
    rows: UploadRows, wanted: list[tuple[bytes, PositionTable]]
) -> None:
    found = NewestRows(rows)
    newest, later_ms = found.at(wanted)
    assert len(newest) == len(later_ms) == len(wanted)
    for (key, positions), numbers, time_ms in zip(wanted, newest, later_ms, strict=True):
        next_ms = [NO_LATER_RECORD]
        for topic, number in zip(TOPICS, numbers, strict=True):
            older, later = around(rows, key, topic, positions)
            assert (number != NO_ROW) == bool(older)
            if older:
                chain = [number, *found.older(number)]
                assert [found.rows[one] for one in chain] == older[::-1]
            next_ms += [row[4] for row in later]
        assert time_ms == min(next_ms)
