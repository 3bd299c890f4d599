"""Fixtures for the contract tests of the admin API."""

from pathlib import Path

import pytest

from tests.contract.api.calling import Api, make_api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The admin API with default settings."""
    return make_api(tmp_path)
