"""Which requests are known to have no outcome: only those may be released."""

from processors.parking.open_requests import OpenRequests, RequestState
from processors.parking.parked_index import ParkedEntry
from schemas.coordinates import Coordinates

OLD, NEW = Coordinates("cj.requests.v1", 0, 5), Coordinates("cj.requests.v1", 0, 10)


def known(committed: int = 10) -> OpenRequests:
    requests = OpenRequests()
    requests.begin({0: committed})
    return requests


def entry(at: Coordinates) -> ParkedEntry:
    return ParkedEntry(at, 0, "assignment:a1", False, 1000, 1)


def test_a_request_from_the_committed_offset_on_is_open_only_if_this_worker_parked_it() -> None:
    requests = known()
    assert requests.state_of(NEW) is RequestState.NOT_PARKED
    requests.park(entry(NEW))
    assert requests.state_of(NEW) is RequestState.OPEN
    requests.answer(NEW)
    assert requests.state_of(NEW) is RequestState.NOT_PARKED


def test_the_outcomes_decide_about_a_request_below_the_committed_offset() -> None:
    requests = known()
    assert requests.state_of(OLD) is RequestState.UNKNOWN
    requests.learn([OLD], [])
    assert requests.state_of(OLD) is RequestState.OPEN


def test_a_request_with_an_outcome_is_never_released_again() -> None:
    requests = known()
    requests.learn([OLD], [OLD])
    assert requests.state_of(OLD) is RequestState.ANSWERED
    requests = known()
    requests.learn([OLD], [])
    requests.answer(OLD)
    assert requests.state_of(OLD) is RequestState.ANSWERED
    requests.learn([OLD], [])  # the outcome is in a batch that is not committed yet
    assert requests.state_of(OLD) is RequestState.ANSWERED


def test_when_fetching_begins_anew_nothing_is_known() -> None:
    requests = known()
    requests.park(entry(NEW))
    requests.learn([OLD], [])
    requests.begin({0: 11})
    assert {requests.state_of(at) for at in (OLD, NEW)} == {RequestState.UNKNOWN}


def test_a_request_of_a_partition_that_is_not_owned_is_not_released() -> None:
    other = Coordinates("cj.requests.v1", 1, 0)
    assert known().state_of(other) is RequestState.NOT_PARKED


def test_the_entry_of_an_own_request_is_what_this_worker_knows() -> None:
    requests = known()
    requests.park(entry(NEW))
    own = requests.own_entry(NEW, 33)
    assert own is not None
    assert (own.parked_offset, own.deadline_at_ms) == (33, 1000)
    assert requests.own_entry(OLD, 33) is None
