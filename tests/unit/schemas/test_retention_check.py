"""Warnings about topic settings that would remove records within the audit horizon."""

import pytest

from schemas.retention_check import horizon_warnings
from schemas.topics import DAY_MS, Topic, Topics

TOPICS = Topics()


def warnings_for(topic: Topic, **changes: str) -> list[str]:
    """The warnings for the catalogue's settings with these changes; `__` in a name means a dot."""
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    config = {
        "retention.bytes": "-1",
        "delete.retention.ms": str(DAY_MS),
        **topic.config(horizon_days=400, replication=1),
        **changed,
    }
    return list(horizon_warnings(topic, config, 400))


@pytest.mark.parametrize("topic", TOPICS.all, ids=lambda topic: topic.name)
def test_the_settings_of_the_catalogue_cause_no_warning(topic: Topic) -> None:
    assert warnings_for(topic) == []


@pytest.mark.parametrize(
    ("topic", "changes", "words"),
    [
        (TOPICS.instructions, {"min__compaction__lag__ms": "1000"}, "replaced versions after 1 s"),
        (TOPICS.instructions, {"delete__retention__ms": "5000"}, "tombstone after 5 s"),
        (
            TOPICS.judge_rubrics,
            {"cleanup__policy": "compact,delete", "retention__ms": str(30 * DAY_MS)},
            "records after 30 days: the horizon is 400 days",
        ),
        (TOPICS.requests, {"retention__ms": str(399 * DAY_MS)}, "after 399 days"),
        (TOPICS.batches, {"retention__bytes": "1000000"}, "records of any age"),
        (TOPICS.batches, {"cleanup__policy": "compact"}, "keeps only the newest record"),
        (TOPICS.uploads_dlq, {"retention__ms": "60000"}, "after 60 s"),
        (TOPICS.requests, {"message__timestamp__type": "CreateTime"}, "producers choose the times"),
    ],
)
def test_a_setting_that_breaks_the_horizon_causes_one_warning(
    topic: Topic, changes: dict[str, str], words: str
) -> None:
    (line,) = warnings_for(topic, **changes)
    assert words in line


def test_longer_and_unlimited_retention_causes_no_warning() -> None:
    assert warnings_for(TOPICS.instructions, min__compaction__lag__ms=str(900 * DAY_MS)) == []
    assert warnings_for(TOPICS.requests, retention__ms="-1") == []
    assert warnings_for(TOPICS.context, min__compaction__lag__ms="0") == []
