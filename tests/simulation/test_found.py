"""Histories that broke a promise in the past."""

from tests.simulation.steps import Step
from tests.simulation.test_simulation import problems_of


def test_an_aborted_record_before_a_request_is_not_a_skipped_request() -> None:
    aborted = Step("request_in_transaction", 0, 0)
    after = [Step("start"), *(Step("work", 0, 2) for _ in range(3))]
    assert problems_of([aborted, Step("request"), *after]) == []


def test_the_marker_of_the_last_committed_request_is_not_a_skipped_request() -> None:
    committed = Step("request_in_transaction", 0, 1)
    work = [Step("work", 0, 2) for _ in range(3)]
    again = [Step("leave"), Step("start"), Step("tick", 0, 3), Step("request"), *work]
    assert problems_of([committed, Step("start"), *work, *again]) == []
