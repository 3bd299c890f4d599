"""`python -m tools.reference.screenshots`: pictures of the console at work, in tools/reference/console.

It starts an installation of its own, with a judge that takes its time and knows the essays' qualities; it needs
Chromium.
"""

import csv
import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import FloatRect, Page, ViewportSize, expect, sync_playwright

from processors.settings import Settings
from schemas.scales import get_scale
from tools.broker import free_port
from tools.demo.essays import KnownEssay, essays_of_known_quality
from tools.installation import installation
from tools.processes import api_running, command_output, running, wait_for_judge
from tools.progress import say

FOLDER = Path(__file__).parent / "console"
SIZE = ViewportSize(width=1200, height=760)
MAX_HEIGHT = 1320
WAIT_MS = 120_000
ASSIGNMENT, BATCH, SCALE = "eng5-youth-centre", "class-9b", "swedish_8_anchor"
TEXTS = {
    "Instructions": "Judge how clearly the argument is put, and how well it is supported.\nIgnore handwriting.",
    "Student prompt": "The town council plans to close the youth centre.\nWrite a letter to the editor.",
    "Judge rubric": "Position and support weigh twice as much as language.",
}
GRADES = get_scale(SCALE).grades
PUPILS = essays_of_known_quality(14, seed=1)
ANCHORS = sorted(essays_of_known_quality(len(GRADES), seed=2), key=lambda essay: essay.theta)


def main() -> None:
    """Play an administrator's story in a browser, and take a picture of each of its pages."""
    FOLDER.mkdir(exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    thetas = {essay.storage_id: essay.theta for essay in (*PUPILS, *ANCHORS)}
    with ExitStack() as stack:
        settings = stack.enter_context(
            installation(
                say,
                slot="pictures",
                environment="development",
                api_port=free_port(),
                judge="simulated/sim-1",
                judge_first_start="end",
                simulated_judge=json.dumps({"latency_s": 1.0, "thetas": thetas}),
            )
        )
        stack.enter_context(running("worker", settings, say))
        judge = stack.enter_context(running("judge", settings, say))
        url = stack.enter_context(api_running(settings, say))
        wait_for_judge(settings, judge)
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        stack.callback(browser.close)
        page = browser.new_context(viewport=SIZE).new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        page.get_by_role("button", name="As administrator").click()
        _assignment(page, url, settings)
        _batch(page, url, settings)


def _assignment(page: Page, url: str, settings: Settings) -> None:
    page.goto(f"{url}/console/assignments/new")
    page.get_by_label("Assignment id").fill(ASSIGNMENT)
    page.get_by_label("Grade scale").select_option(SCALE)
    for label, text in TEXTS.items():
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Create").click()
    page.get_by_role("link", name="Edit").click()
    better = TEXTS["Student prompt"].replace("a letter", "a letter of 200 words")
    page.get_by_label("Student prompt").fill(better)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")
    _import_anchors(settings, url)
    page.goto(f"{url}/console/assignments/{ASSIGNMENT}")
    _picture(page, "assignment")
    page.get_by_role("link", name="what changed in Student prompt").first.click()
    _picture(page, "difference")


def _import_anchors(settings: Settings, url: str) -> None:
    folder, grades = settings.data_dir / "anchors", settings.data_dir / "grades.csv"
    folder.mkdir()
    with grades.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["anchor_id", "grade"])
        for number, (anchor, grade) in enumerate(zip(ANCHORS, GRADES, strict=True), 1):
            (folder / f"anchor-{number}.txt").write_text(anchor.text)
            rows.writerow([f"anchor-{number}", grade])
    source = ("--assignment-id", ASSIGNMENT, "--dir", str(folder), "--grades", str(grades))
    command_output(settings, "admin", "anchors", "import", *source, CJ_ADMIN_BASE_URL=url)


def _batch(page: Page, url: str, settings: Settings) -> None:
    page.goto(f"{url}/console/flow")
    expect(page.locator("#state")).to_have_text("live")
    request = settings.data_dir / "request.json"
    request.write_text(json.dumps(_request(PUPILS)))
    command_output(settings, "requests", "send", str(request))
    run = page.context.new_page()
    run.goto(f"{url}/console/judging/{BATCH}")
    expect(run.get_by_text(re.compile("in [2-9] waves"))).to_be_visible()
    _picture(run, "run")
    run.close()
    expect(page.get_by_role("cell", name="judged", exact=True)).to_be_visible()
    expect(page.locator(".fresh")).to_have_count(0)
    _picture(page, "flow")
    page.goto(f"{url}/console/judging/{BATCH}")
    expect(page.locator("svg.plot").first).to_be_visible()
    _picture(page, "result")


def _request(essays: list[KnownEssay]) -> dict[str, object]:
    return {
        "batch_id": BATCH,
        "assignment_id": ASSIGNMENT,
        "course_code": "ENG5",
        "language": "en",
        "essays": [{"essay_id": essay.essay_id, "text": essay.text} for essay in essays],
    }


def _picture(page: Page, name: str) -> None:
    height = min(MAX_HEIGHT, page.evaluate("document.documentElement.scrollHeight"))
    clip = FloatRect(x=0, y=0, width=SIZE["width"], height=height)
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled", full_page=True, clip=clip)


if __name__ == "__main__":
    main()
