"""Work on the published view rests longer while batch preparation is busy, but never for long."""

import pytest

from processors.fold.giving_way import MAX_REST_S, GivingWay


@pytest.mark.parametrize(
    ("is_busy", "took_s", "rest_s"),
    [(False, 0.5, 0.0), (True, 0.5, 2.5), (True, 60.0, MAX_REST_S)],
)
def test_it_rests_a_multiple_of_the_work(is_busy: bool, took_s: float, rest_s: float) -> None:
    assert GivingWay(lambda: is_busy, idle=0, busy=5).rest_s(took_s) == rest_s
