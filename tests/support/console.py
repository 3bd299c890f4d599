"""What tests do with the console in a real browser: sign in, create an assignment, wait until something is shown."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.serving import Serving
from tests.support.browser import new_page
from tests.support.until import until

TEXT = "Judge how clearly the argument is put."
TASK = "Write about a rule that you would change."
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def sign_in(page: Page, api: Serving, role: str = "administrator") -> None:
    page.goto(f"{api.url}/")
    page.get_by_role("button", name=f"As {role}").click()
    expect(page.get_by_role("heading", level=1, name="Assignments")).to_be_visible()


@contextmanager
def administrator(browser: Browser, api: Serving) -> Iterator[Page]:
    """A page of an administrator; fails at its end if a script or a policy reported an error."""
    page, errors = new_page(browser)
    page.set_default_timeout(PATIENCE_MS)
    sign_in(page, api)
    yield page
    assert errors == []
    page.context.close()


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


def until_shown(page: Page, text: str) -> None:
    """Load the page again until it shows the text."""

    def is_shown() -> bool:
        page.reload()
        return page.get_by_text(text).count() > 0

    until(is_shown, PATIENCE_MS / 1000)
