"""Every page of the console in a real browser: usable without a mouse, in both schemes; and the pages of each role."""

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from processors.settings import Settings
from tests.end_to_end.serving import Serving
from tests.faults.load import append, request_record, send
from tests.faults.running import Process, StartWorker
from tests.support.browser import CHROMIUM, MISSING, PHONE, new_page, too_wide, violations
from tests.support.builders import requested
from tests.support.console import PATIENCE_MS, TEXT, create, sign_in, until_shown
from tests.support.judged_batches import JUDGE, append_batches, results_of
from tests.support.until import until

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
HERE = "/assignments/eng5-a1"
PAGES = (
    "/",
    "/?q=none",
    HERE,
    f"{HERE}/edit",
    f"{HERE}/instructions/delete",
    "/assignments/new",
    "/courses/new",
    "/assignments/none",
    "/flow",
    "/batches",
    "/batches?q=none",
    "/batches?q=b-1",
    "/judging",
    "/judging/batch-0",
    "/judging/none",
    "/parked",
    "/dead-letters",
    "/nowhere",
)
DESKTOP = ViewportSize(width=1200, height=800)
COLOUR_RULES = ("color-contrast", "link-in-text-block")  # of axe; no other asks for a scheme


@pytest.mark.timeout(600)
def test_every_page_is_usable_on_desktop_and_phone_in_both_colour_schemes(
    browser: Browser,
    api: Serving,
    installed: Settings,
    worker: Process,
    start_process: StartWorker,
) -> None:
    append(installed, [request_record(installed, b"\1damaged", "broken-1")])
    start_process("judge", JUDGE, judge="simulated/sim-1", judge_first_start="beginning")
    page, errors = new_page(browser, viewport=DESKTOP)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{api.url}/console/sign-in")
    check(page)
    sign_in(page, api)
    fill(page, api, installed)
    for path in PAGES:
        page.goto(f"{api.url}/console{path}")
        check(page)
    page.goto(f"{api.url}/console{HERE}")
    page.get_by_role("link", name="what changed").click()
    check(page)
    page.goto(f"{api.url}/console/dead-letters")
    page.get_by_role("rowheader").get_by_role("link").click()
    check(page)
    page.go_back()
    page.get_by_role("button", name="Try a re-drive").click()
    check(page)
    assert errors == []
    page.context.close()


def fill(page: Page, api: Serving, settings: Settings) -> None:
    """An assignment with two versions, a prepared batch, one that waits, a result, and a dead letter."""
    create(page, api)
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Instructions").fill(f"{TEXT} Weigh evidence.")
    page.get_by_role("button", name="Save").click()
    send(settings, requested(batch_id="b-1", assignment_id="eng5-a1"))
    send(settings, requested(batch_id="early", assignment_id="later"))
    until(lambda: len(results_of(settings)) == 1, 150)
    append_batches(settings, 1)  # only now: a worker that starts refuses outcomes of no request
    until(lambda: len(results_of(settings)) == 2, 150)
    for path, text in (("/parked", "assignment:later"), ("/dead-letters", "broken-1")):
        page.goto(f"{api.url}/console{path}")
        until_shown(page, text)


def check(page: Page) -> None:
    """What every page must be, on both viewports and in both schemes."""
    page.wait_for_load_state()  # with its style sheet
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        assert too_wide(page) == [], (page.url, viewport)
        assert violations(page) == [], (page.url, viewport)
        page.emulate_media(color_scheme="dark")
        assert violations(page, *COLOUR_RULES) == [], (page.url, viewport, "dark")
        page.emulate_media(color_scheme="light")


def test_each_role_sees_its_pages_and_is_told_about_the_others(
    browser: Browser, page: Page, api: Serving
) -> None:
    create(page, api, "of-roles")
    there = "/assignments/of-roles"
    auditor, _ = new_page(browser)
    sign_in(auditor, api, "auditor")
    expect(auditor.get_by_role("link", name="New assignment")).to_have_count(0)
    auditor.get_by_label("Id begins with").fill("of-r")
    auditor.get_by_role("button", name="Search").click()
    auditor.get_by_role("link", name="of-roles").click()
    expect(auditor.get_by_text(TEXT)).to_be_visible()
    for name in ("Edit", "Delete", "delete"):
        expect(auditor.get_by_role("link", name=name, exact=True)).to_have_count(0)
    for path in ("/assignments/new", f"{there}/edit", f"{there}/instructions/delete"):
        auditor.goto(f"{api.url}/console{path}")
        expect(auditor.get_by_role("heading", level=1)).to_have_text("Not for your role")
    auditor.get_by_role("button", name="Sign out").click()
    auditor.get_by_role("button", name="As service").click()
    expect(auditor.get_by_role("heading", level=1)).to_have_text("Judging")
    expect(auditor.get_by_role("navigation").get_by_role("link")).to_have_text(["Judging"])
    for path in (there, "/flow", "/batches", "/parked", "/dead-letters"):
        auditor.goto(f"{api.url}/console{path}")
        expect(auditor.get_by_role("heading", level=1)).to_have_text("Not for your role")
    auditor.context.close()
