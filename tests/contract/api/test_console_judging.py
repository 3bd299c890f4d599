"""The console's pages about judging, over results that the judge process's own code made."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api.browsing import Browser
from tests.contract.api.calling import Api, make_api
from tools.api.console.judging_pages import rank_plot


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
    assert (">its story</a>" in page) == (role != "service")


def test_a_run_in_progress_a_refused_and_an_unknown_batch_say_what_they_are(api: Api) -> None:
    api.judged.judge(api.judged.prepare("open", essays=12), waves=2)
    api.judged.judge(api.judged.prepare("refused", overrides={"surprise": 1}))
    browser = Browser(api).sign_in()
    assert "being judged" in browser.get("/console/judging/open").text
    assert ">refused</span>" in browser.get("/console/judging/refused").text
    assert "knows nothing of this batch" in browser.get("/console/judging/none").text
    assert browser.get("/console/judging?batch=a+b").headers["location"] == "/console/judging/a%20b"


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
