"""Two doors in front of two API servers that share one etcd: any of the four may die."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster, free_port, started, wait_until
from portway.testing.demo import admin_token, descendants
from portway.testing.etcd import binaries, running
from portway.testing.recording import backend
from portway.testing.services import pod_address
from portway.testing.teamdoor import HOME, RULES, account, ask, bind, gateway, make, token, write_kubeconfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not binaries(), reason="no etcd here (apt-get install etcd-server)"),
]
API = "/api/v1/namespaces/default/configmaps"
SERVICE = "/api/v1/namespaces/default/services/web/proxy/"
SEES = [{"apiGroups": [""], "resources": ["services/proxy", "configmaps"], "verbs": ["get", "list", "create"]}]
NAME = "api.cluster.example"
ADDRESSES = {"one": "127.0.0.1", "two": "127.0.0.2"}
REQUESTS = 200
"""That follow the loss of a server, one after the other."""


@dataclass
class Site:
    servers: list[Cluster]
    doors: list[Cluster]
    bearer: str

    def status(self, door: Cluster, target: str) -> int:
        return int(ask(door, "GET", target, self.bearer)[0][":status"])

    def settle(self, door: Cluster, target: str, status: int) -> None:
        wait_until(lambda: self.status(door, target) == status, f"{target} does not come to answer {status}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The servers are the two addresses of one name, which the doors find in a hosts file of their own."""
    with ExitStack() as stack:
        etcd = stack.enter_context(running(next(iter(binaries().values())), tmp_path / "etcd"))
        flags, port = ("--store", f"etcd://{etcd.endpoint}", "--proxy-mode=none"), free_port()
        servers: list[Cluster] = []
        for name, address in ADDRESSES.items():
            (tmp_path / name / "data").mkdir(parents=True, mode=0o700)
            if servers:
                share_identity(servers[0].data_dir, tmp_path / name / "data")
            more = (*flags, f"--hostname-override={name}")
            server = started(tmp_path / name, *more, workers=1, address=address, port=port)
            servers.append(stack.enter_context(server))
        bearer = token(servers[0], "ann")
        bind(servers[0], "sees", SEES, account("ann"))
        kubeconfig = door_kubeconfig(servers[0], tmp_path, port)
        stack.enter_context(published(servers[0]))
        (tmp_path / "hosts").write_text("".join(f"{address} {NAME}\n" for address in ADDRESSES.values()))
        through = "unshare", "--mount", "sh", "-c", f'mount --bind {tmp_path / "hosts"} /etc/hosts && exec "$@"', "sh"
        doors = [
            stack.enter_context(gateway(tmp_path / name, kubeconfig, "--via=direct", through=through))
            for name in ("door-one", "door-two")
        ]
        yield Site(servers, doors, bearer)


def share_identity(first: Path, second: Path) -> None:
    """What docs/etcd.md says to copy."""
    shutil.copytree(first / "pki", second / "pki")
    for name in ("admin-token.csv", "htpasswd"):
        shutil.copy(first / name, second / name)


def door_kubeconfig(server: Cluster, directory: Path, port: int) -> Path:
    """The door's account, at the name that both servers have."""
    make(server, "/api/v1/namespaces", HOME)
    made = token(server, "door", HOME)
    bind(server, "portway:door", RULES, account("door", HOME))
    path, ca = directory / "door.kubeconfig", server.data_dir / "pki" / "ca.crt"
    write_kubeconfig(path, f"https://{NAME}:{port}", made, ca)
    config = json.loads(path.read_text())
    config["clusters"][0]["cluster"]["tls-server-name"] = "localhost"
    path.write_text(json.dumps(config))
    return path


@contextlib.contextmanager
def published(server: Cluster) -> Iterator[None]:
    """A service whose pod this test registers by hand."""
    address = pod_address()
    with backend((address,)) as web:
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": web.port}]}
        make(server, "/api/v1/namespaces/default/services", "web", spec=spec)
        container = {"name": "web", "image": "registered/by-hand"}
        pod = {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"containers": [container]}}
        pods = "/api/v1/namespaces/default/pods"
        assert server.request("POST", pods, admin_token(server), pod)[0] == 201
        ready = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        status = {**pod, "status": {**ready, "conditions": [{"type": "Ready", "status": "True"}]}}
        assert server.request("PUT", f"{pods}/web/status", admin_token(server), status)[0] == 200
        yield


def doors_of(server: Cluster) -> set[str]:
    """The addresses that default/kubernetes has."""
    body = server.request("GET", "/api/v1/namespaces/default/endpoints/kubernetes", admin_token(server))[1]
    return {one["ip"] for subset in json.loads(body).get("subsets", ()) for one in subset["addresses"]}


def kill(server: Cluster) -> None:
    for pid in (server.process.pid, *descendants(server.process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait()


@pytest.mark.parametrize("lost", [0, 1])
def test_the_loss_of_a_server_is_nobodys_business(site: Site, lost: int) -> None:
    for door in site.doors:
        site.settle(door, SERVICE, 200)
        assert site.status(door, API) == 200
    left = site.servers[1 - lost]
    wait_until(lambda: doors_of(left) == set(ADDRESSES.values()), "default/kubernetes has not both")
    kill(site.servers[lost])
    answers = [
        (site.status(door, SERVICE), site.status(door, API)) for _ in range(REQUESTS // 2) for door in site.doors
    ]
    assert answers == [(200, 200)] * REQUESTS
    made = left.request("POST", API, admin_token(left), {"metadata": {"name": "afterwards"}, "data": {"a": "b"}})
    assert made[0] == 201
    for door in site.doors:
        assert site.status(door, f"{API}/afterwards") == 200
    spec = {"type": "ExternalName", "externalName": "elsewhere.example"}
    make(left, "/api/v1/namespaces/default/services", "later", spec=spec)
    for door in site.doors:
        site.settle(door, "/api/v1/namespaces/default/services/later/proxy/", 503)
    wait_until(lambda: doors_of(left) == {list(ADDRESSES.values())[1 - lost]}, "default/kubernetes keeps a dead one")


def test_the_loss_of_a_door_is_the_other_ones_gain(site: Site) -> None:
    kill(site.doors[0])
    assert [site.status(site.doors[1], SERVICE) for _ in range(20)] == [200] * 20
