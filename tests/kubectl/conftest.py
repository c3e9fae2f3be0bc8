"""One embedded cluster with the demo for all of a process's tests, each kubectl of the machine, a namespace a test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.testing.clientlab import namespace
from portway.testing.cluster import Cluster, free_port, started, wait_until
from portway.testing.kubectl import Kubectl, binaries, label, version

SEARCH = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_cluster/health"
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = "--demo", f"--insecure-port={free_port()}", "--ingress-domains=example,shop.test"
    with started(tmp_path_factory.mktemp("cluster"), *flags, workers=1) as made:
        made.settle(SEARCH, admin_token(made))
        yield made


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(params=binaries(), ids=label)
def admin(request: pytest.FixtureRequest, cluster: Cluster, homes: Path) -> Kubectl:
    """The administrator's kubectl, in the namespace default."""
    directory = homes / label(request.param).replace("/", "-")
    directory.mkdir(exist_ok=True)
    return Kubectl(request.param, cluster.kubeconfig, directory)


@pytest.fixture
def kubectl(admin: Kubectl, cluster: Cluster, tmp_path: Path) -> Iterator[Kubectl]:
    """The administrator's kubectl, in a namespace of the test's own."""
    name = f"test-{next(_NUMBERS)}"
    token, path = admin_token(cluster), f"/api/v1/namespaces/{name}"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert cluster.request("POST", "/api/v1/namespaces", token, made)[0] == 201
    account = f"{path}/serviceaccounts/default"
    wait_until(lambda: cluster.request("GET", account, token)[0] == 200, f"{name} got no service account")
    yield admin.within(name, tmp_path)
    assert cluster.request("DELETE", path, token)[0] == 200


@pytest.fixture(scope="session")
def page_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose services have addresses of this machine, so that they answer without root."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    flags = f"--service-cluster-ip-range=127.197.{16 * number}.0/20", f"--insecure-port={free_port()}"
    with started(tmp_path_factory.mktemp("pages"), *flags, workers=1) as made:
        yield made


def oldest_and_newest() -> list[Path]:
    """The two kubectls whose versions are farthest apart."""
    found = sorted(binaries(), key=version)
    return [found[0], found[-1]] if len(found) > 1 else found


@pytest.fixture(params=oldest_and_newest(), ids=label)
def outermost(request: pytest.FixtureRequest, page_cluster: Cluster, homes: Path, tmp_path: Path) -> Iterator[Kubectl]:
    """The administrator's kubectl, the oldest and the newest, in a namespace of the test's own."""
    home = homes / f"{label(request.param).replace('/', '-')}-pages"
    home.mkdir(exist_ok=True)
    with namespace(page_cluster, f"page-{next(_NUMBERS)}") as name:
        yield Kubectl(request.param, page_cluster.kubeconfig, home).within(name, tmp_path)


def admin_token(cluster: Cluster) -> str:
    return (cluster.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
