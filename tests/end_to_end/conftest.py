"""Fixtures for the tests of the console in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api
from tests.faults.running import Process, StartWorker, starting
from tests.support.browser import chromium
from tests.support.console import administrator
from tests.support.installations import installation
from tools.broker import Broker


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def installed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The installation that the tests of a module share."""
    return installation(broker, tmp_path_factory.mktemp("installed"), patience_s=60)


@pytest.fixture(scope="module")
def api(installed: Settings) -> Iterator[Serving]:
    """An API process in development."""
    with ready_api(installed, environment="development") as api:
        yield api


@pytest.fixture(scope="module")
def start_process(
    installed: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartWorker]:
    """As `start_worker`, for the installation of the module."""
    with starting(installed, tmp_path_factory.mktemp("logs")) as start:
        yield start


@pytest.fixture(scope="module")
def worker(start_process: StartWorker) -> Process:
    """A worker that runs."""
    worker = start_process()
    worker.wait_until_it_runs()
    return worker


@pytest.fixture
def page(browser: Browser, api: Serving) -> Iterator[Page]:
    """A page of an administrator."""
    with administrator(browser, api) as page:
        yield page
