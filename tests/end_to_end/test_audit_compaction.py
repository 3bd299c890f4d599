"""A real compaction after topic settings were changed by hand, and how the audit reports it."""

from collections.abc import Sequence
from typing import Any

import pytest

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.events import UploadEvent
from schemas.partitioner import partition_for
from tests.faults.load import send
from tests.support.builders import instructions_uploaded, prompt_uploaded
from tests.support.installations import configure_topic
from tests.support.run_command import run_json, run_text
from tests.support.until import until

SHORT = {
    "segment_ms": 1000,
    "min_compaction_lag_ms": 0,
    "min_cleanable_dirty_ratio": 0.01,
    "delete_retention_ms": 1000,
}
PARTITION = partition_for(b"assignment:a1", 4)


def prompt(number: int) -> UploadEvent:
    previous = f"e{number - 1}" if number > 1 else None
    ids: dict[str, Any] = {"event_id": f"e{number}", "previous_event_id": previous}
    return prompt_uploaded(f"Text number {number}.", version=number, **ids)


def offsets(settings: Settings, topic: str) -> list[int]:
    """The offsets that assignment a1's partition of a topic still has."""
    partition = Partition(topic, PARTITION)
    with LogReader(settings, [partition]) as log:
        low, end = log.offset_ranges()[partition]
        log.seek({partition: low})
        return [record.at.offset for record in log.records_until({partition: end})]


@pytest.fixture
def compacted(settings: Settings) -> Sequence[Coordinates]:
    """The coordinates of five versions of a prompt, of which compaction has removed the first four.

    Compaction never touches the active segment, so records of another assignment are appended to roll it.
    """
    topic = settings.topics.student_prompts.name
    send(settings, instructions_uploaded())
    coordinates = [send(settings, prompt(number))[0] for number in range(1, 5)]
    configure_topic(settings, topic, **SHORT)
    coordinates += send(settings, prompt(5))
    until(lambda: _is_compacted(settings, topic, coordinates), seconds=90)
    return coordinates


def _is_compacted(settings: Settings, topic: str, coordinates: Sequence[Coordinates]) -> bool:
    """Append a record of another assignment, to roll the segment; returns whether the versions are removed."""
    neighbour = next(
        name
        for name in map("b{}".format, range(99))
        if partition_for(f"assignment:{name}".encode(), 4) == PARTITION
    )
    send(settings, prompt_uploaded(assignment_id=neighbour))
    return coordinates[3].offset not in offsets(settings, topic)


def test_a_real_gap_is_reported_with_scope_versions_and_coordinates(
    settings: Settings, compacted: Sequence[Coordinates]
) -> None:
    *removed, last = compacted
    code, history, stderr = run_json(settings, "audit", "history", "a1")
    assert (code, history["complete"]) == (3, False)
    (gap,) = history["gaps"]
    assert (gap["role"], gap["after_version"], gap["before_version"]) == ("student_prompt", 0, 5)
    assert gap["complete_from"]["offset"] == last.offset
    assert "history-compacted: assignment:a1: student_prompt: before the first known" in stderr
    assert f"complete again from version 5 at {last}" in stderr

    items = history["items"]
    assert [(item["role"], item["version"]) for item in items] == [
        ("student_prompt", 5),
        ("instructions", 1),
    ]
    code, now, stderr = run_json(settings, "audit", "as-of", "a1", "--at", "0s", "--no-texts")
    assert (code, now["student_prompt"]["version"], stderr) == (0, 5, "")
    instructions = now["instructions"]["appended_at"]
    code, then, stderr = run_json(
        settings, "audit", "as-of", "a1", "--at", instructions, "--no-texts"
    )
    assert (code, then["complete"], then["unknown"]) == (3, False, ["student_prompt"])
    assert (then["student_prompt"], then["instructions"]["version"]) == (None, 1)
    assert "history-compacted: student_prompt of assignment:a1 is unknown" in stderr
    code, _, stderr = run_json(settings, "audit", "as-of", "a1", "--offsets", str(removed[1]))
    assert (code, "compacted" in stderr) == (3, True)

    code, stdout, _ = run_text(settings, "audit", "replay", "--scope", "a1")
    assert (code, "history broken: student_prompt" in stdout) == (0, True)
    assert "1 scopes with a broken history" in stdout

    code, document, stderr = run_json(settings, "doctor")
    assert (code, stderr) == (3, "")
    lines = [check["detail"] for check in document["checks"] if check["name"] == "audit horizon"]
    assert len(lines) == 2
    assert "min.compaction.lag.ms lets Kafka remove replaced versions after 0 s" in lines[0]
    code, _, stderr = run_json(settings, "topics", "apply")
    assert code == 3
    assert f"warning: audit horizon: {last.topic}: min.compaction.lag.ms lets" in stderr
    assert "the cluster contradicts the topic catalogue" in stderr
