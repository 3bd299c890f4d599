"""The console in a real browser, with a real broker, worker and API: what a newcomer, an operator and an auditor do."""

import re
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api
from tests.faults.load import append, assignment, request_record, send
from tests.faults.running import Process, StartWorker
from tests.support.browser import (
    CHROMIUM,
    MISSING,
    PHONE,
    chromium,
    is_too_wide,
    new_page,
    violations,
)
from tests.support.builders import requested
from tests.support.run_command import ROOT, environment_of
from tests.support.until import until

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
TEXT = "Judge how clearly the argument is put."
TASK = "Write about a rule that you would change."
PATIENCE_MS = 60_000
HOSTILE = '<script>alert(1)</script>\n"><img src=x onerror=alert(2)>\n‮evil‬ מילה\n</textarea>'
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def api(settings: Settings) -> Iterator[Serving]:
    """An API process in development."""
    with ready_api(settings, environment="development", patience_s=60) as api:
        yield api


@pytest.fixture
def worker(settings: Settings, start_worker: StartWorker) -> Process:
    """A worker that runs."""
    worker = start_worker(patience_s=60)
    worker.wait_until_it_runs()
    return worker


@pytest.fixture
def page(browser: Browser, api: Serving) -> Iterator[Page]:
    """A page of an administrator; the test fails if a script or a policy reported an error."""
    page, errors = new_page(browser)
    page.set_default_timeout(PATIENCE_MS)
    sign_in(page, api)
    yield page
    assert errors == []
    page.context.close()


def sign_in(page: Page, api: Serving, role: str = "administrator") -> None:
    page.goto(f"{api.url}/")
    page.get_by_role("button", name=f"As {role}").click()
    expect(page.get_by_role("heading", level=1, name="Assignments")).to_be_visible()


def create(page: Page, api: Serving, assignment_id: str = "eng5-a1", **texts: str) -> None:
    """Create an assignment through the form."""
    page.goto(f"{api.url}/console/assignments/new")
    page.get_by_label("Assignment id").fill(assignment_id)
    page.get_by_label("Instructions").fill(texts.get("instructions", TEXT))
    page.get_by_label("Student prompt").fill(texts.get("student_prompt", TASK))
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")


def open_flow(page: Page, api: Serving) -> None:
    """Open the page of the flow and wait until it is connected."""
    page.goto(f"{api.url}/console/flow")
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#lag-requests")).to_have_text(re.compile(r"\d"))


def test_a_newcomer_creates_an_assignment_sends_the_request_and_opens_its_story(
    page: Page, api: Serving, worker: Process
) -> None:
    create(page, api)
    page.get_by_text("Send a request for it").click()
    command = page.locator("pre.command").inner_text()
    assert command.startswith("tools/run requests send - <<'REQUEST'")
    flow = page.context.new_page()
    open_flow(flow, api)
    environment = environment_of(worker.settings)
    subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, check=True, timeout=120)
    expect(flow.get_by_role("cell", name="request", exact=True)).to_be_visible()
    expect(flow.get_by_role("cell", name="prepared", exact=True)).to_be_visible()
    flow.get_by_role("link", name="batch-1").first.click()
    expect(flow.get_by_role("heading", level=2)).to_contain_text("verified")
    expect(flow.get_by_role("heading", level=2)).to_contain_text("prepared")
    flow.get_by_text("instructions version 1").click()
    expect(flow.get_by_text(TEXT)).to_be_visible()
    coordinates = flow.locator("ol.line .fine").first.inner_text()
    flow.get_by_label("Batch id, event id or coordinates").fill(coordinates)
    flow.get_by_role("button", name="Open").click()
    expect(flow.get_by_role("heading", level=2)).to_contain_text("verified")


def test_two_tabs_and_a_faster_colleague_lose_no_text(page: Page, api: Serving) -> None:
    create(page, api)
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto(f"{api.url}/console/assignments/eng5-a1/edit")
    other.get_by_label("Judge rubric").fill("Theirs: weigh style twice.")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("status")).to_contain_text("Saved")
    page.get_by_label("Judge rubric").fill("Mine: weigh content twice.")

    asked = list[str]()

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.get_by_role("link", name="Cancel").click(no_wait_after=True)
    until(lambda: page.title() and asked)
    assert asked == ["beforeunload"]

    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").first).to_contain_text("Somebody was faster")
    assert page.get_by_label("Judge rubric").input_value() == "Mine: weigh content twice."
    expect(page.get_by_role("cell", name="Theirs: weigh style twice.")).to_be_visible()
    page.get_by_role("button", name="Save mine").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")
    expect(page.get_by_text("Mine: weigh content twice.")).to_be_visible()


def test_a_worker_that_dies_is_seen_and_so_is_its_return(
    page: Page, api: Serving, settings: Settings, worker: Process
) -> None:
    send(settings, *assignment("a1"))
    open_flow(page, api)
    expect(page.locator("#members")).to_have_text("1")
    worker.kill()
    send(settings, *(requested(batch_id=f"b-{number}") for number in range(5)))
    expect(page.locator("#lag-requests")).to_have_text("5")
    worker.start()
    expect(page.locator("#lag-requests")).to_have_text("0")
    expect(page.get_by_role("cell", name="prepared", exact=True)).to_have_count(5)
    page.get_by_label("Contains").fill("b-3")
    expect(page.get_by_role("cell", name="prepared", exact=True)).to_have_count(1)
    page.get_by_label("Contains").fill("")
    page.get_by_role("button", name="Pause").click()
    send(settings, requested(batch_id="b-late"))
    expect(page.locator("#seen")).not_to_have_text("10")
    expect(page.get_by_role("link", name="b-late")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("link", name="b-late").first).to_be_visible()


def test_parked_requests_and_dead_letters_are_seen_and_re_driven(
    page: Page, api: Serving, settings: Settings, worker: Process
) -> None:
    append(settings, [request_record(settings, b"\1damaged", "broken-1")])
    send(settings, requested(batch_id="early", assignment_id="later"))
    open_flow(page, api)
    page.goto(f"{api.url}/console/parked")
    until_shown(page, "assignment:later")
    page.get_by_role("link", name="assignment:later").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("There is no assignment later")
    page.goto(f"{api.url}/console/dead-letters")
    until_shown(page, "broken-1")
    page.get_by_role("rowheader").get_by_role("link").click()
    expect(page.locator("pre.hex")).to_contain_text(".damaged")
    page.go_back()
    page.get_by_role("button", name="Try a re-drive").click()
    page.get_by_role("button", name="Re-drive 1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Re-driven")
    page.goto(f"{api.url}/console/dead-letters?closed=yes")
    until_shown(page, "cj.requests.v1/")


def until_shown(page: Page, text: str) -> None:
    """Load the page again until it shows the text."""

    def is_shown() -> bool:
        page.reload()
        return page.get_by_text(text).count() > 0

    until(is_shown, PATIENCE_MS / 1000)


def test_hostile_texts_stay_text_and_the_end_of_a_session_is_shown(
    page: Page, api: Serving
) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    create(page, api, instructions=HOSTILE, student_prompt=HOSTILE)
    assert page.locator(".text").first.inner_text() == HOSTILE
    page.get_by_role("link", name="Edit").click()
    assert page.get_by_label("Instructions").input_value() == HOSTILE
    open_flow(page, api)
    page.context.clear_cookies()
    api.stop()
    api.start()
    expect(page.locator("#state")).to_contain_text("session ended")
    page.goto(f"{api.url}/console/flow")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_every_page_is_usable_without_a_mouse_on_a_phone_in_both_colour_schemes(
    browser: Browser, api: Serving, settings: Settings, worker: Process
) -> None:
    append(settings, [request_record(settings, b"\1damaged", "broken-1")])
    for scheme, options in (("light", {}), ("dark", {"viewport": PHONE})):
        page, errors = new_page(browser, color_scheme=scheme, **options)
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{api.url}/console/sign-in")
        assert violations(page) == []
        sign_in(page, api)
        create(page, api, f"eng5-{scheme}")
        page.get_by_role("link", name="Edit").click()
        page.get_by_label("Instructions").fill(f"{TEXT} Weigh evidence.")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("link", name="what changed").click()
        here = f"/assignments/eng5-{scheme}"
        paths = (f"{here}/edit", "/", "/assignments/new", "/courses/new", "/flow", "/batches")
        more = ("/parked", "/dead-letters", here, f"{here}/instructions/delete", "/batches?q=none")
        for path in ("", *paths, *more):
            if path:
                page.goto(f"{api.url}/console{path}")
            assert violations(page) == [], page.url
            assert not is_too_wide(page), page.url
        assert errors == []
        page.context.close()


def test_the_keyboard_alone_is_enough(page: Page, api: Serving) -> None:
    page.goto(f"{api.url}/console/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New assignment")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("New assignment")
    page.get_by_label("Assignment id").focus()
    page.keyboard.type("by-keys")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(TEXT)
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Create")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Saved")


def test_a_hundred_thousand_assignments_are_paged_and_searched(
    page: Page, api: Serving, settings: Settings
) -> None:
    create(page, api)
    events = (assignment(f"big-{number:06}")[0] for number in range(100_000))
    send(settings, *events)
    page.goto(f"{api.url}/console/?q=big-0999")
    until_shown(page, "100 with instructions")
    expect(page.get_by_role("rowheader")).to_have_count(50)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("rowheader").last).to_contain_text("big-099999")
    page.goto(f"{api.url}/console/?page=2000")
    expect(page.get_by_text("Page 2000 of 2,001")).to_be_visible()
