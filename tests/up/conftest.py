"""One demo cluster for all tests that only look at it."""

from collections.abc import Iterator

import pytest

from portway.testing.cluster import Cluster
from portway.testing.demo import demo


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """The cluster, and what it printed."""
    with demo(tmp_path_factory.mktemp("demo")) as pair:
        yield pair


@pytest.fixture
def cluster(shown: tuple[Cluster, str]) -> Cluster:
    """The cluster alone."""
    return shown[0]
