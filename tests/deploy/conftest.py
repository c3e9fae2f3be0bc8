"""A cluster for doors that are started as they are deployed: it has RBAC, an audit log, and services.

Upstream's documents are in .venv-deploy alone (`make test-deploy`); elsewhere what is made from them is not collected.
"""

import importlib.util
from collections.abc import Iterator

import pytest

from portway.testing.cluster import Cluster, free_port, started
from portway.testing.demo import HELLO, admin_token

AUDIT = "audit.log"

if importlib.util.find_spec("kubernetes_validate") is None:
    collect_ignore = ["test_merge_types.py"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    flags = "--demo", f"--insecure-port={free_port()}", f"--audit-log-path={directory / AUDIT}"
    with started(directory, *flags, workers=1) as made:
        made.settle(HELLO, admin_token(made))
        yield made
