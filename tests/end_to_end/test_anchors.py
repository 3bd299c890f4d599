"""Anchors as a role: two API processes add them to one assignment, the judge finds them, the audit knows them."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from processors.judging.anchors_lookup import AnchorsFeed
from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import AnchorsDeleted, AnchorsUploaded
from schemas.field_limits import MAX_ANCHORS
from schemas.scales import get_scale
from tables.content_store import ContentStore
from tests.end_to_end.serving import Serving, ready_api
from tests.support.builders import sha256_of
from tests.support.run_command import environment_of, run_json, run_main, run_text
from tests.support.tokens import hs256
from tests.support.until import until
from tools.sweep import sweep

SCALE = "swedish_8_anchor"
GRADES = get_scale(SCALE).grades
CLIENTS = 8
OF_A1 = "/admin/v1/anchors/assignment/a1"


def essay(number: int) -> str:
    return f"Essay {number} says that the youth centre must stay open. " * 3 + "Indeed."


def grade_of(number: int) -> str:
    return GRADES[number % len(GRADES)]


def events_in(settings: Settings) -> list[tuple[Coordinates, Any]]:
    """Every event of the anchors topic, in log order; only one assignment has anchors."""
    with LogReader(settings, settings.partitions_of(settings.topics.anchors)) as log:
        records = list(log.records_until(log.seek_to_start()))
    return [(record.at, Codec().decode(record.value)) for record in records]


def add(api: Serving, number: int) -> None:
    """Add an anchor; again if the other process was faster too often."""
    body = {"assignment_id": "a1", "anchor_id": f"anchor-{number}", "grade": grade_of(number)}

    def is_added() -> bool:
        answer = api("POST", "/admin/v1/anchors", {**body, "essay_text": essay(number)})
        assert answer.status_code in (200, 202, 503, 504), answer.text
        return answer.is_success

    until(is_added, 120)


@pytest.mark.thorough
def test_two_processes_add_anchors_to_one_assignment_and_none_is_lost(settings: Settings) -> None:
    with ready_api(settings) as first, ready_api(settings) as second:
        body = {"instructions_text": "Judge the argument.", "grade_scale": SCALE}
        first("PUT", "/admin/v1/assessment-instructions/assignment/a1", body).raise_for_status()
        with ThreadPoolExecutor(CLIENTS) as clients:
            added = [
                clients.submit(add, (first, second)[number % 2], number)
                for number in range(MAX_ANCHORS)
            ]
            for future in added:
                future.result()
        documents = [api("GET", OF_A1).json() for api in (first, second)]
        assert documents[0] == documents[1]
        found = {one["anchor_id"]: (one["grade"], one["sha256"]) for one in documents[0]["anchors"]}
        assert found == {
            f"anchor-{number}": (grade_of(number), sha256_of(essay(number)))
            for number in range(MAX_ANCHORS)
        }
        events = events_in(settings)
        assert [event.version for _, event in events] == [*range(1, len(events) + 1)]
        _check_lookup(settings, events)
        _check_audit(settings, events)
        deleted = first("DELETE", f"{OF_A1}/anchor-7").json()
        assert deleted["anchor_count"] == MAX_ANCHORS - 1
    _check_erasure(settings)


def _check_lookup(settings: Settings, events: list[tuple[Coordinates, Any]]) -> None:
    """The judge's lookup finds the newest upload, and up to where it has read."""
    faults = list[BaseException]()
    admin = admin_client(settings)
    feed = AnchorsFeed(settings, Codec(), admin, faults.append)
    feed.start(checked_topics(admin, settings))
    try:
        found = feed.lookup.find("a1")
        at, newest = events[-1]
        assert (found.source, found.anchors) == (at, newest.anchors)
        assert found.position > at.offset
        assert feed.lookup.find("a2").anchors == ()
    finally:
        feed.stop()
    assert faults == []


def _check_audit(settings: Settings, events: list[tuple[Coordinates, Any]]) -> None:
    """As-of, history and replay know the role."""
    at, event = events[len(events) // 2]
    code, document, messages = run_json(settings, "audit", "as-of", "a1", "--offsets", str(at))
    assert code == 0, messages
    assert document["anchors"]["version"] == event.version
    assert len(document["anchors"]["anchors"]) == len(event.anchors)
    code, document, messages = run_json(settings, "audit", "history", "a1", "--page-size", "5")
    assert code == 0, messages
    assert document["items"][0]["role"] == "anchors"
    assert document["items"][0]["changed"] == ["anchors"]
    code, lines, messages = run_text(settings, "audit", "replay", "--json")
    assert code == 0, messages
    replayed = json.loads(lines.splitlines()[0])["context"]
    assert replayed["anchors"]["version"] == events[-1][1].version


def _check_erasure(settings: Settings) -> None:
    store = ContentStore.open(settings.content)
    assert store.has(sha256_of(essay(0)))
    assert store.has(sha256_of(essay(7)))  # of an anchor that was deleted, too
    options = ("--actor", "dpo", "--reason-code", "gdpr-17", "--grace", "0s", "--yes")
    code, document, messages = run_json(settings, "audit", "erase", "assignment:a1", *options)
    assert code == 0, messages
    assert "anchors" in document["roles"]
    assert len(document["erased"]) == MAX_ANCHORS + 1
    assert not store.has(sha256_of(essay(0)))
    assert not store.has(sha256_of(essay(7)))
    _, last = events_in(settings)[-1]
    assert isinstance(last, AnchorsDeleted)
    assert last.erased


@pytest.mark.thorough
def test_a_folder_of_essays_becomes_the_anchors_and_the_sweep_leaves_their_texts(
    settings: Settings, tmp_path: Path
) -> None:
    folder, grades = tmp_path / "essays", tmp_path / "grades.csv"
    folder.mkdir()
    with grades.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("anchor_id", "grade"))
        for number in range(12):
            (folder / f"Anchor {number}.txt").write_text(essay(number))
            writer.writerow((f"Anchor {number}.txt", grade_of(number)))
    with ready_api(settings) as api:
        body = {"instructions_text": "Judge the argument.", "grade_scale": SCALE}
        api("PUT", "/admin/v1/assessment-instructions/assignment/a1", body).raise_for_status()
        environment = environment_of(settings, CJ_ADMIN_BASE_URL=api.url, CJ_ADMIN_TOKEN=hs256())
        command = ("admin", "anchors", "import", "--assignment-id", "a1", "--dir", str(folder))
        code, out, messages = run_main(environment, *command, "--grades", str(grades), "--json")
        assert code == 0, messages
        document = json.loads(out)
        assert document["anchor_count"] == 12
        assert document["anchors"][0]["anchor_id"] == "anchor_0"
        (_, event), *more = events_in(settings)
        assert isinstance(event, AnchorsUploaded)
        assert more == []  # one upload for all
    store = ContentStore.open(settings.content)
    store.put(b"Nothing names this text.")
    later = datetime.now(UTC) + timedelta(days=8)
    swept = sweep(settings, store, grace=timedelta(days=7), delete=True, now=later)
    assert [text.storage_id for text in swept.trashed] == [sha256_of("Nothing names this text.")]
