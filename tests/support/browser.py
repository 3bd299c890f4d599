"""Chromium for the tests of the console, and what every page must be: usable without a mouse, quiet, not too wide."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

CHROMIUM = shutil.which("chromium")
MISSING = "needs Chromium (Debian's package chromium)"
PHONE = ViewportSize(width=390, height=844)
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # Chromium refuses its sandbox to root
        )
        yield browser
        browser.close()


def new_page(browser: Browser, **options: Any) -> tuple[Page, list[str]]:
    """A page in a context of its own, and the errors of its scripts and policies as they happen.

    Chromium also reports every answer from 400 on; those are the server's words, which tests look at themselves.
    """
    page = browser.new_context(**options).new_page()
    errors = list[str]()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            errors.append(message.text)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", note)
    return page, errors


def violations(page: Page, *rules: str) -> list[tuple[str, str]]:
    """What axe finds serious on the page, by these rules or all: the rule, and the first element that breaks it."""
    only = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    found = Axe().run(page, options={"resultTypes": ["violations"], **only}).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS]


def too_wide(page: Page) -> list[str]:
    """The elements past the right edge, if the page must be scrolled sideways."""
    return list(page.evaluate(PAST_THE_EDGE))


PAST_THE_EDGE = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
  ["the page", ...[...document.querySelectorAll("body *")]
    .filter(it => it.getBoundingClientRect().right > window.innerWidth).map(it => it.outerHTML.slice(0, 80))]"""
