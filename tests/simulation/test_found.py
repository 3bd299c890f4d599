"""Histories that once broke a promise."""

from tests.simulation.steps import Step
from tests.simulation.test_simulation import broken


def test_a_hole_right_in_front_of_a_request_is_not_a_request_that_was_skipped() -> None:
    aborted = Step("request_in_transaction", 0, 0)
    after = [Step("start"), *(Step("work", 0, 2) for _ in range(3))]
    assert broken([aborted, Step("request"), *after]) == []


def test_the_marker_of_the_last_committed_request_is_no_request_either() -> None:
    committed = Step("request_in_transaction", 0, 1)
    work = [Step("work", 0, 2) for _ in range(3)]
    again = [Step("leave"), Step("start"), Step("tick", 0, 3), Step("request"), *work]
    assert broken([committed, Step("start"), *work, *again]) == []
