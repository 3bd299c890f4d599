"""Settings altered behind the product's back, a real compaction, and what the audit says of it."""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from processors.kafka.bounded_wait import result_of
from processors.kafka.clients import admin_client
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.events import UploadEvent
from schemas.partitioner import partition_for
from tests.faults.load import send
from tests.support.builders import instructions_uploaded, prompt_uploaded
from tests.support.run_command import printed, told
from tests.support.until import until

SHORT = {
    "segment.ms": "1000",
    "min.compaction.lag.ms": "0",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "1000",
}
HERE = partition_for(b"assignment:a1", 4)


def prompt(number: int) -> UploadEvent:
    previous = f"e{number - 1}" if number > 1 else None
    own: dict[str, Any] = {"event_id": f"e{number}", "previous_event_id": previous}
    return prompt_uploaded(f"Text number {number}.", version=number, **own)


def alter(settings: Settings, topic: str, config: dict[str, str]) -> None:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = admin_client(settings)
    for future in admin.incremental_alter_configs([resource]).values():
        result_of(future)


def offsets(settings: Settings, topic: str) -> list[int]:
    """The offsets of assignment a1's partition that are still there."""
    at = Partition(topic, HERE)
    with LogReader(settings, [at]) as log:
        low, end = log.offset_ranges()[at]
        log.seek({at: low})
        return [record.at.offset for record in log.records_until({at: end})]


@pytest.fixture
def compacted(settings: Settings) -> Sequence[Coordinates]:
    """Five versions of a prompt of which the first four have been compacted away; gives their coordinates.

    Compaction never touches the segment that is written to: appends of another assignment roll it.
    """
    topic = settings.topics.student_prompts.name
    send(settings, instructions_uploaded())
    places = [send(settings, prompt(number))[0] for number in range(1, 5)]
    alter(settings, topic, SHORT)
    places += send(settings, prompt(5))
    until(lambda: _rolled(settings, topic, places), seconds=90)
    return places


def _rolled(settings: Settings, topic: str, places: Sequence[Coordinates]) -> bool:
    """Append to another assignment of the partition, which rolls the segment, and look."""
    neighbour = next(
        name
        for name in map("b{}".format, range(99))
        if partition_for(f"assignment:{name}".encode(), 4) == HERE
    )
    send(settings, prompt_uploaded(assignment_id=neighbour))
    return places[3].offset not in offsets(settings, topic)


def test_a_real_gap_is_told_by_keys_versions_and_coordinates(
    settings: Settings, compacted: Sequence[Coordinates]
) -> None:
    *gone, last = compacted
    code, history, grumbled = told(settings, "audit", "history", "a1")
    assert (code, history["complete"]) == (3, False)
    (gap,) = history["gaps"]
    assert (gap["role"], gap["after_version"], gap["before_version"]) == ("student_prompt", 0, 5)
    assert gap["complete_from"]["offset"] == last.offset
    assert "history-compacted: assignment:a1: student_prompt: before the first known" in grumbled
    assert f"complete again from version 5 at {last} on" in grumbled

    at = history["items"]
    assert [(one["role"], one["version"]) for one in at] == [
        ("student_prompt", 5),
        ("instructions", 1),
    ]
    code, now, grumbled = told(settings, "audit", "as-of", "a1", "--at", "0s", "--no-texts")
    assert (code, now["student_prompt"]["version"], grumbled) == (0, 5, "")
    instructions = now["instructions"]["appended_at"]
    code, then, grumbled = told(
        settings, "audit", "as-of", "a1", "--at", instructions, "--no-texts"
    )
    assert (code, then["complete"], then["unknown"]) == (3, False, ["student_prompt"])
    assert (then["student_prompt"], then["instructions"]["version"]) == (None, 1)
    assert "history-compacted: student_prompt of assignment:a1 cannot be told" in grumbled
    code, _, grumbled = told(settings, "audit", "as-of", "a1", "--offsets", str(gone[1]))
    assert (code, "compacted" in grumbled) == (3, True)

    code, shown, _ = printed(settings, "audit", "replay", "--scope", "a1")
    assert (code, "history broken: student_prompt" in shown) == (0, True)
    assert "1 scopes with a broken history" in shown

    code, document, grumbled = told(settings, "doctor")
    assert (code, grumbled) == (3, "")
    lines = [one["detail"] for one in document["checks"] if one["name"] == "audit horizon"]
    assert len(lines) == 2
    assert "min.compaction.lag.ms lets replaced versions go after 0 s" in lines[0]
    code, _, grumbled = told(settings, "topics", "apply")
    assert code == 3
    assert f"warning: audit horizon: {last.topic}: min.compaction.lag.ms lets" in grumbled
    assert "the cluster contradicts the topic catalogue" in grumbled
