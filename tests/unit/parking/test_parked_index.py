"""Which parked requests are due: the fold of the parked topic in memory."""

from hypothesis import given
from hypothesis import strategies as st

from processors.parking.parked_index import ParkedEntry, ParkedIndex
from schemas.coordinates import Coordinates


def entry(
    number: int, *, scope: str = "assignment:a1", deadline_at_ms: int = 1000, partition: int = 0
) -> ParkedEntry:
    at = Coordinates("cj.requests.v1", partition, number)
    return ParkedEntry(at, 100 + number, scope, False, deadline_at_ms)


def index_of(*entries: ParkedEntry) -> ParkedIndex:
    index = ParkedIndex()
    for parked in entries:
        index.park(parked)
    return index


def always(_entry: ParkedEntry) -> bool:
    return True


def never(_entry: ParkedEntry) -> bool:
    return False


ONE, TWO, ELSEWHERE = entry(1), entry(2), entry(3, scope="assignment:a2")


def test_the_upload_that_completes_a_context_makes_its_requests_due() -> None:
    index = index_of(ONE, TWO, ELSEWHERE)
    index.context_changed("assignment:a1", always)
    assert index.take_due(0, 10) == [ONE, TWO]


def test_an_entry_whose_context_is_complete_when_it_is_read_is_due_at_once() -> None:
    index = index_of(ONE)
    index.park(TWO, is_complete=True)
    assert index.take_due(0, 10) == [TWO]


def test_an_upload_that_completes_no_context_makes_no_request_due() -> None:
    index = index_of(ONE)
    index.context_changed("assignment:a1", never)
    index.context_changed("assignment:unknown", always)
    assert index.take_due(0, 10) == []


def test_a_request_is_due_at_its_deadline() -> None:
    index = index_of(entry(1, deadline_at_ms=500), entry(2, deadline_at_ms=501))
    assert index.take_due(499, 10) == []
    assert index.take_due(500, 10) == [entry(1, deadline_at_ms=500)]


def test_a_taken_request_is_not_taken_again() -> None:
    index = index_of(ONE)
    assert index.take_due(1000, 10) == [ONE]
    index.context_changed("assignment:a1", always)
    assert index.take_due(2000, 10) == []


def test_the_requests_of_a_dropped_batch_are_due_again() -> None:
    index = index_of(ONE, TWO)
    index.take_due(1000, 10)
    index.requeue()
    assert index.take_due(1000, 10) == [ONE, TWO]


def test_a_taken_request_that_is_incomplete_waits_until_its_deadline() -> None:
    index = index_of(ONE)
    index.context_changed("assignment:a1", always)
    index.keep_waiting(index.take_due(0, 10))
    assert index.take_due(999, 10) == []
    assert index.take_due(1000, 10) == [ONE]


def test_a_deadline_that_passes_while_a_request_is_taken_is_not_lost() -> None:
    index = index_of(ONE)
    index.context_changed("assignment:a1", always)
    taken = index.take_due(0, 10)
    assert index.take_due(1000, 10) == []
    index.keep_waiting(taken)
    assert index.take_due(1000, 10) == [ONE]


def test_a_tombstone_releases_its_request() -> None:
    index = index_of(ONE, TWO)
    index.remove(ONE.request_at)
    index.remove(ONE.request_at)  # the tombstone is read twice
    index.context_changed("assignment:a1", always)
    assert index.take_due(1000, 10) == [TWO]


def test_an_entry_that_is_read_twice_is_one_request() -> None:
    index = index_of(ONE, ONE)
    assert (len(index), index.take_due(1000, 10)) == (1, [ONE])


def test_no_more_requests_are_taken_than_the_limit() -> None:
    index = index_of(*(entry(number) for number in range(10)))
    assert [len(index.take_due(1000, 4)) for _ in range(4)] == [4, 4, 2, 0]


def test_the_oldest_offset_is_that_of_the_oldest_entry() -> None:
    index = index_of(ONE, TWO, entry(3, partition=1))
    index.remove(ONE.request_at)
    assert [index.oldest_offset(partition) for partition in (0, 1, 2)] == [102, 103, None]


def test_the_requests_of_a_revoked_partition_are_removed() -> None:
    index = index_of(ONE, entry(3, partition=1))
    index.take_due(1000, 10)
    index.remove_partitions([0])
    index.requeue()
    assert (index.partitions, index.take_due(1000, 10)) == ({1}, [entry(3, partition=1)])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("park"), st.integers(0, 5)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(
            st.sampled_from(["change context", "take", "requeue", "keep waiting"]), st.just(0)
        ),
    ),
    max_size=60,
)


@given(STEPS)
def test_at_its_deadline_every_request_without_a_tombstone_is_due_exactly_once(
    steps: list[tuple[str, int]],
) -> None:
    index, live = ParkedIndex(), set[Coordinates]()
    taken = list[ParkedEntry]()
    for step, number in steps:
        parked = entry(number)
        match step:
            case "park":
                index.park(parked)
                live.add(parked.request_at)
            case "release":
                index.remove(parked.request_at)
                live.discard(parked.request_at)
            case "change context":
                index.context_changed(parked.scope_key, always)
            case "take":
                taken = index.take_due(0, 3)
            case "keep waiting":
                index.keep_waiting(taken)
            case _:
                index.requeue()
    index.requeue()
    due = [parked.request_at for parked in index.take_due(1000, 100)]
    assert (len(due), set(due)) == (len(live), live)
    assert len(index) == len(live)


def test_a_corrected_entry_keeps_its_place_and_waits_for_its_own_scope() -> None:
    index = index_of(ONE, TWO)
    (taken,) = index.take_due(1000, 1)
    corrected = entry(1, scope="assignment:other", deadline_at_ms=5000)
    index.correct(corrected, is_complete=False)
    index.requeue([taken])
    assert (index.oldest_offset(0), index.take_due(1000, 10)) == (101, [TWO])
    index.context_changed("assignment:other", always)
    assert index.take_due(1000, 10) == [corrected]


def test_the_scopes_that_requests_wait_for_are_known_until_none_waits() -> None:
    index = index_of(ONE, TWO, ELSEWHERE)
    assert index.scope_keys == ["assignment:a1", "assignment:a2"]
    index.remove(ELSEWHERE.request_at)
    assert index.scope_keys == ["assignment:a1"]
