"""The report of a research run in a browser: offline, on a phone, in the dark, and for those who do not see it."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.support.browser import (
    CHROMIUM,
    MISSING,
    PHONE,
    chromium,
    new_page,
    too_wide,
    violations,
)
from tests.support.simulated_runs import run_of, with_grades
from tools.runner.artefact import artefact_of
from tools.runner.report import report_html

DESKTOP = {"width": 1200, "height": 900}


def requests_of(page: Page) -> list[str]:
    """The URLs that a page requests, as it does."""
    urls = list[str]()
    page.on("request", lambda request: urls.append(request.url))
    return urls


@pytest.mark.thorough
@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_the_report_opens_offline_and_everybody_can_use_it(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_bytes(report_html(with_grades(artefact_of(run_of(12, 6)))))
    with chromium() as browser:
        for size, scheme in ((DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")):
            page, errors = new_page(browser, viewport=size, color_scheme=scheme, offline=True)
            requested = requests_of(page)
            page.goto(report.as_uri())
            assert requested == [report.as_uri()]
            assert page.get_by_role("img").count() == 5
            assert not too_wide(page)
            assert violations(page) == []
            assert errors == []
