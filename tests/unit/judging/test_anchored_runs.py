"""Anchors in whole runs, through the log: grades, their refusals, scales apart; an audit makes them again."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import ContentMissing
from schemas.judging_events import (
    CJBatchJudged,
    Grading,
    JudgedEssay,
    JudgingOpened,
)
from tests.support.builders import anchor, anchors_deleted, anchors_uploaded
from tests.support.judged_installation import CODEC, JudgedInstallation
from tools.audit.check.findings import Finding, Note, Violation
from tools.audit.judging.judging_range import judging_range_of
from tools.audit.judging.kept_texts import KeptTexts
from tools.audit.judging.partition_check import JudgingCheck

LEGACY = "eng5_np_legacy_9_step"
SWEDISH = {"F": -3.2, "E": -2.0, "D": -1.0, "D+": -0.3, "C": 0.4, "C+": 1.1, "B": 2.0, "A": 3.0}
PUPILS = (-2.5, -1.5, -0.8, 0.0, 0.6, 1.2, 1.9, 2.8)
TOGETHER = {"judging": {"max_comparisons": 70}}


class Anchored:
    """An installation whose texts have known qualities; its anchors and essays are given by them."""

    def __init__(self, folder: Path) -> None:
        self.judged = JudgedInstallation(Settings(data_dir=folder, partitions=1))

    def text(self, name: str, theta: float) -> str:
        text = f"{name} of quality {theta}"
        storage_id = self.judged.store.put(text.encode()).storage_id
        self.judged.thetas[storage_id] = theta
        return text

    def upload(
        self, graded: Mapping[str, float], scale: str = "swedish_8_anchor", version: int = 1
    ) -> Coordinates:
        texts = [(self.text(f"anchor {grade}", theta), grade) for grade, theta in graded.items()]
        return self.judged.upload_anchors(*texts, scale=scale, version=version)

    def run(
        self,
        pupils: tuple[float, ...] = PUPILS,
        overrides: object = TOGETHER,
        scale: str = "swedish_8_anchor",
    ) -> CJBatchJudged:
        texts = [self.text(f"essay {number}", theta) for number, theta in enumerate(pupils)]
        log = self.judged.log.topics[self.judged.topics.results.name]
        name = f"batch-{len(log)}"
        batch = self.judged.prepare(name, overrides=overrides, texts=texts, scale=scale)
        self.judged.judge(batch)
        return CODEC.decode_as(CJBatchJudged, log[-1].value)

    def opened(self) -> JudgingOpened:
        at = self.judged.find(JudgingOpened)
        return CODEC.decode_as(JudgingOpened, self.judged.record(at).value)

    def findings(self) -> list[Finding]:
        log = self.judged.log
        kept = KeptTexts(self.judged.store)
        check = JudgingCheck(log, Codec(), judging_range_of(log), 0, kept)
        return [finding for portion in check.run() for finding in portion.findings]

    def violations(self) -> list[str]:
        return [finding.kind for finding in self.findings() if isinstance(finding, Violation)]


@pytest.fixture
def anchored(tmp_path: Path) -> Anchored:
    return Anchored(tmp_path)


def grading_of(result: CJBatchJudged) -> Grading:
    assert result.grading is not None
    return result.grading


def reason_of(result: CJBatchJudged) -> str | None:
    """Why nobody has a grade; every essay and anchor is there, and the scores stand."""
    assert {(one.grade, one.distribution, one.set_90) for one in result.essays} == {(None, (), ())}
    assert {one.own_probability for one in result.anchors} <= {None}
    assert grading_of(result).status == "none"
    return grading_of(result).reason


def exact_sum(essay: JudgedEssay) -> Decimal:
    return sum((Decimal(repr(one.p)) for one in essay.distribution), Decimal(0))


def test_pupils_get_grades_and_anchors_stay_apart(anchored: Anchored) -> None:
    at = anchored.upload(SWEDISH)
    result = anchored.run()
    grading, opened = grading_of(result), anchored.opened()
    assert (grading.status, grading.reason) == ("graded", None)
    assert len(grading.thresholds) == 7
    assert [item.id for item in opened.anchors] == [f"k-{number}" for number in range(8)]
    assert [item.grade for item in opened.anchors] == list(SWEDISH)
    assert (opened.anchors_from, opened.anchors_position) == (at, at.offset + 1)
    assert result.provenance.anchors == at
    assert [one.essay_id for one in result.essays] == [f"e-{number}" for number in range(8)]
    assert sorted(one.rank or 0 for one in result.essays) == list(range(1, 9))
    assert [one.anchor_id for one in result.anchors] == [f"k-{number}" for number in range(8)]
    for essay in result.essays:
        assert exact_sum(essay) == 1
        assert essay.grade in SWEDISH
        assert essay.grade_probability == max(one.p for one in essay.distribution)
        assert essay.grade_label in ("HIGH", "MID", "LOW")
    assert all(one.own_probability is not None for one in result.anchors)
    assert {name for one in opened.anchors for name in [one.grade]} == set(SWEDISH)
    assert anchored.violations() == []


def test_the_newest_anchors_before_the_run_are_those_that_count(anchored: Anchored) -> None:
    anchored.upload({"F": -3.0, "A": 3.0, "C": 0.0})
    newer = anchored.upload({"E": -2.0, "C": 0.0, "B": 2.0, "A": 3.0}, version=2)
    result = anchored.run()
    assert [one.grade for one in result.anchors] == ["E", "C", "B", "A"]
    assert result.provenance.anchors == newer
    anchored.judged.append_anchors(anchors_deleted(version=3))
    assert reason_of(anchored.run()) == "no_anchors"
    assert anchored.violations() == []


def test_only_anchors_of_the_batchs_scale_are_taken(anchored: Anchored) -> None:
    swedish = [
        anchor(f"s-{grade}", grade, text=anchored.text(grade, q)) for grade, q in SWEDISH.items()
    ]
    legacy = [
        anchor(f"l-{grade}", grade, LEGACY, anchored.text(grade, q))
        for grade, q in (("F", -3.5), ("E-", -1.5), ("C-", 0.5), ("A", 2.5))
    ]
    anchored.judged.append_anchors(anchors_uploaded(*swedish, *legacy))
    result = anchored.run(scale=LEGACY)
    assert [(one.anchor_id, one.grade) for one in result.anchors] == [
        ("l-A", "A"),
        ("l-C-", "C-"),
        ("l-E-", "E-"),
        ("l-F", "F"),
    ]
    names = [one.grade for one in result.essays[0].distribution]
    assert names == ["F", "F+", "E-", "E+", "D-", "D+", "C-", "C+", "B", "A"]
    result = anchored.run()
    assert {one.anchor_id for one in result.anchors} == {one.anchor_id for one in swedish}
    assert "F+" not in {one.grade for one in result.essays[0].distribution}
    assert anchored.violations() == []


def test_anchors_of_another_scale_alone_give_no_grades(anchored: Anchored) -> None:
    at = anchored.upload({"F": -3.5, "E-": -1.5, "C-": 0.5, "A": 2.5}, LEGACY)
    result = anchored.run()
    assert (reason_of(result), result.anchors) == ("anchors_of_another_scale", ())
    assert result.provenance.anchors == at
    assert anchored.violations() == []


def test_an_anchor_whose_grade_its_scale_lacks_is_left_out_with_a_warning(
    anchored: Anchored,
) -> None:
    anchored.upload({**SWEDISH, "Z": 5.0})
    assert len(anchored.run().anchors) == 8
    assert anchored.opened().warnings == ("anchors_with_unknown_grade",)
    assert anchored.violations() == []


@pytest.mark.parametrize(
    ("graded", "reason"),
    [
        ({}, "no_anchors"),
        ({"A": 1.0, "E": -1.0}, "too_few_anchors"),
        ({"A": -3.0, "B": -2.0, "C": 0.0, "D": 2.0, "E": 3.0}, "anchors_disordered"),
    ],
)
def test_grades_are_refused_and_scores_stand(
    anchored: Anchored, graded: Mapping[str, float], reason: str
) -> None:
    if graded:
        anchored.upload(graded)
    result = anchored.run()
    assert reason_of(result) == reason
    assert None not in {one.rank for one in result.essays}
    assert len(result.anchors) == len(graded)
    assert anchored.violations() == []


def test_a_failed_run_has_no_grades(anchored: Anchored) -> None:
    """A judge that tosses coins."""
    anchored.upload(dict.fromkeys(SWEDISH, 0.0))
    result = anchored.run((0.0,) * 12, {"judging": {"per_item_max": 20}})
    assert (result.outcome, result.reason) == ("failed", "no_signal")
    assert reason_of(result) == "run_failed"
    assert {one.theta for one in result.essays} == {one.theta for one in result.anchors} == {None}
    assert anchored.violations() == []


def test_below_the_lowest_grade_lies_f_or_0_and_nothing_in_the_swedish_scale(
    anchored: Anchored,
) -> None:
    national = {"0": -5.0, "1": -3.0, "2": -2.0, "4": -0.5, "6": 1.0, "9": 3.0}
    pupils = (-7.0, *PUPILS)
    many = {"judging": {"max_comparisons": 150}}
    anchored.upload(national, "eng5_np_national_9_step")
    assert anchored.run(pupils, many, "eng5_np_national_9_step").essays[0].grade == "0"
    legacy = {"F": -5.0, "F+": -3.0, "E-": -2.0, "D-": -0.5, "C-": 1.0, "A": 3.0}
    anchored.upload(legacy, LEGACY, 2)
    assert anchored.run(pupils, many, LEGACY).essays[0].grade == "F"
    anchored.upload(SWEDISH, version=3)
    essay = anchored.run(pupils, many).essays[0]
    assert essay.grade == "F"
    assert {one.grade for one in essay.distribution} == set(SWEDISH)
    assert anchored.violations() == []


def test_a_run_ends_when_its_grades_are_certain(anchored: Anchored) -> None:
    anchored.upload(SWEDISH)
    overrides = {"judging": {"target_bound": 0.99, "target_grades": 0.3, "grade_min": 0.6}}
    result = anchored.run(overrides=overrides)
    assert (result.outcome, result.reason) == ("complete", "grades_certain")
    undecided = [one for one in result.essays if one.grade is None]
    decided = [one for one in result.essays if one.grade is not None]
    assert {one.grade_reason for one in undecided} == {"undecided"}
    assert {one.grade_reason for one in decided} <= {None}
    for essay in result.essays:
        most = max(one.p for one in essay.distribution)
        assert (essay.grade is None) == (most < 0.6)
        assert (essay.grade_probability, essay.grade_label is None) in ((most, False), (None, True))
    assert anchored.violations() == []


def test_a_missing_text_of_an_anchor_refuses_the_batch_and_is_named(anchored: Anchored) -> None:
    anchored.upload(SWEDISH)
    anchored.judged.append_anchors(anchors_uploaded(anchor("gone", "C"), version=2))
    result = anchored.run()
    assert (result.outcome, result.reason) == ("refused", "texts_missing")
    assert [(one.path, one.code) for one in result.details] == [("anchors.gone", "texts_missing")]
    with pytest.raises(ContentMissing):
        anchored.judged.store.get(anchor("gone", "C").storage_id)
    assert anchored.violations() == []


def test_an_anchor_with_the_id_of_an_essay_refuses_the_batch_and_is_named(
    anchored: Anchored,
) -> None:
    anchored.upload(SWEDISH)
    named = anchor("e-1", "C", text=anchored.text("anchor", 0.5))
    anchored.judged.append_anchors(anchors_uploaded(named, anchor("e-2", "B", LEGACY), version=2))
    result = anchored.run()
    assert (result.outcome, result.reason) == ("refused", "anchors_named_as_essays")
    details = [(one.path, one.code) for one in result.details]
    assert details == [("anchors.e-1", "anchors_named_as_essays")]  # not that of another scale
    assert anchored.violations() == []


def test_a_record_that_is_no_upload_of_anchors_is_skipped_and_named(anchored: Anchored) -> None:
    judged = anchored.judged
    anchored.upload(SWEDISH)
    topic = judged.topics.anchors
    good = CODEC.encode(anchors_uploaded(version=2))
    skipped = [
        judged.append(topic, b"assignment:a1", good[:-1], has_checksum=False),
        judged.append(topic, b"assignment:a2", good, has_checksum=False),
        judged.append(topic, b"assignment:a1", None, has_checksum=False),
    ]
    assert anchored.run().grading is not None
    assert len(anchored.opened().anchors) == len(SWEDISH)
    notes = [one for one in anchored.findings() if isinstance(one, Note)]
    assert [(one.kind, one.at) for one in notes] == [("anchors_record", at) for at in skipped]
    assert anchored.violations() == []


def test_anchors_count_as_items(anchored: Anchored) -> None:
    anchored.upload(SWEDISH)
    anchored.judged.policy = replace(anchored.judged.policy, items_max=15)
    assert anchored.run().reason == "too_many_items"
    anchored.judged.policy = replace(anchored.judged.policy, items_max=16)
    assert anchored.run(overrides=None).outcome == "complete"
    assert anchored.opened().max_comparisons == 16 * 12 + 10
    assert anchored.violations() == []


def test_an_audit_names_other_anchors_and_other_grades(anchored: Anchored) -> None:
    anchored.upload(SWEDISH)
    anchored.run()
    at, opened = anchored.judged.find(JudgingOpened), anchored.opened()
    for changes in (
        {"anchors": opened.anchors[1:]},
        {"anchors": (replace(opened.anchors[0], grade="E"), *opened.anchors[1:])},
        {"anchors_position": 0},
        {"anchors_from": None},
    ):
        anchored.judged.change(at, **changes)
        assert "wrong_anchors" in anchored.violations(), changes
        anchored.judged.change(at, **{name: getattr(opened, name) for name in changes})
    assert anchored.violations() == []
    at = anchored.judged.find(CJBatchJudged)
    result = CODEC.decode_as(CJBatchJudged, anchored.judged.record(at).value)
    anchored.judged.change(at, essays=(replace(result.essays[0], grade="A"), *result.essays[1:]))
    assert anchored.violations() == ["wrong_result"]
