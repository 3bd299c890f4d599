"""The cluster fixture of the tests on three nodes."""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster
from tests.support.run_command import ROOT


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes that tests may kill; each test leaves them running and in sync."""
    with Cluster.temporary(ROOT / ".cjstream") as cluster:
        yield cluster
