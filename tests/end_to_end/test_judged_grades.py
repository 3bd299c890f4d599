"""A judge on a real broker finds the anchors of an assignment; the audit makes the grades of its results again."""

import json
from decimal import Decimal

import pytest

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import AnchorsDeleted, AnchorsUploaded, Essay, scope_key_of
from schemas.judging_events import CJBatchJudged, Grading, JudgingOpened
from schemas.partitioner import partition_for
from tables.content_store import ContentStore
from tests.faults.running import StartWorker
from tests.support.builders import anchor, anchors_deleted, anchors_uploaded
from tests.support.judged_batches import (
    JUDGE,
    append_batches,
    judging_findings,
    judging_of,
    results_of,
)
from tests.support.run_command import run_text
from tests.support.until import until

QUALITIES = {"F": -3.2, "E": -2.0, "D": -1.0, "D+": -0.3, "C": 0.4, "C+": 1.1, "B": 2.0, "A": 3.0}
PUPILS = (-2.5, -1.0, 0.0, 0.6, 1.5, 2.8)
LIMITED = json.dumps({"judging": {"max_comparisons": 70}})
LEGACY = "eng5_np_legacy_9_step"


def append_anchors(settings: Settings, event: AnchorsUploaded | AnchorsDeleted) -> None:
    key = scope_key_of(event).encode()
    partition = partition_for(key, settings.partitions)
    record = Record(settings.topics.anchors.name, partition, key, Codec().encode(event))
    deliver(plain_producer(settings), [record])


@pytest.mark.thorough
def test_anchors_that_were_acknowledged_before_a_batch_give_it_grades(
    settings: Settings, start_worker: StartWorker
) -> None:
    store = ContentStore.open(settings.content)
    thetas = dict[str, float]()
    for name, theta in (*QUALITIES.items(), *((f"pupil {t}", t) for t in PUPILS)):
        thetas[store.put(name.encode()).storage_id] = theta
    pupils = tuple(
        Essay(essay_id=f"e-{n}", text_storage_id=store.put(f"pupil {t}".encode()).storage_id)
        for n, t in enumerate(PUPILS)
    )
    swedish = [anchor(f"s-{grade}", grade, text=grade) for grade in QUALITIES]
    others = [anchor(f"l-{grade}", grade, LEGACY, grade) for grade in ("F", "A", "B")]
    mind = {"simulated_judge": json.dumps({"thetas": thetas})}
    start_worker(command=JUDGE, judge="simulated/sim-1", judge_first_start="beginning", **mind)

    def judged(number: int) -> CJBatchJudged:
        (run_id,) = append_batches(
            settings, 1, first_number=number, request_essays=pupils, overrides=LIMITED
        )
        found: dict[str, CJBatchJudged] = {}

        def is_judged() -> bool:
            found.update({one.run_id: one for one in results_of(settings)})
            return run_id in found

        until(is_judged, 120)
        return found[run_id]

    before = judged(0)
    assert before.grading is not None
    assert (before.grading.status, before.grading.reason) == ("none", "no_anchors")
    append_anchors(settings, anchors_uploaded(*swedish, *others))
    graded = judged(1)
    assert graded.grading is not None
    assert graded.grading.status == "graded"
    assert [one.grade for one in graded.anchors] == sorted(QUALITIES)
    for essay in graded.essays:
        assert [one.grade for one in essay.distribution] == list(QUALITIES)
        assert sum(Decimal(repr(one.p)) for one in essay.distribution) == 1
        assert essay.grade in QUALITIES
    exit_code, table, _ = run_text(settings, "results", "show", "batch-1")
    assert (exit_code, "by 8 anchors" in table, "without itself" in table) == (0, True, True)
    exit_code, line, _ = run_text(settings, "results", "explain", "batch-1", "e-0")
    assert (exit_code, f"grade {graded.essays[0].grade} (" in line) == (0, True)
    opened = judging_of(settings)[graded.run_id][0]
    assert isinstance(opened, JudgingOpened)
    assert opened.anchors_from == graded.provenance.anchors
    assert opened.anchors_from is not None
    assert opened.anchors_position > opened.anchors_from.offset
    append_anchors(settings, anchors_uploaded(*others, version=2))
    assert judged(2).grading == Grading(
        status="none", reason="anchors_of_another_scale", flags=(), thresholds=()
    )
    append_anchors(settings, anchors_deleted(version=3))
    assert judged(3).grading == before.grading
    assert judging_findings(settings) == []
