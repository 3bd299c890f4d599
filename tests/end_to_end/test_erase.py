"""Erasure on a real log and store: what goes, what stays for whom, and a kill in between."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from processors.kafka.partitions import partitions_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import ContentMissing, Unreachable
from schemas.events import Deletion, UploadEvent
from tables.content_store import ContentStore
from tables.history.text_references import erased_texts
from tests.end_to_end.serving import serving
from tests.faults.load import send
from tests.support.builders import (
    instructions_deleted,
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
    sha256_of,
)
from tests.support.run_command import ROOT, environment_of, told
from tests.support.s3_stub import bucket_server
from tests.support.until import until
from tools.audit.erase.erase import EraseRequest, ErasureReport, erase
from tools.broker import free_port

OWN = ("Judge the argument.", "Judge the style.", "Write a letter.", "Weigh structure twice.")
SHARED, REQUESTED = "Use paragraphs.", "Write a poem."
ASKED = ("--actor", "dpo", "--reason-code", "gdpr-17", "--grace", "0s")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    """The installation's store with every text of the story in it."""
    store = ContentStore.at(settings.content)
    for text in (*OWN, SHARED, REQUESTED):
        store.put(text.encode())
    return store


def told_by_log(settings: Settings) -> None:
    """Assignment a1 named seven texts, of which b2's rubric names one, and a request of c3 another."""
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
    code, document, said = told(settings, "audit", "erase", scope, *ASKED, *options)
    assert code == 0, said
    return document


def events_in(settings: Settings, scope_key: str) -> list[UploadEvent]:
    """Every upload event of a scope as the log has it."""
    codec, topics = Codec(), settings.topics
    partitions = partitions_of([topic.name for topic in topics.uploads], settings)
    with LogReader(settings, partitions) as log:
        retained = log.offset_ranges()
        log.seek({one: low for one, (low, _) in retained.items()})
        records = list(log.records_until({one: end for one, (_, end) in retained.items()}))
    own = sorted((one for one in records if one.key == scope_key.encode()), key=attrgetter("at"))
    found = [codec.decode(one.value) for one in own]
    return [one for one in found if isinstance(one, UploadEvent)]


def there(store: ContentStore) -> set[str]:
    return {text.storage_id for text in (*store.listed(), *store.trashed())}


def test_a_scopes_texts_are_erased_and_those_that_others_name_are_kept(
    settings: Settings, store: ContentStore
) -> None:
    told_by_log(settings)
    before = events_in(settings, "assignment:a1")
    planned = erased(settings)
    assert (planned["dry_run"], planned["events"]) == (True, [])
    assert (events_in(settings, "assignment:a1"), len(there(store))) == (before, 6)

    done = erased(settings, "--yes")
    kept = {
        sha256_of(SHARED): ["assignment:b2"],
        sha256_of(REQUESTED): ["a request of assignment:c3"],
    }
    for document in (planned, done):
        assert document["roles"] == ["instructions", "student_prompt", "judge_rubric"]
        assert document["erased"] == ids(*OWN)
        assert {one["storage_id"]: one["named_by"] for one in document["kept"]} == kept
        assert (document["absent"], document["left"], document["gaps"]) == ([], [], [])
    assert there(store) == {*ids(SHARED, REQUESTED)}
    after = events_in(settings, "assignment:a1")
    appended = [one for one in after if one not in before]
    assert len(after) == len(before) + 3
    assert all(isinstance(one, Deletion) and one.erased for one in appended)
    assert {(one.actor, one.correlation_id) for one in appended} == {
        ("dpo", done["correlation_id"])
    }
    assert done["correlation_id"].startswith("erasure-gdpr-17-")
    assert sorted(one["version"] for one in done["events"]) == [2, 4, 4]
    assert erased_texts(after) == {*ids(*OWN, SHARED, REQUESTED)}

    again = erased(settings, "--yes")
    assert (again["roles"], again["events"], again["absent"]) == ([], [], ids(*OWN))
    last = erased(settings, "--yes", scope="assignment:b2")  # a1 no longer names it
    assert last["erased"] == ids(SHARED)


def test_an_upload_after_an_erasure_is_normal_and_names_its_text_anew(
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


def test_a_text_written_just_now_is_left_for_another_run(
    settings: Settings, store: ContentStore
) -> None:
    send(settings, instructions_uploaded(OWN[0]))
    code, document, said = told(settings, "audit", "erase", "assignment:a1", *ASKED[:4], "--yes")
    assert (code, document["left"], document["erased"]) == (3, ids(OWN[0]), [])
    assert said.splitlines() == ["1 texts were written less than 1h ago: call it again then"]
    assert erased(settings, "--yes")["erased"] == ids(OWN[0])


def test_versions_that_the_log_no_longer_has_are_told(
    settings: Settings, store: ContentStore
) -> None:
    send(settings, instructions_uploaded(OWN[0], assignment_id=None, course_id="ENG5", version=4))
    code, document, said = told(settings, "audit", "erase", "course:ENG5", *ASKED, "--yes")
    assert (code, document["erased"]) == (0, ids(OWN[0]))
    gap = {"role": "instructions", "after_version": 0, "before_version": 4}
    assert document["gaps"] == [gap]
    assert "no longer has versions 1 to 3 of the instructions" in said


def test_the_api_answers_404_for_what_is_erased_and_its_writer_goes_on(settings: Settings) -> None:
    path = "/admin/v1/assessment-instructions/assignment/a1"
    body = {"assignment_id": "a1", "instructions_text": OWN[0], "grade_scale": "swedish_8_anchor"}
    with serving(settings.model_copy(update={"api_port": free_port()})) as api:
        until(api.is_ready, 60)
        written = api("POST", "/admin/v1/assignments", {**body, "prompt_text": OWN[2]})
        assert written.status_code == 200, written.text
        assert erased(settings, "--yes")["erased"] == ids(OWN[0], OWN[2])
        for gone in (path, "/admin/v1/student-prompts/assignment/a1", "/admin/v1/assignments/a1"):
            answer = api("GET", gone)
            assert (answer.status_code, answer.json()["deleted"]) == (404, True)
        assert api("GET", f"/v1/content/{sha256_of(OWN[0])}").status_code == 404
        again = api("PUT", path, body)
        assert (again.status_code, again.json()["version"]) == (201, 3), again.text
        whole = api("GET", "/admin/v1/assignments/a1").json()
        assert whole["instructions"]["text"] == OWN[0]
        assert (whole["student_prompt"]["deleted"], whole["student_prompt"]["erased"]) == (
            True,
            True,
        )


KILLED = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from processors.settings import settings_from_environment
from tables.content_store import ContentStore
from tools.audit.erase.erase import Asked, erase

class Killed(ContentStore):
    left = int(sys.argv[1])
    def discard(self, storage_id):
        if Killed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Killed.left -= 1
        return super().discard(storage_id)

settings = settings_from_environment()
asked = Asked(scope_key="assignment:a1", actor="dpo", reason_code="gdpr-17", grace=timedelta(0))
erase(settings, Killed.at(settings.content), asked, yes=True, now=lambda: datetime.now(UTC),
      new_id=lambda: str(uuid4()))
"""


@pytest.mark.parametrize("texts_before", [0, 2])
def test_killed_after_its_events_it_is_finished_by_the_next_run(
    settings: Settings, store: ContentStore, texts_before: int
) -> None:
    told_by_log(settings)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(texts_before)],
        cwd=ROOT,
        env=environment_of(settings),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(there(store)) == 6 - texts_before
    after = events_in(settings, "assignment:a1")
    done = erased(settings, "--yes")
    assert events_in(settings, "assignment:a1") == after
    assert (done["erased"], done["absent"]) == (ids(*OWN)[texts_before:], ids(*OWN)[:texts_before])
    assert there(store) == {*ids(SHARED, REQUESTED)}


def run(settings: Settings, store: ContentStore) -> ErasureReport:
    asked = EraseRequest(
        scope_key="assignment:a1", actor="dpo", reason_code="gdpr-17", grace=timedelta(0)
    )
    return erase(
        settings,
        store,
        asked,
        yes=True,
        now=lambda: datetime.now(UTC),
        new_id=lambda: str(uuid4()),
    )


def test_a_store_that_lets_nothing_be_removed_is_told_and_the_next_run_finishes(
    settings: Settings,
) -> None:
    send(settings, instructions_uploaded(OWN[0]))
    with bucket_server() as bucket:
        store = ContentStore(bucket.store())
        store.put(OWN[0].encode())
        bucket.is_read_only = True
        with pytest.raises(Unreachable, match="not every text is gone: call it again"):
            run(settings, store)
        assert store.get(sha256_of(OWN[0])) == OWN[0].encode()
        assert erased_texts(events_in(settings, "assignment:a1")) == {*ids(OWN[0])}
        bucket.is_read_only = False
        assert [one.storage_id for one in run(settings, store).of("erased")] == ids(OWN[0])
        with pytest.raises(ContentMissing):
            store.get(sha256_of(OWN[0]))


def test_faults_that_are_foreseen_are_one_line(
    settings: Settings, store: ContentStore, tmp_path: Path
) -> None:
    for scope, options, code, why in (
        ("assignment:nobody", ASKED, 1, "nothing was ever uploaded there"),
        ("school:s1", ASKED, 2, "SCOPE"),
        ("assignment:a1", (*ASKED, "--actor", ""), 2, "--actor"),
        ("assignment:a1", (*ASKED, "--grace", "soon"), 2, "--grace"),
    ):
        ended = told(settings, "audit", "erase", scope, *options, "--yes")
        assert (ended[0], ended[1], len(ended[2].splitlines())) == (code, None, 1), ended
        assert why in ended[2]
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    code, document, said = told(away, "audit", "erase", "assignment:a1", *ASKED, "--yes")
    assert (code, document, len(said.splitlines())) == (4, None, 1)
    send(settings, instructions_uploaded(OWN[0]))
    place = tmp_path / "content" / "media" / sha256_of(OWN[0])[:2] / sha256_of(OWN[0])
    (place / "in the way").mkdir(parents=True)
    code, document, said = told(settings, "audit", "erase", "assignment:a1", *ASKED, "--yes")
    assert (code, document, len(said.splitlines())) == (4, None, 1)
    assert "call it again" in said
