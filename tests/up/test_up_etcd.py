"""`portway up --store etcd://…`: two servers, one cluster; and what is wrong, in one line."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster, free_port, started, wait_until
from portway.testing.demo import up
from portway.testing.etcd import Member, binaries, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not binaries(), reason="no etcd here (apt-get install etcd-server)"),
]
SERVICES = "/api/v1/namespaces/default/services"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Member]:
    with running(next(iter(binaries().values())), tmp_path / "etcd") as member:
        yield member


def token(cluster: Cluster) -> str:
    return (cluster.data_dir / "admin-token.csv").read_text().partition(",")[0]


def holder(cluster: Cluster) -> str:
    status, body = cluster.request("GET", LEASE, token(cluster))
    return str(json.loads(body)["spec"]["holderIdentity"]) if status == 200 else ""


def slices(cluster: Cluster, service: str) -> int:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name="
    return len(json.loads(cluster.request("GET", path + service, token(cluster))[1])["items"])


def make_service(cluster: Cluster, name: str) -> None:
    body = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}
    status, answer = cluster.request("POST", SERVICES, token(cluster), body)
    assert status == 201, answer


def copy_identity(first: Path, second: Path) -> None:
    """What the documentation says to copy."""
    (second / "data").mkdir(parents=True, mode=0o700)
    shutil.copytree(first / "pki", second / "data" / "pki")
    for name in ("admin-token.csv", "htpasswd"):
        shutil.copy(first / name, second / "data" / name)


def test_two_servers_are_one_cluster_and_the_loss_of_one_is_survived(etcd: Member, tmp_path: Path) -> None:
    flags = ("--store", f"etcd://{etcd.endpoint}", "--proxy-mode", "none")
    (tmp_path / "one").mkdir()
    with started(tmp_path / "one", *flags, workers=1) as one:
        copy_identity(one.data_dir, tmp_path / "two")
        with started(tmp_path / "two", *flags, workers=1) as two:
            assert token(one) == token(two)
            make_service(one, "web")
            for cluster in (two, one):
                status, answer = cluster.request("GET", f"{SERVICES}/web", token(two))
                assert status == 200, answer
            wait_until(lambda: slices(two, "web") == 1, "no controller works")
            nodes = json.loads(two.request("GET", "/api/v1/nodes", token(two))[1])["items"]
            assert len({node["metadata"]["name"] for node in nodes}) == 2
            leader, other = (one, two) if holder(one).startswith(node_of(one)) else (two, one)
            children = [int(child) for child in children_of(leader.process.pid)]
            for pid in (leader.process.pid, *children):
                kill(pid)
            killed = time.monotonic()
            make_service(other, "after")
            wait_until(lambda: slices(other, "after") == 1, "nobody took over", 20)
            assert time.monotonic() - killed < 15


def node_of(cluster: Cluster) -> str:
    """The node's name begins the holder's identity."""
    from portway.up.settings import load

    return load({"data-dir": str(cluster.data_dir), "store": "etcd://127.0.0.1"}).node_name


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def kill(pid: int) -> None:
    import os

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def refused(says: str, *flags: str, tmp_path: Path) -> None:
    done = up("--data-dir", str(tmp_path / "d"), "--secure-port", str(free_port()), *flags)
    assert done.returncode in (1, 2), done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("portway: ")
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_is_refused_in_one_line(etcd: Member, tmp_path: Path) -> None:
    nobody = free_port()
    refused("nothing listens there", "--store", f"etcd://127.0.0.1:{nobody}", tmp_path=tmp_path)
    refused("TLS handshake failed", "--store", f"etcds://{etcd.endpoint}", tmp_path=tmp_path)
    refused('"redis" is not one of sqlite, memory, etcd://', "--store", "redis", tmp_path=tmp_path)
    refused("is no host:port", "--store", "etcd://:2379", tmp_path=tmp_path)
    refused("--etcd-cafile is for --store etcd://", "--etcd-cafile", "/x", tmp_path=tmp_path)
    both = ("--store", f"etcd://{etcd.endpoint}")
    refused("belong together", *both, "--etcd-username", "me", tmp_path=tmp_path)
    refused("--etcd-prefix", *both, "--etcd-prefix", "x/", tmp_path=tmp_path)
    refused("No such file", *both, "--etcd-username", "me", "--etcd-password-file", "/absent", tmp_path=tmp_path)


def test_a_data_directory_of_another_cluster_is_refused(etcd: Member, tmp_path: Path) -> None:
    flags = ("--store", f"etcd://{etcd.endpoint}", "--proxy-mode", "none")
    (tmp_path / "one").mkdir()
    with started(tmp_path / "one", *flags, workers=1):
        refused("was made with another authority than DATA-DIR/pki/ca.crt", *flags, tmp_path=tmp_path)
        with started_elsewhere(tmp_path, etcd) as other:
            assert other.request("GET", "/api/v1/namespaces", token(other))[0] == 200


def started_elsewhere(tmp_path: Path, etcd: Member):  # type: ignore[no-untyped-def]
    (tmp_path / "elsewhere").mkdir()
    flags = ("--store", f"etcd://{etcd.endpoint}", "--etcd-prefix", "/elsewhere", "--proxy-mode", "none")
    return started(tmp_path / "elsewhere", *flags, workers=1)


def test_etcd_may_go_and_come_back_under_a_running_cluster(etcd: Member, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    flags = ("--store", f"etcd://{etcd.endpoint}", "--proxy-mode", "none")
    with started(tmp_path / "one", *flags, workers=1) as one:
        make_service(one, "before")
        control = children_of(one.process.pid)
        etcd.kill()
        status, body = one.request("GET", SERVICES, token(one))
        assert (status, json.loads(body)["reason"]) == (503, "ServiceUnavailable")
        etcd.start()
        wait_until(lambda: one.request("GET", f"{SERVICES}/before", token(one))[0] == 200, "it did not come back")
        make_service(one, "after")
        assert children_of(one.process.pid) == control
