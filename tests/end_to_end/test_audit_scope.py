"""`audit as-of` and `audit history`: one scope, asked for on the real log."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from processors.kafka.records import Record
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from tables.content_store import ContentStore
from tests.faults.load import CODEC, append, send
from tests.faults.running import StartWorker
from tests.support.builders import (
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    sha256_of,
)
from tests.support.run_command import printed, told
from tests.support.until import until
from tools.tail import tail_batches

OLD = "Should homework be banned?\nGive reasons."
NEW = "Should homework be banned?\nGive three reasons."
FIRST = prompt_uploaded(OLD, event_id="e1")
SECOND = prompt_uploaded(
    NEW, event_id="e2", version=2, previous_event_id="e1", actor="head@school.example"
)
DELETED = prompt_deleted(event_id="e3", version=3, previous_event_id="e2", erased=True)
HERE = partition_for(b"assignment:a1", 4)


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    """The content store with all texts of the story but the first prompt's."""
    store = ContentStore.at(settings.content)
    for text in ("Judge the argument.", NEW):
        store.put(text.encode())
    return store


@pytest.fixture
def places(settings: Settings, store: ContentStore) -> Sequence[Coordinates]:
    """The story: instructions, a prompt, another one, its deletion."""
    story = (instructions_uploaded(), FIRST, SECOND, DELETED)
    return [send(settings, event)[0] for event in story]


def as_of(settings: Settings, *options: str) -> tuple[int, Any, str]:
    return told(settings, "audit", "as-of", "a1", *options)


def test_a_scope_as_it_stood_by_time_and_by_coordinates(
    settings: Settings, places: Sequence[Coordinates]
) -> None:
    code, then, grumbled = as_of(settings, "--offsets", f"{places[0]},{places[2]}")
    assert (code, grumbled) == (0, "")
    assert (then["complete"], then["unknown"], then["judge_rubric"]) == (True, [], None)
    prompt, instructions = then["student_prompt"], then["instructions"]
    assert (prompt["version"], prompt["text"], prompt["text_state"]) == (2, NEW, "present")
    assert (instructions["text"], instructions["grade_scale"]) == (
        "Judge the argument.",
        "swedish_8_anchor",
    )
    assert prompt["source"]["offset"] == places[2].offset
    code, before, _ = as_of(settings, "--at", "1h")
    assert (code, before["instructions"], before["student_prompt"]) == (0, None, None)
    code, now, _ = as_of(settings, "--at", "0s")
    assert (code, now["student_prompt"]["deleted"], now["student_prompt"]["erased"]) == (
        0,
        True,
        True,
    )
    when = now["student_prompt"]["appended_at"]
    assert as_of(settings, "--at", when)[1]["student_prompt"] == now["student_prompt"]


def test_an_erased_text_is_told_as_such_and_a_missing_or_damaged_one_found(
    settings: Settings, places: Sequence[Coordinates], store: ContentStore
) -> None:
    code, then, grumbled = as_of(settings, "--offsets", f"{places[0]},{places[1]}")
    assert (code, grumbled) == (0, "")
    assert then["student_prompt"]["text_state"] == "erased"  # a later deletion says so
    lost = send(
        settings, prompt_uploaded("Lost.", event_id="e4", version=4, previous_event_id="e3")
    )
    code, then, grumbled = as_of(settings, "--offsets", f"{places[0]},{lost[0]}")
    assert (code, then["student_prompt"]["text_state"]) == (3, "missing")
    assert "the text of the student_prompt of assignment:a1 is missing" in grumbled
    assert as_of(settings, "--offsets", str(lost[0]), "--no-texts")[0] == 0
    sha256 = sha256_of(NEW)
    path = settings.data_dir / "content" / "sha256" / sha256[:2] / sha256
    path.write_bytes(NEW.upper().encode())
    code, then, grumbled = as_of(settings, "--offsets", str(places[2]))
    assert (code, then["student_prompt"]["text_state"]) == (3, "damaged")
    assert then["student_prompt"]["text"] is None
    assert sha256 in grumbled


def test_two_moments_differ_in_a_form_people_read(
    settings: Settings, places: Sequence[Coordinates], store: ContentStore
) -> None:
    store.put(OLD.encode())
    later, earlier = f"{places[0]},{places[2]}", f"{places[0]},{places[1]}"
    code, document, _ = as_of(settings, "--offsets", later, "--diff", earlier)
    by_role = {one["role"]: one for one in document["diff"]}
    assert code == 0
    assert by_role["instructions"]["change"] == by_role["judge_rubric"]["change"] == "unchanged"
    prompt = by_role["student_prompt"]
    assert (prompt["change"], prompt["fields"]) == ("replaced", ["storage_id"])
    assert prompt["text_diff"].splitlines()[2:] == [
        "@@ -1,2 +1,2 @@",
        " Should homework be banned?",
        "-Give reasons.",
        "+Give three reasons.",
    ]
    assert "version 2, head@school.example" in prompt["text_diff"]


def test_a_history_has_every_version_the_damaged_ones_too(
    settings: Settings, places: Sequence[Coordinates]
) -> None:
    topics = settings.topics
    damaged = Record(topics.student_prompts.name, HERE, b"assignment:a1", b"\1?")
    stray = Record(topics.judge_rubrics.name, (HERE + 1) % 4, b"assignment:a1", b"\1?")
    append(settings, [damaged, stray])
    send(settings, prompt_uploaded(version=2, event_id="e9", previous_event_id="e1"))
    send(settings, prompt_uploaded(assignment_id="a2"))
    code, document, grumbled = told(settings, "audit", "history", "assignment:a1")
    assert (code, grumbled) == (0, "")
    assert (document["complete"], document["gaps"]) == (True, [])
    shown = [(one["role"], one["version"], one["mark"]) for one in document["items"]]
    assert shown == [
        ("student_prompt", 2, "version_repeated"),
        ("student_prompt", 3, None),
        ("student_prompt", 2, None),
        ("student_prompt", 1, None),
        ("instructions", 1, None),
    ]
    assert document["items"][2]["changed"] == ["storage_id", "sha256", "size_bytes"]
    assert document["items"][2]["actor"] == "head@school.example"
    assert document["items"][4]["source"] == {
        "topic": places[0].topic,
        "partition": places[0].partition,
        "offset": places[0].offset,
    }
    found = {(one["role"], one["source"]["partition"]) for one in document["damaged"]}
    assert found == {("student_prompt", HERE), ("judge_rubric", (HERE + 1) % 4)}
    assert all("without Confluent framing" in one["reason"] for one in document["damaged"])


def test_how_many_batches_used_each_version_and_which_used_one_that_is_gone(
    settings: Settings, start_worker: StartWorker, places: Sequence[Coordinates]
) -> None:
    again = prompt_uploaded(event_id="e4", version=4, previous_event_id="e3")
    (at,) = send(settings, again)
    send(settings, *(requested(batch_id=f"b{number}") for number in range(3)))
    send(settings, requested(batch_id="other", assignment_id="a1x"))
    start_worker()
    until(lambda: len(list(tail_batches(settings, from_beginning=True))) == 3)
    batches = list(tail_batches(settings, from_beginning=True))
    code, document, _ = told(settings, "audit", "history", "a1", "--uses")
    used = {(one["role"], one["version"]): one["batches"] for one in document["items"]}
    assert (code, used.pop(("student_prompt", 4)), used.pop(("instructions", 1))) == (0, 3, 3)
    assert set(used.values()) == {0}

    batch: Any = batches[0].event
    gone = Coordinates(at.topic, at.partition, at.offset + 100)
    forged = CODEC.encode(_resting_on(batch, gone))
    append(settings, [Record(settings.topics.batches.name, 0, b"forged", forged)])
    code, document, grumbled = told(settings, "audit", "history", "a1", "--uses")
    assert (code, document["complete"]) == (3, False)
    assert [(one["source"]["offset"], one["batches"]) for one in document["lost"]] == [
        (gone.offset, 1)
    ]
    assert f"version 4 at {gone}, which 1 batches name, is not in the log" in grumbled


def _resting_on(batch: Any, at: Coordinates) -> Any:
    prompt = replace(batch.provenance.student_prompt, source=at)
    return replace(batch, provenance=replace(batch.provenance, student_prompt=prompt))


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (["as-of", "a1"], 2, "give --at TIME or --offsets"),
        (["as-of", "a1", "--at", "0s", "--offsets", "t/0@1"], 2, "give --at TIME or --offsets"),
        (["as-of", "a1", "--offsets", "2h"], 2, "give --at TIME or --offsets"),
        (["as-of", "a1", "--at", "tomorrow"], 2, "--at: not a time"),
        (["as-of", "course:a/b", "--at", "0s"], 2, "SCOPE: course id: not an id"),
        (["history", ""], 2, "SCOPE: assignment id: 0 characters"),
        (["history", "nobody"], 0, ""),
        (["as-of", "a1", "--offsets", "elsewhere/0@1"], 3, "in none of the partitions"),
    ],
)
def test_bad_input_is_one_line_and_the_right_exit_code(
    settings: Settings, options: list[str], code: int, why: str
) -> None:
    ended, _, grumbled = told(settings, "audit", *options)
    assert ended == code
    assert why in grumbled
    assert grumbled.count("\n") == bool(why)


def test_without_a_broker_it_ends_with_4(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    for command in (["as-of", "a1", "--at", "1h"], ["history", "a1"]):
        code, _, grumbled = told(away, "audit", *command)
        assert (code, grumbled.count("\n")) == (4, 1)


def test_people_get_tables_and_texts(settings: Settings, places: Sequence[Coordinates]) -> None:
    for command in (["as-of", "a1", "--offsets", str(places[2])], ["history", "a1"]):
        code, shown, grumbled = printed(settings, "audit", *command)
        assert (code, grumbled) == (0, "")
        assert "head@school.example" in shown
        assert f"{places[2]}" in shown
    code, shown, _ = printed(
        settings, "audit", "as-of", "a1", "--offsets", str(places[2]), "--diff", "1h"
    )
    assert (code, "+Give three reasons." in shown) == (0, True)
