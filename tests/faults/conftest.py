"""The clusters whose nodes tests may kill."""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster
from tests.support.run_command import ROOT


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes that tests may kill; each test leaves them running and in sync."""
    with Cluster.temporary(ROOT / ".cjstream") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def single_node() -> Iterator[Cluster]:
    """One node that tests may kill; each test leaves it running."""
    with Cluster.temporary(ROOT / ".cjstream", size=1) as cluster:
        yield cluster
