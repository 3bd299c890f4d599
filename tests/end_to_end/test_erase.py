"""Erasure on a real log and store: which texts are erased, which are kept for others, and a kill in between."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import ContentMissing, Unreachable
from schemas.events import Deletion, UploadEvent
from schemas.judging_events import CallAnswered
from tables.content_store import ContentStore
from tables.history.text_references import erased_texts
from tests.end_to_end.serving import ready_api
from tests.faults.load import send
from tests.faults.running import StartWorker
from tests.support.builders import (
    instructions_deleted,
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
    sha256_of,
)
from tests.support.judged_batches import (
    CRITERIA,
    JUDGE,
    TASK,
    append_batches,
    judging_findings,
    judging_of,
    results_of,
)
from tests.support.run_command import ROOT, environment_of, run_json
from tests.support.s3_stub import bucket_server
from tests.support.until import until
from tools.audit.check.findings import NotVerifiable
from tools.audit.erase.erase import EraseRequest, erase

OWN = ("Judge the argument.", "Judge the style.", "Write a letter.", "Weigh structure twice.")
SHARED, REQUESTED = "Use paragraphs.", "Write a poem."
OPTIONS = ("--actor", "dpo", "--reason-code", "gdpr-17", "--grace", "0s")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    """The installation's store with every text of the story in it."""
    store = ContentStore.open(settings.content)
    for text in (*OWN, SHARED, REQUESTED):
        store.put(text.encode())
    return store


def send_story(settings: Settings) -> None:
    """Send uploads of a1 that name six texts; b2's rubric also names one of them, a request of c3 another."""
    send(
        settings,
        instructions_uploaded(OWN[0]),
        instructions_uploaded(OWN[1], version=2),
        instructions_deleted(version=3),
        prompt_uploaded(OWN[2]),
        prompt_uploaded(SHARED, version=2),
        prompt_uploaded(REQUESTED, version=3),
        rubric_uploaded(OWN[3]),
        rubric_uploaded(SHARED, assignment_id="b2"),
        requested(student_prompt_ref=sha256_of(OWN[2])),  # a1's own: no other scope
        requested(assignment_id="c3", student_prompt_ref=sha256_of(REQUESTED)),
    )


def ids(*texts: str) -> list[str]:
    return sorted(sha256_of(text) for text in texts)


def erased(settings: Settings, *options: str, scope: str = "assignment:a1") -> Any:
    code, document, messages = run_json(settings, "audit", "erase", scope, *OPTIONS, *options)
    assert code == 0, messages
    return document


def events_in(settings: Settings, scope_key: str) -> list[UploadEvent]:
    """Every upload event of a scope in the log."""
    codec, topics = Codec(), settings.topics
    partitions = settings.partitions_of(*topics.uploads)
    with LogReader(settings, partitions) as log:
        records = list(log.records_until(log.seek_to_start()))
    own = [record for record in records if record.key == scope_key.encode()]
    found = [codec.decode(record.value) for record in sorted(own, key=attrgetter("at"))]
    return [event for event in found if isinstance(event, UploadEvent)]


def stored_ids(store: ContentStore) -> set[str]:
    return {text.storage_id for text in (*store.list_texts(), *store.list_trash())}


@pytest.mark.thorough
def test_the_responses_of_a_scopes_judge_are_erased_and_the_result_is_still_verified(
    settings: Settings, store: ContentStore, start_worker: StartWorker
) -> None:
    send(settings, instructions_uploaded(CRITERIA), prompt_uploaded(TASK))
    append_batches(settings, 1)  # of assignment a1
    start_worker(command=JUDGE, judge="simulated/sim-1", judge_first_start="beginning")
    until(lambda: results_of(settings), 60)
    (events,) = judging_of(settings).values()
    responses = {event.response_storage_id for event in events if isinstance(event, CallAnswered)}
    assert responses <= stored_ids(store)
    done = erased(settings, "--yes")
    assert responses <= set(done["erased"])
    assert not responses & stored_ids(store)
    kinds = {(type(one), one.kind) for one in judging_findings(settings)}
    assert kinds == {(NotVerifiable, "texts_gone")}  # the task and the criteria


def test_a_scopes_texts_are_erased_except_those_that_others_name(
    settings: Settings, store: ContentStore
) -> None:
    send_story(settings)
    before = events_in(settings, "assignment:a1")
    planned = erased(settings)
    assert (planned["dry_run"], planned["events"]) == (True, [])
    assert (events_in(settings, "assignment:a1"), len(stored_ids(store))) == (before, 6)

    done = erased(settings, "--yes")
    kept = {
        sha256_of(SHARED): ["assignment:b2"],
        sha256_of(REQUESTED): ["a request of assignment:c3"],
    }
    for document in (planned, done):
        assert document["roles"] == ["instructions", "student_prompt", "judge_rubric"]
        assert document["erased"] == ids(*OWN)
        assert {text["storage_id"]: text["named_by"] for text in document["kept"]} == kept
        assert (document["absent"], document["left"], document["gaps"]) == ([], [], [])
    assert stored_ids(store) == {*ids(SHARED, REQUESTED)}
    after = events_in(settings, "assignment:a1")
    appended = [event for event in after if event not in before]
    assert len(after) == len(before) + 3
    assert all(isinstance(event, Deletion) and event.erased for event in appended)
    assert {(event.actor, event.correlation_id) for event in appended} == {
        ("dpo", done["correlation_id"])
    }
    assert done["correlation_id"].startswith("erasure-gdpr-17-")
    assert sorted(event["version"] for event in done["events"]) == [2, 4, 4]
    assert erased_texts(after) == {*ids(*OWN, SHARED, REQUESTED)}

    again = erased(settings, "--yes")
    assert (again["roles"], again["events"], again["absent"]) == ([], [], ids(*OWN))
    last = erased(settings, "--yes", scope="assignment:b2")  # a1 no longer names it
    assert last["erased"] == ids(SHARED)


def test_an_erased_text_that_is_uploaded_again_is_named_again(
    settings: Settings, store: ContentStore
) -> None:
    send(settings, instructions_uploaded(OWN[0]), rubric_uploaded(OWN[0], assignment_id="b2"))
    erased(settings, "--yes", scope="assignment:b2")
    assert erased(settings, "--yes")["erased"] == ids(OWN[0])
    store.put(OWN[0].encode())
    send(settings, instructions_uploaded(OWN[0], version=3))
    kept = erased(settings, "--yes", scope="assignment:b2")["kept"]
    assert kept == [{"storage_id": sha256_of(OWN[0]), "named_by": ["assignment:a1"]}]
    assert erased_texts(events_in(settings, "assignment:a1")) == set()


def test_a_text_younger_than_the_grace_period_is_left_for_another_run(
    settings: Settings, store: ContentStore
) -> None:
    send(settings, instructions_uploaded(OWN[0]))
    code, document, messages = run_json(
        settings, "audit", "erase", "assignment:a1", *OPTIONS[:4], "--yes"
    )
    assert (code, document["left"], document["erased"]) == (3, ids(OWN[0]), [])
    assert messages.splitlines() == [
        "not deleted: 1 text written less than 1h ago; run the command again after that"
    ]
    assert erased(settings, "--yes")["erased"] == ids(OWN[0])


def test_versions_missing_from_the_log_are_reported(
    settings: Settings, store: ContentStore
) -> None:
    send(settings, instructions_uploaded(OWN[0], assignment_id=None, course_id="ENG5", version=4))
    code, document, messages = run_json(
        settings, "audit", "erase", "course:ENG5", *OPTIONS, "--yes"
    )
    assert (code, document["erased"]) == (0, ids(OWN[0]))
    gap = {"role": "instructions", "after_version": 0, "before_version": 4}
    assert document["gaps"] == [gap]
    assert "no longer has versions 1 to 3 of the instructions" in messages


def test_the_api_answers_404_for_erased_roles_and_accepts_new_uploads(settings: Settings) -> None:
    path = "/admin/v1/assessment-instructions/assignment/a1"
    body = {"assignment_id": "a1", "instructions_text": OWN[0], "grade_scale": "swedish_8_anchor"}
    with ready_api(settings) as api:
        written = api("POST", "/admin/v1/assignments", {**body, "prompt_text": OWN[2]})
        assert written.status_code == 200, written.text
        assert erased(settings, "--yes")["erased"] == ids(OWN[0], OWN[2])
        for gone in (path, "/admin/v1/student-prompts/assignment/a1", "/admin/v1/assignments/a1"):
            answer = api("GET", gone)
            assert (answer.status_code, answer.json()["deleted"]) == (404, True)
        assert api("GET", f"/v1/content/{sha256_of(OWN[0])}").status_code == 404
        again = api("PUT", path, body)
        assert (again.status_code, again.json()["version"]) == (201, 3), again.text
        assignment = api("GET", "/admin/v1/assignments/a1").json()
        assert assignment["instructions"]["text"] == OWN[0]
        prompt = assignment["student_prompt"]
        assert (prompt["deleted"], prompt["erased"]) == (
            True,
            True,
        )


KILLED_ERASURE = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from processors.settings import settings_from_environment
from tables.content_store import ContentStore
from tools.audit.erase.erase import EraseRequest, erase

class Killed(ContentStore):
    left = int(sys.argv[1])
    def discard(self, storage_id):
        if Killed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Killed.left -= 1
        return super().discard(storage_id)

settings = settings_from_environment()
request = EraseRequest(
    scope_key="assignment:a1", actor="dpo", reason_code="gdpr-17", grace=timedelta(0)
)
erase(settings, Killed.open(settings.content), request, yes=True, now=lambda: datetime.now(UTC),
      new_id=lambda: str(uuid4()))
"""


@pytest.mark.parametrize("texts_before", [0, 2])
def test_an_erasure_killed_after_its_events_is_finished_by_the_next_run(
    settings: Settings, store: ContentStore, texts_before: int
) -> None:
    send_story(settings)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_ERASURE, str(texts_before)],
        cwd=ROOT,
        env=environment_of(settings),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(stored_ids(store)) == 6 - texts_before
    after = events_in(settings, "assignment:a1")
    done = erased(settings, "--yes")
    assert events_in(settings, "assignment:a1") == after
    assert (done["erased"], done["absent"]) == (ids(*OWN)[texts_before:], ids(*OWN)[:texts_before])
    assert stored_ids(store) == {*ids(SHARED, REQUESTED)}


def run(settings: Settings, store: ContentStore) -> dict[str, Any]:
    request = EraseRequest(
        scope_key="assignment:a1", actor="dpo", reason_code="gdpr-17", grace=timedelta(0)
    )
    return erase(
        settings,
        store,
        request,
        yes=True,
        now=lambda: datetime.now(UTC),
        new_id=lambda: str(uuid4()),
    )


@pytest.mark.thorough
def test_a_read_only_store_is_an_error_and_the_next_run_finishes_the_erasure(
    settings: Settings,
) -> None:
    send(settings, instructions_uploaded(OWN[0]))
    with bucket_server() as bucket:
        store = ContentStore(bucket.store())
        store.put(OWN[0].encode())
        bucket.is_read_only = True
        with pytest.raises(Unreachable, match="not every text is gone: run the command again"):
            run(settings, store)
        assert store.get(sha256_of(OWN[0])) == OWN[0].encode()
        assert erased_texts(events_in(settings, "assignment:a1")) == {*ids(OWN[0])}
        bucket.is_read_only = False
        assert run(settings, store)["erased"] == ids(OWN[0])
        with pytest.raises(ContentMissing):
            store.get(sha256_of(OWN[0]))


@pytest.mark.thorough
def test_expected_errors_are_one_line(
    settings: Settings, store: ContentStore, tmp_path: Path
) -> None:
    for scope, options, code, message in (
        ("assignment:nobody", OPTIONS, 1, "nothing was ever uploaded for this scope"),
        ("school:s1", OPTIONS, 2, "SCOPE"),
        ("assignment:a1", (*OPTIONS, "--actor", ""), 2, "--actor"),
        ("assignment:a1", (*OPTIONS, "--grace", "soon"), 2, "--grace"),
    ):
        ended = run_json(settings, "audit", "erase", scope, *options, "--yes")
        assert (ended[0], ended[1]["exit_code"], len(ended[2].splitlines())) == (code, code, 1)
        assert message in ended[2]
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    code, document, messages = run_json(away, "audit", "erase", "assignment:a1", *OPTIONS, "--yes")
    assert (code, document["exit_code"], len(messages.splitlines())) == (4, 4, 1)
    send(settings, instructions_uploaded(OWN[0]))
    blocked = tmp_path / "content" / "media" / sha256_of(OWN[0])[:2] / sha256_of(OWN[0])
    (blocked / "in the way").mkdir(parents=True)
    code, document, messages = run_json(
        settings, "audit", "erase", "assignment:a1", *OPTIONS, "--yes"
    )
    assert (code, document["exit_code"], len(messages.splitlines())) == (4, 4, 1)
    assert "run the command again" in messages
