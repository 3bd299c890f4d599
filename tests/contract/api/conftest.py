"""What the contract tests of the admin API share."""

from pathlib import Path

import pytest

from tests.contract.api.calling import Api, made_api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The admin API as it is set up by default."""
    return made_api(tmp_path)
