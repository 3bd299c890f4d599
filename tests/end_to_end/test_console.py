"""The console in a real browser, with a real broker, worker and API: what a newcomer, an operator and an auditor do."""

import json
import subprocess

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api
from tests.faults.load import append, assignment, request_record, send
from tests.faults.running import Process, StartWorker
from tests.support.browser import CHROMIUM, MISSING
from tests.support.builders import requested
from tests.support.console import TEXT, administrator, create, open_flow, until_shown
from tests.support.judged_batches import JUDGE, append_batches
from tests.support.run_command import ROOT, environment_of
from tests.support.until import until

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
HOSTILE = '<script>alert(1)</script>\n"><img src=x onerror=alert(2)>\n‮evil‬ מילה\n</textarea>'
SLOW_JUDGE = {
    "judge": "simulated/sim-1",
    "judge_first_start": "beginning",
    "simulated_judge": json.dumps({"latency_s": 1.0}),
}


def test_a_newcomer_creates_an_assignment_sends_the_request_and_opens_its_story(
    page: Page, api: Serving, worker: Process
) -> None:
    create(page, api)  # which leaves the command open
    command = page.locator("pre.command", has_text="requests send").inner_text()
    assert command.startswith("tools/run requests send - <<'REQUEST'")
    flow = page.context.new_page()
    open_flow(flow, api)
    environment = environment_of(worker.settings)
    subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, check=True, timeout=120)
    expect(flow.get_by_role("cell", name="request", exact=True)).to_be_visible()
    expect(flow.get_by_role("cell", name="prepared", exact=True)).to_be_visible()
    flow.get_by_role("link", name="batch-1").first.click()
    expect(flow.locator("h2 .tag.good")).to_have_text("verified")
    expect(flow.get_by_role("heading", level=2)).to_contain_text("prepared")
    flow.get_by_text("instructions version 1").click()
    expect(flow.get_by_text(TEXT)).to_be_visible()
    coordinates = flow.locator("ol.line .fine").first.inner_text()
    flow.get_by_label("Batch id, event id or coordinates").fill(coordinates)
    flow.get_by_role("button", name="Open").click()
    expect(flow.locator("h2 .tag.good")).to_have_text("verified")


def test_two_tabs_and_a_faster_colleague_lose_no_text(page: Page, api: Serving) -> None:
    create(page, api, "two-tabs")
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto(f"{api.url}/console/assignments/two-tabs/edit")
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
    page: Page, api: Serving, installed: Settings, worker: Process
) -> None:
    send(installed, *assignment("a1"))
    open_flow(page, api)
    expect(page.locator("#members")).to_have_text("1")
    worker.kill()
    send(installed, *(requested(batch_id=f"b-{number}") for number in range(5)))
    expect(page.locator("#lag-requests")).to_have_text("5")
    worker.start()
    expect(page.locator("#lag-requests")).to_have_text("0")
    expect(page.get_by_role("cell", name="prepared", exact=True)).to_have_count(5)
    page.get_by_label("Contains").fill("b-3")
    expect(page.get_by_role("cell", name="prepared", exact=True)).to_have_count(1)
    page.get_by_label("Contains").fill("")
    page.get_by_role("button", name="Pause").click()
    send(installed, requested(batch_id="b-late"))
    expect(page.locator("#seen")).not_to_have_text("10")
    expect(page.get_by_role("link", name="b-late")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("link", name="b-late").first).to_be_visible()


def test_parked_requests_and_dead_letters_are_seen_and_re_driven(
    page: Page, api: Serving, installed: Settings, worker: Process
) -> None:
    append(installed, [request_record(installed, b"\1damaged", "broken-1")])
    send(installed, requested(batch_id="early", assignment_id="later"))
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
    page.get_by_role("rowheader").get_by_role("link").last.click()
    expect(page.locator("dt:text-is('State') + dd")).to_contain_text("cj.requests.v1/")


def test_a_run_is_followed_while_its_judge_dies_and_another_finishes_it(
    browser: Browser, settings: Settings, start_worker: StartWorker
) -> None:
    append_batches(settings, 1, essays=10)  # which a worker of the other tests would refuse
    with (
        ready_api(settings, environment="development") as api,
        administrator(browser, api) as page,
    ):
        of_batch = page.context.new_page()
        of_batch.goto(f"{api.url}/console/judging/batch-0")
        page.goto(f"{api.url}/console/judging")
        judge = start_worker(command=JUDGE, **SLOW_JUDGE)
        # without loading them again
        expect(page.get_by_role("link", name="batch-0")).to_be_visible()
        expect(of_batch.get_by_text("being judged")).to_be_visible()
        page.get_by_role("link", name="batch-0").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("batch-0")
        judge.kill()
        page.reload()
        expect(page.get_by_text("being judged")).to_be_visible()
        judge.start()
        expect(page.get_by_role("heading", name="Ranks", exact=True)).to_be_visible()
        assert page.locator("svg.plot circle").count() == 10
        expect(page.get_by_role("heading", name="Can the ranks be trusted?")).to_be_visible()


def test_hostile_texts_stay_text_and_the_end_of_a_session_is_shown(
    page: Page, api: Serving
) -> None:
    dialogs = list[str]()

    def accept(dialog: Dialog) -> None:
        dialogs.append(dialog.type)
        dialog.accept()

    page.on("dialog", accept)
    create(page, api, "hostile", instructions=HOSTILE, student_prompt=HOSTILE)
    assert page.locator(".text").first.inner_text() == HOSTILE
    page.get_by_role("link", name="Edit").click()
    instructions = page.get_by_label("Instructions")
    assert instructions.input_value() == HOSTILE
    instructions.fill("x" * 1_000_000)
    page.get_by_role("button", name="Save").click()
    message = instructions.evaluate("area => area.validationMessage")
    assert message == "The text is 934464 bytes too long; the limit is 65536."
    instructions.evaluate(
        "area => { area.value = `a NUL \\0 in a text`; area.setCustomValidity(''); }"
    )
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Not saved")
    expect(page.locator("#e-instructions_text")).to_contain_text("not allowed")
    open_flow(page, api)
    assert set(dialogs) <= {"beforeunload"}  # about the text that was not saved; no script ran
    page.context.clear_cookies()
    api.stop()
    api.start()
    expect(page.locator("#state")).to_contain_text("session ended")
    page.goto(f"{api.url}/console/flow")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


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


@pytest.mark.timeout(300)
def test_a_hundred_thousand_assignments_are_paged_and_searched(
    browser: Browser, settings: Settings
) -> None:
    events = (assignment(f"big-{number:06}")[0] for number in range(100_000))
    send(settings, *events)
    with (
        ready_api(settings, environment="development") as api,
        administrator(browser, api) as page,
    ):
        page.goto(f"{api.url}/console/?q=big-0999")
        until_shown(page, "100 with instructions")
        expect(page.get_by_role("rowheader")).to_have_count(50)
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("rowheader").last).to_contain_text("big-099999")
        page.goto(f"{api.url}/console/?page=2000")
        expect(page.get_by_text("Page 2000 of 2,000")).to_be_visible()
