"""Settings of a topic that would break the audit horizon."""

import pytest

from schemas.retention_check import horizon_warnings
from schemas.topics import DAY_MS, Topic, Topics

TOPICS = Topics()


def warned(topic: Topic, **changes: str) -> list[str]:
    """What is warned of, with these settings over the catalogue's; `__` stands for a dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    config = {
        "retention.bytes": "-1",
        "delete.retention.ms": str(DAY_MS),
        **topic.config(horizon_days=400, replication=1),
        **named,
    }
    return list(horizon_warnings(topic, config, 400))


@pytest.mark.parametrize("topic", TOPICS.all, ids=lambda topic: topic.name)
def test_the_catalogues_own_settings_keep_the_horizon(topic: Topic) -> None:
    assert warned(topic) == []


@pytest.mark.parametrize(
    ("topic", "changes", "words"),
    [
        (TOPICS.instructions, {"min__compaction__lag__ms": "1000"}, "versions go after 1 s"),
        (TOPICS.instructions, {"delete__retention__ms": "5000"}, "tombstone after 5 s"),
        (
            TOPICS.judge_rubrics,
            {"cleanup__policy": "compact,delete", "retention__ms": str(30 * DAY_MS)},
            "records after 30 days: the horizon is 400 days",
        ),
        (TOPICS.requests, {"retention__ms": str(399 * DAY_MS)}, "after 399 days"),
        (TOPICS.batches, {"retention__bytes": "1000000"}, "whatever their age"),
        (TOPICS.batches, {"cleanup__policy": "compact"}, "only the newest is kept"),
        (TOPICS.uploads_dlq, {"retention__ms": "60000"}, "after 60 s"),
        (TOPICS.requests, {"message__timestamp__type": "CreateTime"}, "producers choose the times"),
    ],
)
def test_a_setting_that_breaks_it_is_one_line(
    topic: Topic, changes: dict[str, str], words: str
) -> None:
    (line,) = warned(topic, **changes)
    assert words in line


def test_longer_and_unbounded_is_no_warning() -> None:
    assert warned(TOPICS.instructions, min__compaction__lag__ms=str(900 * DAY_MS)) == []
    assert warned(TOPICS.requests, retention__ms="-1") == []
    assert warned(TOPICS.context, min__compaction__lag__ms="0") == []
