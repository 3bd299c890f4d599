"""`audit as-of` and `audit history`: one scope, read from a real log."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from processors.kafka.records import Record
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.policy import Policy
from processors.settings import Settings
from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.content_store import ContentStore
from tests.faults.load import CODEC, append, send
from tests.faults.running import StartWorker
from tests.support.builders import (
    context_after,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    sha256_of,
)
from tests.support.run_command import run_json, run_text
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
    """The content store with all texts of the story except the first prompt."""
    store = ContentStore.open(settings.content)
    for text in ("Judge the argument.", NEW):
        store.put(text.encode())
    return store


@pytest.fixture
def coordinates(settings: Settings, store: ContentStore) -> Sequence[Coordinates]:
    """The coordinates of the story: instructions, a prompt, its replacement, its deletion."""
    story = (instructions_uploaded(), FIRST, SECOND, DELETED)
    return [send(settings, event)[0] for event in story]


def as_of(settings: Settings, *options: str) -> tuple[int, Any, str]:
    return run_json(settings, "audit", "as-of", "a1", *options)


def test_as_of_a_time_and_as_of_coordinates(
    settings: Settings, coordinates: Sequence[Coordinates]
) -> None:
    code, report, messages = as_of(settings, "--offsets", f"{coordinates[0]},{coordinates[2]}")
    assert (code, messages) == (0, "")
    assert (report["complete"], report["unknown"], report["judge_rubric"]) == (True, [], None)
    prompt, instructions = report["student_prompt"], report["instructions"]
    assert (prompt["version"], prompt["text"], prompt["text_state"]) == (2, NEW, "present")
    assert (instructions["text"], instructions["grade_scale"]) == (
        "Judge the argument.",
        "swedish_8_anchor",
    )
    assert prompt["source"]["offset"] == coordinates[2].offset
    code, before, _ = as_of(settings, "--at", "1h")
    assert (code, before["instructions"], before["student_prompt"]) == (0, None, None)
    for early in ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.998Z", "1900-01-01T00:00:00Z"):
        code, nothing, _ = as_of(settings, "--at", early)  # Kafka takes -1 for the end of the log
        assert (code, nothing["student_prompt"]) == (0, before["student_prompt"])
    code, now, _ = as_of(settings, "--at", "0s")
    assert (code, now["student_prompt"]["deleted"], now["student_prompt"]["erased"]) == (
        0,
        True,
        True,
    )
    when = now["student_prompt"]["appended_at"]
    assert as_of(settings, "--at", when)[1]["student_prompt"] == now["student_prompt"]


def test_an_erased_text_is_marked_and_a_missing_or_damaged_one_is_an_error(
    settings: Settings, coordinates: Sequence[Coordinates], store: ContentStore
) -> None:
    code, report, messages = as_of(settings, "--offsets", f"{coordinates[0]},{coordinates[1]}")
    assert (code, messages) == (0, "")
    assert report["student_prompt"]["text_state"] == "erased"  # a later deletion says so
    lost = send(
        settings, prompt_uploaded("Lost.", event_id="e4", version=4, previous_event_id="e3")
    )
    code, report, messages = as_of(settings, "--offsets", f"{coordinates[0]},{lost[0]}")
    assert (code, report["student_prompt"]["text_state"]) == (3, "missing")
    assert "the text of the student_prompt of assignment:a1 is missing" in messages
    assert as_of(settings, "--offsets", str(lost[0]), "--no-texts")[0] == 0
    sha256 = sha256_of(NEW)
    path = settings.data_dir / "content" / "sha256" / sha256[:2] / sha256
    path.write_bytes(NEW.upper().encode())
    code, report, messages = as_of(settings, "--offsets", str(coordinates[2]))
    assert (code, report["student_prompt"]["text_state"]) == (3, "damaged")
    assert report["student_prompt"]["text"] is None
    assert sha256 in messages


def test_the_difference_between_two_moments_is_a_text_diff(
    settings: Settings, coordinates: Sequence[Coordinates], store: ContentStore
) -> None:
    store.put(OLD.encode())
    later, earlier = f"{coordinates[0]},{coordinates[2]}", f"{coordinates[0]},{coordinates[1]}"
    code, document, _ = as_of(settings, "--offsets", later, "--diff", earlier)
    by_role = {change["role"]: change for change in document["diff"]}
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


def test_a_history_has_every_version_and_the_damaged_uploads(
    settings: Settings, coordinates: Sequence[Coordinates]
) -> None:
    topics = settings.topics
    damaged = Record(topics.student_prompts.name, HERE, b"assignment:a1", b"\1?")
    stray = Record(topics.judge_rubrics.name, (HERE + 1) % 4, b"assignment:a1", b"\1?")
    append(settings, [damaged, stray])
    send(settings, prompt_uploaded(version=2, event_id="e9", previous_event_id="e1"))
    send(settings, prompt_uploaded(assignment_id="a2"))
    code, document, messages = run_json(settings, "audit", "history", "assignment:a1")
    assert (code, messages) == (0, "")
    assert (document["complete"], document["gaps"]) == (True, [])
    shown = [(item["role"], item["version"], item["mark"]) for item in document["items"]]
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
        "topic": coordinates[0].topic,
        "partition": coordinates[0].partition,
        "offset": coordinates[0].offset,
    }
    found = {(item["role"], item["source"]["partition"]) for item in document["damaged"]}
    assert found == {("student_prompt", HERE), ("judge_rubric", (HERE + 1) % 4)}
    assert all("without Confluent framing" in item["reason"] for item in document["damaged"])
    sources = sorted(str(item["source"]) for item in (*document["items"], *document["damaged"]))
    pages = [
        run_json(settings, "audit", "history", "a1", f"--page={page}", "--page-size=3")[1]
        for page in (1, 2, 3, 4)
    ]
    parts = [[str(item["source"]) for item in (*page["items"], *page["damaged"])] for page in pages]
    assert list(map(len, parts)) == [3, 3, 1, 0]
    assert sorted(source for part in parts for source in part) == sources
    _, out, _ = run_text(settings, "audit", "history", "a1", "--page-size=3")
    assert "page 1 of 3" in out


@pytest.mark.thorough
def test_uses_counts_batches_by_version_and_finds_versions_missing_from_the_log(
    settings: Settings, start_worker: StartWorker, coordinates: Sequence[Coordinates]
) -> None:
    again = prompt_uploaded(event_id="e4", version=4, previous_event_id="e3")
    (at,) = send(settings, again)
    send(settings, *(requested(batch_id=f"b{number}") for number in range(3)))
    send(settings, requested(batch_id="other", assignment_id="a1x"))
    start_worker()
    until(lambda: len(list(tail_batches(settings, from_beginning=True))) == 3)
    batches = list(tail_batches(settings, from_beginning=True))
    code, document, _ = run_json(settings, "audit", "history", "a1", "--uses")
    used = {(item["role"], item["version"]): item["batches"] for item in document["items"]}
    assert (code, used.pop(("student_prompt", 4)), used.pop(("instructions", 1))) == (0, 3, 3)
    assert set(used.values()) == {0}

    batch: Any = batches[0].event
    gone = Coordinates(at.topic, at.partition, at.offset + 100)
    forged = CODEC.encode(_with_prompt_source(batch, gone))
    append(settings, [Record(settings.topics.batches.name, 0, b"forged", forged)])
    topic = settings.topics.batches.name
    garbage, _ = append(
        settings, [Record(topic, 0, b"k", b"garbage a1"), Record(topic, 0, b"k", b"other")]
    )
    code, document, messages = run_json(settings, "audit", "history", "a1", "--uses")
    assert (code, document["complete"]) == (3, False)
    assert [(upload["source"]["offset"], upload["batches"]) for upload in document["lost"]] == [
        (gone.offset, 1)
    ]
    assert f"version 4 at {gone}, which 1 batches name, is at {at} here: " in messages
    assert document["foreign_records"] == [str(garbage)]
    _, out, _ = run_text(settings, "audit", "history", "a1", "--uses")
    assert f"not counted: {garbage} is no batch" in out


def test_outcomes_that_were_copied_from_another_installation_are_named(settings: Settings) -> None:
    send(settings, instructions_uploaded(event_id="i-9"), prompt_uploaded(event_id="p-9"))
    request = requested(batch_id="copied")
    (at,) = send(settings, request)
    _, document, _ = run_json(settings, "audit", "batch", "copied")
    (story,) = document["requests"]
    assert (story["outcomes"], story["verified"]) == ([], False)
    assert "there is no outcome to verify" in run_text(settings, "audit", "batch", "copied")[1]

    context = context_after(instructions_uploaded(), prompt_uploaded())
    builder = OutcomeBuilder(CODEC, Policy(), lambda _scope_key: context)
    elsewhere = Coordinates(Topics().requests.name, at.partition, 7)
    outcome = builder.build(CODEC.encode(request), elsewhere).value
    (copy,) = append(settings, [Record(settings.topics.batches.name, at.partition, b"k", outcome)])
    code, document, _ = run_json(settings, "audit", "batch", "copied")
    (story,) = document["requests"]
    assert (code, story["verified"]) == (3, False)
    (finding,) = [one for one in story["verdict"] if one["kind"] == "copied"]
    assert finding["at"] == str(copy)
    assert finding["sentence"].startswith(f"it is the outcome of {elsewhere}: the records were")
    code, _, message = run_json(settings, "audit", "history", "a1", "--uses")
    assert code == 3
    assert "records-copied: assignment:a1: instructions: version 1 at " in message
    assert "is in no topic of this installation" in message


def _with_prompt_source(batch: Any, at: Coordinates) -> Any:
    prompt = replace(batch.provenance.student_prompt, source=at)
    return replace(batch, provenance=replace(batch.provenance, student_prompt=prompt))


@pytest.mark.parametrize(
    ("options", "code", "message"),
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
def test_bad_input_is_a_one_line_error_with_the_right_exit_code(
    settings: Settings, options: list[str], code: int, message: str
) -> None:
    ended, _, messages = run_json(settings, "audit", *options)
    assert ended == code
    assert message in messages
    assert messages.count("\n") == bool(message)


@pytest.mark.thorough
def test_without_a_broker_the_exit_code_is_4(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    for command in (["as-of", "a1", "--at", "1h"], ["history", "a1"]):
        code, _, messages = run_json(away, "audit", *command)
        assert (code, messages.count("\n")) == (4, 1)


def test_without_json_the_output_has_tables_and_texts(
    settings: Settings, coordinates: Sequence[Coordinates]
) -> None:
    for command in (["as-of", "a1", "--offsets", str(coordinates[2])], ["history", "a1"]):
        code, shown, messages = run_text(settings, "audit", *command)
        assert (code, messages) == (0, "")
        assert "head@school.example" in shown
        assert f"{coordinates[2]}" in shown
    code, shown, _ = run_text(
        settings, "audit", "as-of", "a1", "--offsets", str(coordinates[2]), "--diff", "1h"
    )
    assert (code, "+Give three reasons." in shown) == (0, True)
