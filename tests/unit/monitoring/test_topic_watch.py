"""When a topic counts as deleted, or as another one of the same name."""

import pytest

from processors.kafka.topic_admin import SeenTopic
from processors.monitoring.topic_watch import MISSING_OBSERVATIONS, TopicWatch
from schemas.errors import Discrepancy


def observed(*ids: str | None) -> None:
    watch = TopicWatch()
    for topic_id in ids:
        seen = topic_id and SeenTopic(topic_id, 4)
        watch.observe({"t": seen or None, "other": SeenTopic("1", 4)})


def test_topics_that_stay_or_are_away_for_a_moment_are_no_fault() -> None:
    observed("1", "1", *[None] * (MISSING_OBSERVATIONS - 1), "1", None, "1")


def test_topics_that_do_not_exist_yet_are_no_fault() -> None:
    observed(*[None] * (2 * MISSING_OBSERVATIONS), "1")


def test_a_topic_that_stays_away_was_deleted() -> None:
    with pytest.raises(Discrepancy, match=r"^t was deleted while the worker ran: `cjstream topics"):
        observed("1", *[None] * MISSING_OBSERVATIONS)


@pytest.mark.parametrize("between", [[], [None]])
def test_a_topic_with_another_id_was_created_again(between: list[None]) -> None:
    with pytest.raises(Discrepancy, match=r"^t was deleted and created again"):
        observed("1", *between, "2")


def test_a_topic_with_more_partitions_is_named_with_what_to_do() -> None:
    watch = TopicWatch()
    watch.observe({"t": SeenTopic("1", 4)})
    with pytest.raises(Discrepancy, match=r"^t was given partitions, it has 6 instead of 4: .*"):
        watch.observe({"t": SeenTopic("1", 6)})
