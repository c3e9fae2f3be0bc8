"""kubectl with a token at a gateway is kubectl at the cluster: compared byte for byte, oldest and newest binary."""

import base64
import itertools
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import admin_token
from portway.testing.demo import ask as get
from portway.testing.kubectl import Kubectl, binaries, label, version
from portway.testing.teamdoor import (
    account,
    bind,
    door_account,
    gateway,
    group,
    make,
    pod_addresses,
    token,
    write_kubeconfig,
)

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]
HELLO = "/api/v1/namespaces/default/services/hello/proxy/"
_ORDERED = sorted(binaries(), key=version)
CHOSEN = [_ORDERED[0], _ORDERED[-1]] if len(_ORDERED) > 1 else _ORDERED


@dataclass(frozen=True)
class Both:
    """The same kubectl and token, at the cluster and at the door in front of it."""

    cluster: Cluster
    direct: Kubectl
    door: Kubectl
    server: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster, str]]:
    directory = tmp_path_factory.mktemp("team")
    with started(directory, "--demo", "--insecure-port=0", workers=1) as cluster:
        pod_addresses(cluster, "hello-0", "hello-1")
        bearer = token(cluster, "ops")
        bind(cluster, "ops", [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}], account("ops"))
        bind(cluster, "roots", [{"nonResourceURLs": ["*"], "verbs": ["*"]}], group("system:serviceaccounts:default"))
        cluster.settle(HELLO, admin_token(cluster))
        with gateway(directory / "door", door_account(cluster, directory), "--via=auto") as door:
            yield cluster, door, bearer


@pytest.fixture(params=CHOSEN, ids=label, scope="module")
def both(
    request: pytest.FixtureRequest, made: tuple[Cluster, Cluster, str], tmp_path_factory: pytest.TempPathFactory
) -> Both:
    cluster, door, bearer = made
    found = []
    for name, server, ca in (
        ("direct", cluster.server, cluster.data_dir / "pki" / "ca.crt"),
        ("door", door.server, door.data_dir / "ca.crt"),
    ):
        home = tmp_path_factory.mktemp(name)
        found.append(Kubectl(request.param, write_kubeconfig(home / "config", server, bearer, ca), home))
    return Both(cluster, found[0], found[1], door.server)


COMMANDS = (
    "get pods -o wide",
    "get services,endpointslices -A -o yaml",
    "get nodes -o json",
    "get pods -l app.kubernetes.io/name=hello -o name",
    "get pods --field-selector=status.phase=Running --show-labels",
    "get pods --chunk-size=1",
    "get pod nobody",
    "get secrets -n kube-system -o wide",
    "describe service hello",
    "explain service.spec.ports",
    "api-resources --sort-by=name -o wide",
    "api-versions",
    "auth can-i list secrets",
    "auth can-i get /metrics",
    "auth can-i --list --namespace=kube-system",
    "auth whoami -o json",
    "get --raw /api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_cluster/health",
    "get --raw /openapi/v3",
    "get --raw /api/v1/namespaces/default/services/nobody/proxy/",
    "get --raw /version",
    "create configmap x --from-literal=a=b --dry-run=server -o yaml",
    "delete pod nobody",
    "wait pod/hello-0 --for=condition=Ready --timeout=20s",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_bytes(both: Both, command: str) -> None:
    argv = command.split()
    settle(both)
    expected = both.direct.run(*argv)
    found = both.door.run(*argv)
    assert (found.code, _plain(found.out), _plain(found.err)) == (
        expected.code,
        _plain(expected.out),
        _plain(expected.err),
    )


def settle(both: Both) -> None:
    """Until everything that the demo brings is there and stands still."""
    wait_until(lambda: both.direct.run("get", "pods", "-A", "-o", "name").out.count("\n") >= 6, "the demo is not whole")


def _plain(text: str) -> str:
    """Without what is new at each request."""
    text = re.sub(r"(uid|creationTimestamp|resourceVersion|renewTime|lastHeartbeatTime)(\"?): .*", r"\1", text)
    return re.sub(r"\b\d+(s|m|m\d+s)( ago)?\b", "AGE", text).replace(" ", "")


def test_a_watch_shows_what_comes(both: Both) -> None:
    name = f"watched-{both.door.binary.name.replace('.', '-')}-{int(time.time())}"
    with both.door.running("get", "configmaps", "-w", "--no-headers", "--output-watch-events") as printed:
        assert "kube-root-ca.crt" in next(iter(printed))  # it watches, from a list without the new one
        make(both.cluster, "/api/v1/namespaces/default/configmaps", name)
        path = f"/api/v1/namespaces/default/configmaps/{name}"
        assert both.cluster.request("DELETE", path, admin_token(both.cluster))[0] == 200
        lines = (line.split()[:2] for line in printed)
        seen = list(itertools.takewhile(lambda line: line != ["DELETED", name], lines))
        assert ["ADDED", name] in seen


def test_a_token_and_questions_in_protobuf(both: Both) -> None:
    made_token = both.door.ok("create", "token", "ops", "--duration=30m").strip()
    payload = made_token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == "system:serviceaccount:default:ops"
    ca = both.door.kubeconfig.parent / "config"
    authority = json.loads(ca.read_text())["clusters"][0]["cluster"]["certificate-authority"]
    assert get(both.server + HELLO, token=made_token, ca=Path(authority))[0] == 200
    refused = both.door.run("auth", "can-i", "list", "secrets", "--as=nobody")
    assert (refused.code, refused.out) == (1, "no\n")
    refused = both.door.run("get", "secrets", "--as=nobody", "--as-group=some")
    assert refused.err.startswith('Error from server (Forbidden): secrets is forbidden: User "nobody" cannot list')
    assert refused.err == both.direct.run("get", "secrets", "--as=nobody", "--as-group=some").err


def test_objects_come_and_go(both: Both, tmp_path: Path) -> None:
    name = f"made-{both.door.binary.name.replace('.', '-')}"
    assert both.door.ok("create", "configmap", name, "--from-literal=a=b") == f"configmap/{name} created\n"
    assert both.door.ok("label", "configmap", name, "x=y") == f"configmap/{name} labeled\n"
    assert both.door.ok("patch", "configmap", name, "-p", '{"data":{"a":"c"}}') == f"configmap/{name} patched\n"
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-applied"}, "data": {"k": "v"}}
    assert both.door.ok("apply", "-f", "-", stdin=applied) == f"configmap/{name}-applied created\n"
    assert both.door.ok("apply", "-f", "-", stdin=applied) == f"configmap/{name}-applied unchanged\n"
    assert both.direct.json("get", "configmap", name)["data"] == {"a": "c"}
    both.door.ok("delete", "configmap", name, f"{name}-applied")


def test_the_gateway_says_where_it_serves_and_by_which_way(made: tuple[Cluster, Cluster, str]) -> None:
    _, door, _ = made
    address = door.server.removeprefix("https://")
    said = re.compile(
        rf"portway: serving on {re.escape(address)}\n"
        r"portway: services are reached by this way: direct \(direct: [\d.]+ ms; tunnel: .*; through: what remains\)\n"
    )
    wait_until(lambda: said.fullmatch(door.output.read_text()), f"it said: {door.output.read_text()}")


def test_port_forward(both: Both) -> None:
    with both.door.running("port-forward", "--address=127.0.0.1", "svc/hello", ":80") as printed:
        first = printed.readline()
        found = re.fullmatch(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+\n", first)
        assert found, first
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=20) as answer:
                assert answer.read().startswith(b"hello from hello-")


def test_kubectl_proxy_in_front_of_the_gateway(both: Both) -> None:
    with both.door.running("proxy", "--port=0") as printed:
        found = re.fullmatch(r"Starting to serve on (127\.0\.0\.1:\d+)\n", printed.readline())
        assert found
        url = f"http://{found[1]}"
        assert get(url + HELLO)[1].startswith("hello from hello-")
        assert json.loads(get(f"{url}/api/v1/namespaces/default/pods/hello-0")[1])["kind"] == "Pod"
        status, body = get(f"{url}/api/v1/namespaces/default/services/nobody/proxy/")
        assert (status, json.loads(body)["message"]) == (404, 'services "nobody" not found')
        watch = f"{url}/api/v1/namespaces/default/services?watch=true&timeoutSeconds=1"
        assert get(watch)[1].count('"type":"ADDED"') >= 3
