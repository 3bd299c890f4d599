import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest

from processors.judging.judges.simulated import SimulatedFaults
from tests.support.simulated_runs import MARKER, run_of, with_grades
from tools.runner.artefact import artefact_of
from tools.runner.report import PLOTS, report_html


@cache
def artefact() -> bytes:
    return orjson.dumps(artefact_of(run_of(8, 4, faults=SimulatedFaults(garbage=0.2))))


@cache
def page() -> bytes:
    return report_html(graded())


def graded(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(artefact())
    document["metadata"] |= changes
    return with_grades(document)


def without_plots(document: dict[str, Any]) -> dict[str, Any]:
    """Without scores nothing is drawn, which takes the most time."""
    document["bt_summary"] |= {"essays": [], "waves": []}
    document["grade_projections"] |= {"essays": [], "anchors": []}
    return document


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_same_artefact_has_the_same_bytes() -> None:
    assert report_html(graded()) == page()


def test_a_report_has_no_script_and_loads_nothing() -> None:
    elements = Elements(page())
    assert {"script", "link", "img", "iframe", "object", "form"} & {
        tag for tag, _ in elements.found
    } == set()
    for tag, attributes in elements.found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert b"url(http" not in page()
    assert b"@import" not in page()


def test_every_plot_has_a_description_and_a_table() -> None:
    elements = Elements(page())
    plots = [svg["aria-labelledby"] for svg in elements.all("svg")]
    assert plots == [f"{name}-title {name}-alt" for name in PLOTS]
    assert len(elements.all("desc")) == len(PLOTS)
    tables = {one["aria-label"] for one in elements.all("div") if one.get("role") == "region"}
    assert {
        f"Table of {name}" for name in ("ranks", "grades", "waves", "answers", "anchors")
    } <= tables


def test_no_id_occurs_twice_and_every_reference_is_there() -> None:
    elements = Elements(page())
    ids = [attributes["id"] for _, attributes in elements.found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    used = [attributes["xlink:href"] for attributes in elements.all("use")]
    assert {f"#{one}" for one in ids} >= set(used)
    assert used


def test_colours_of_plots_follow_the_page() -> None:
    plots = "".join(re.findall(r"<svg.*?</svg>", page().decode(), re.DOTALL))
    assert "#010101" not in plots
    assert "var(--ink)" in plots
    assert "var(--accent)" in plots


def test_no_text_of_an_essay_is_in_a_report_or_an_artefact() -> None:
    assert MARKER.encode() not in page()
    assert MARKER.encode() not in artefact()


def test_200_essays_fit_into_one_megabyte() -> None:
    document = graded()
    for part in ("bt_summary", "grade_projections"):
        essays = document[part]["essays"]
        document[part]["essays"] = [
            {**essays[n % len(essays)], "essay_id": f"pupil-{n:03}-{'x' * 40}"} for n in range(200)
        ]
    text = document["inputs"]["texts"][-1]
    document["inputs"]["texts"] += [text] * 200
    assert 100_000 < len(report_html(document)) <= 1_000_000


def test_what_people_named_is_text_and_never_markup() -> None:
    named = graded(label="<script>alert(1)</script> & co", mode="execute")
    report = report_html(without_plots(named)).decode()
    assert "<script" not in report
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in report
    assert "Dry run." not in report


@pytest.mark.parametrize(
    ("given_up_after", "expected"), [(0, "There are no scores."), (40, "Provisional ranks")]
)
def test_a_run_that_was_given_up_says_so(given_up_after: int, expected: str) -> None:
    collected = run_of(6, 2)
    partial = replace(collected, judging=collected.judging[:given_up_after], result=None)
    report = report_html(artefact_of(partial)).decode()
    assert "The run has not ended" in report
    assert expected in report


def test_a_dry_run_says_that_its_scores_mean_nothing() -> None:
    assert b"Dry run." in page()


def test_money_in_the_report_is_that_of_the_artefact() -> None:
    spent = f"${float(graded()['costs']['spent_usd']):.4f}"
    assert spent in page().decode()
