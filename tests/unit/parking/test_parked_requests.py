"""Who waits for what: the fold of the parked topic in memory."""

from hypothesis import given
from hypothesis import strategies as st

from processors.parking.parked_requests import ParkedEntry, ParkedIndex
from schemas.coordinates import Coordinates


def waiting(
    number: int, *, scope: str = "assignment:a1", deadline_at_ms: int = 1000, partition: int = 0
) -> ParkedEntry:
    at = Coordinates("cj.requests.v1", partition, number)
    return ParkedEntry(at, 100 + number, scope, False, deadline_at_ms)


def parked(*ones: ParkedEntry) -> ParkedIndex:
    requests = ParkedIndex()
    for one in ones:
        requests.park(one)
    return requests


def always(_one: ParkedEntry) -> bool:
    return True


def never(_one: ParkedEntry) -> bool:
    return False


ONE, TWO, ELSEWHERE = waiting(1), waiting(2), waiting(3, scope="assignment:a2")


def test_the_upload_that_completes_a_context_makes_its_requests_due() -> None:
    requests = parked(ONE, TWO, ELSEWHERE)
    requests.arrived("assignment:a1", always)
    assert requests.take(0, 10) == [ONE, TWO]


def test_an_entry_whose_context_was_complete_when_it_was_read_is_due_by_itself() -> None:
    requests = parked(ONE)
    requests.park(TWO, is_complete=True)
    assert requests.take(0, 10) == [TWO]


def test_an_upload_that_completes_nothing_makes_none_due() -> None:
    requests = parked(ONE)
    requests.arrived("assignment:a1", never)
    requests.arrived("assignment:unknown", always)
    assert requests.take(0, 10) == []


def test_a_deadline_makes_due() -> None:
    requests = parked(waiting(1, deadline_at_ms=500), waiting(2, deadline_at_ms=501))
    assert requests.take(499, 10) == []
    assert requests.take(500, 10) == [waiting(1, deadline_at_ms=500)]


def test_what_is_taken_is_not_given_again() -> None:
    requests = parked(ONE)
    assert requests.take(1000, 10) == [ONE]
    requests.arrived("assignment:a1", always)
    assert requests.take(2000, 10) == []


def test_the_requests_of_a_dropped_batch_are_due_again() -> None:
    requests = parked(ONE, TWO)
    requests.take(1000, 10)
    requests.requeue()
    assert requests.take(1000, 10) == [ONE, TWO]


def test_one_that_is_not_complete_after_all_waits_for_the_next_upload_or_its_deadline() -> None:
    requests = parked(ONE)
    requests.arrived("assignment:a1", always)
    requests.keep_waiting(requests.take(0, 10))
    assert requests.take(999, 10) == []
    assert requests.take(1000, 10) == [ONE]


def test_a_deadline_that_passes_while_one_is_taken_is_not_forgotten() -> None:
    requests = parked(ONE)
    requests.arrived("assignment:a1", always)
    taken = requests.take(0, 10)
    assert requests.take(1000, 10) == []
    requests.keep_waiting(taken)
    assert requests.take(1000, 10) == [ONE]


def test_a_tombstone_ends_the_waiting() -> None:
    requests = parked(ONE, TWO)
    requests.release(ONE.request_at)
    requests.release(ONE.request_at)  # read once more
    requests.arrived("assignment:a1", always)
    assert requests.take(1000, 10) == [TWO]


def test_an_entry_read_again_is_one_request() -> None:
    requests = parked(ONE, ONE)
    assert (len(requests), requests.take(1000, 10)) == (1, [ONE])


def test_no_more_are_given_than_asked_for() -> None:
    requests = parked(*(waiting(number) for number in range(10)))
    assert [len(requests.take(1000, 4)) for _ in range(4)] == [4, 4, 2, 0]


def test_the_oldest_entry_is_told_for_the_next_owner() -> None:
    requests = parked(ONE, TWO, waiting(3, partition=1))
    requests.release(ONE.request_at)
    assert [requests.oldest(partition) for partition in (0, 1, 2)] == [102, 103, None]


def test_a_lost_partition_is_forgotten() -> None:
    requests = parked(ONE, waiting(3, partition=1))
    requests.take(1000, 10)
    requests.forget([0])
    requests.requeue()
    assert (requests.partitions, requests.take(1000, 10)) == ({1}, [waiting(3, partition=1)])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("park"), st.integers(0, 5)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["arrive", "take", "give back", "wait on"]), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_at_its_deadline_every_request_without_a_tombstone_is_due_just_once(
    steps: list[tuple[str, int]],
) -> None:
    requests, live = ParkedIndex(), set[Coordinates]()
    taken = list[ParkedEntry]()
    for step, number in steps:
        one = waiting(number)
        match step:
            case "park":
                requests.park(one)
                live.add(one.request_at)
            case "release":
                requests.release(one.request_at)
                live.discard(one.request_at)
            case "arrive":
                requests.arrived(one.scope_key, always)
            case "take":
                taken = requests.take(0, 3)
            case "wait on":
                requests.keep_waiting(taken)
            case _:
                requests.requeue()
    requests.requeue()
    due = [one.request_at for one in requests.take(1000, 100)]
    assert (len(due), set(due)) == (len(live), live)
    assert len(requests) == len(live)
