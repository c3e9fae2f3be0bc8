"""One embedded cluster for all of a process's tests, a namespace a test, and what every client logs in with.

The clients are in .venv-clients alone (`make test-clients`); elsewhere these modules are not collected.
"""

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.testing import clientlab
from portway.testing.cluster import Cluster, started

_NUMBERS = itertools.count()

if importlib.util.find_spec("lightkube") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster"), "--default-watch-cache-size=50", workers=1) as made:
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with clientlab.namespace(cluster, f"test-{next(_NUMBERS)}") as name:
        yield name


@pytest.fixture
def login(cluster: Cluster, namespace: str, tmp_path: Path) -> clientlab.ExecConfig:
    """A kubeconfig with a credential plugin, in the test's namespace."""
    return clientlab.exec_kubeconfig(cluster, tmp_path, namespace=namespace)
