"""`python -m tools.reference.screenshots URL`: pictures of the console at work, in tools/reference/console.

URL is that of an API in development without assignments of its own, such as `tools/run up` starts; it needs Chromium.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tools.demo.essays import essays_of_known_quality

FOLDER = Path(__file__).parent / "console"
ROOT = Path(__file__).parents[2]
SIZE = ViewportSize(width=1200, height=760)
WAIT_MS = 120_000
ESSAYS = 14
TEXTS = {
    "Instructions": "Judge how clearly the argument is put, and how well it is supported.\nIgnore handwriting.",
    "Student prompt": "The town council plans to close the youth centre.\nWrite a letter to the editor.",
    "Judge rubric": "Position and support weigh twice as much as language.",
}


def main(url: str) -> None:
    """Play an administrator's story in a browser, and take a picture of each of its pages."""
    FOLDER.mkdir(exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_context(viewport=SIZE).new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        page.get_by_role("button", name="As administrator").click()
        _assignment(page, url)
        _batch(page, url)
        browser.close()


def _assignment(page: Page, url: str) -> None:
    page.goto(f"{url}/console/assignments/new")
    page.get_by_label("Assignment id").fill("eng5-youth-centre")
    for label, text in TEXTS.items():
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Create").click()
    page.get_by_role("link", name="Edit").click()
    better = TEXTS["Student prompt"].replace("a letter", "a letter of 200 words")
    page.get_by_label("Student prompt").fill(better)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")
    _picture(page, "assignment")
    page.get_by_role("link", name="what changed").first.click()
    _picture(page, "difference")


def _batch(page: Page, url: str) -> None:
    page.goto(f"{url}/console/flow")
    expect(page.locator("#state")).to_have_text("live")
    essays = essays_of_known_quality(ESSAYS, seed=1)
    request = {
        "batch_id": "class-9b",
        "assignment_id": "eng5-youth-centre",
        "course_code": "ENG5",
        "language": "en",
        "essays": [{"essay_id": essay.essay_id, "text": essay.text} for essay in essays],
    }
    send = [sys.executable, "-m", "tools.cli", "requests", "send", "-"]
    subprocess.run(send, cwd=ROOT, input=json.dumps(request).encode(), check=True)
    expect(page.get_by_role("cell", name="judged", exact=True)).to_be_visible()
    expect(page.locator(".fresh")).to_have_count(0)
    _picture(page, "flow")
    page.goto(f"{url}/console/judging/class-9b")
    expect(page.locator("svg.plot")).to_be_visible()
    _picture(page, "judging")


def _picture(page: Page, name: str) -> None:
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
