"""The console's pages about judging, over results that the judge process's own code made."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from processors.judging.judges.simulated import SimulatedFaults
from processors.log.judging_runs import open_runs
from schemas.codec import Codec
from tests.contract.api.browsing import Browser
from tests.contract.api.calling import Api, make_api
from tests.support.builders import sha256_of
from tests.support.run_command import ROOT
from tools.api.console.judging_pages import REASONS, rank_plot
from tools.results.documents import run_document


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The API in development."""
    return make_api(tmp_path, environment="development")


@pytest.mark.parametrize("role", ["admin", "auditor", "service"])
def test_results_are_listed_and_one_is_shown_with_ranks_and_cost(api: Api, role: str) -> None:
    api.judged.judge(api.judged.prepare("batch-1"))
    browser = Browser(api).sign_in(role)
    listed = browser.get("/console/judging").text
    assert 'href="/console/judging/batch-1"' in listed
    page = browser.get("/console/judging/batch-1").text
    document = api("GET", "/results/v1/batches/batch-1").json()
    assert page.count("<circle") == len(document["essays"])
    assert all(essay["essay_id"] in page for essay in document["essays"])
    assert f"${Decimal(document['cost']['spent_usd']):.4f}" in page
    assert f"{document['counts']['answered']} answered" in page
    assert ("the story of this batch" in page) == (role != "service")


def test_grades_are_drawn_for_each_essay_with_its_anchors(api: Api) -> None:
    """The pupils' texts have no known quality: what counts is that each figure is shown."""
    graded = [(f"An anchor of grade {grade}.", grade) for grade in ("F", "E", "D", "C", "B", "A")]
    for (text, _), theta in zip(graded, (-3, -2, -1, 0, 1.5, 3), strict=True):
        api.judged.thetas[sha256_of(text)] = float(theta)
    api.judged.upload_anchors(*graded)
    api.judged.judge(api.judged.prepare("batch-1"))
    document = api("GET", "/results/v1/batches/batch-1").json()
    assert document["grading"]["status"] == "graded"
    assert len(document["grading"]["thresholds"]) == 7
    page = Browser(api).sign_in().get("/console/judging/batch-1").text
    assert page.count('class="grade"') >= 2 * len(document["essays"])
    for essay in document["essays"]:
        most = max(essay["distribution"], key=lambda one: one["p"])
        assert f"<title>{most['grade']}: {100 * most['p']:.0f} %</title>" in page
    for anchor in document["anchors"]:
        assert f">{anchor['anchor_id']}</th><td>{anchor['grade']}</td>" in page
        assert f"{anchor['own_probability']:.3f}" in page


def test_a_run_in_progress_a_refused_and_an_unknown_batch_say_what_they_are(api: Api) -> None:
    api.judged.judge(api.judged.prepare("open", essays=12), waves=2)
    api.judged.judge(api.judged.prepare("refused", overrides={"surprise": 1}))
    browser = Browser(api).sign_in()
    assert "being judged" in browser.get("/console/judging/open").text
    assert ">refused</span>" in browser.get("/console/judging/refused").text
    assert "No run has judged this batch" in browser.get("/console/judging/none").text
    assert browser.get("/console/judging?batch=a+b").headers["location"] == "/console/judging/a%20b"


def test_runs_in_progress_are_listed_with_bound_and_spending_by_wave(api: Api) -> None:
    api.judged.judge(api.judged.prepare("open", essays=12), waves=2)
    api.judged.judge(api.judged.prepare("done"))
    run = api("GET", "/results/v1/batches/open/status").json()["progress"]
    browser = Browser(api).sign_in("auditor")
    listed = browser.get("/console/judging").text
    assert listed.count('<th scope="row"><a href="/console/judging/') == 2
    assert f"{run['answered']} of {run['comparisons']}" in listed
    own = browser.get("/console/judging/open").text
    for page in (listed, own):
        assert "data-live" in page
        assert f"${Decimal(run['spent_usd']):.4f}" in page
        assert f"${Decimal(run['max_cost_usd']):.4f}" in page
    waves = re.findall(r'<th scope="row">\d+</th>.*\$([\d.]+)</td></tr>', own)
    assert len(waves) == run["waves"]
    assert "data-live" not in browser.get("/console/judging/done").text
    assert "No batch is being judged" in browser.get("/console/judging?q=another").text


def test_the_spending_of_the_waves_is_that_of_the_run(api: Api) -> None:
    faults = SimulatedFaults(timeout=0.1, garbage=0.1)
    api.judged.judge(api.judged.prepare("open", essays=12), faults, waves=2)
    [logged] = open_runs(api.judged.log, Codec())
    document = run_document(logged)
    spent = sum(Decimal(wave["spent_usd"]) for wave in document["by_wave"])
    assert spent == Decimal(document["spent_usd"]) > 0
    assert len(document["by_wave"]) == document["waves"] > 1


def test_every_reason_to_stop_a_run_is_explained() -> None:
    sources = [Path("tables/judging") / f"{name}.py" for name in ("stopping_rule", "next_step")]
    code = "".join((ROOT / path).read_text() for path in sources)
    stops = re.findall(r'Stop\("\w+", (.*)\)', code)
    assert {reason for stop in stops for reason in re.findall(r'"(\w+)"', stop)} == set(REASONS)


def test_a_result_that_is_not_sure_says_so(api: Api) -> None:
    api.judged.judge(api.judged.prepare("batch-1", essays=2))
    result = api("GET", "/results/v1/batches/batch-1").json()
    assert result["outcome"] == "partial"
    page = Browser(api).sign_in().get("/console/judging/batch-1").text
    assert f'<p class="note bad">{REASONS[result["reason"]]}</p>' in page
    assert "note good" not in page


def test_the_diagnosis_of_the_judge_is_shown(api: Api) -> None:
    api.judged.judge(api.judged.prepare("batch-1", essays=12))
    page = Browser(api).sign_in().get("/console/judging/batch-1").text
    document = api("GET", "/results/v1/batches/batch-1").json()
    found = document["reliability"]
    for name in ("pr", "bound", "ssr", "spread"):
        assert f"{found[name]:.2f}" in page
    assert f"{found['delta']:+.2f} logits, standard error {found['delta_se']:.2f}" in page
    assert all(f"{count:,}</td>" in page for count in document["cost"]["tokens"].values())
    [used] = document["judge"]["used"]
    assert f"{used['model']}: {used['calls']} calls" in page


def test_r2_is_not_shown_where_it_is_always_1(api: Api) -> None:
    api.judged.judge(api.judged.prepare("batch-1", essays=2))
    page = Browser(api).sign_in().get("/console/judging/batch-1").text
    assert api("GET", "/results/v1/batches/batch-1").json()["reliability"]["pr"] == 1
    assert "r² is not defined for two texts; scale separation" in page


def test_nothing_judged_is_said(api: Api) -> None:
    browser = Browser(api).sign_in()
    assert "No batch has been judged yet" in browser.get("/console/judging").text
    assert "No result matches" in browser.get("/console/judging?q=a1").text


def test_the_rank_plot_spans_the_widest_interval() -> None:
    essays: list[dict[str, Any]] = [
        {"essay_id": "a", "rank": 1, "theta": 1.0, "se": 0.5},
        {"essay_id": "b", "rank": 2, "theta": -1.0, "se": 0.5},
        {"essay_id": "c", "rank": None, "theta": None, "se": None},
    ]
    first, second = rank_plot(essays)
    assert (first.high, second.low) == (100.0, 0.0)
    assert first.middle > second.middle
    assert rank_plot([]) == []
