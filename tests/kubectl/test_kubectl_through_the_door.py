"""kubectl through `portway proxy` is kubectl: what it prints and how it ends are, byte for byte, as at the cluster.

Each row runs twice, once at the cluster's own TLS address with the administrator's kubeconfig and once
at the door with none; both begin with the same objects in a namespace of their own.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from portway.testing.cluster import Cluster, wait_until
from portway.testing.kubectl import Kubectl, Result, binaries, label, version
from portway.testing.proxycommand import ProxyCommand, proxying

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]

_NUMBERS = itertools.count()
SEARCH = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"
PAGE = "/api/v1/namespaces/kube-system/services/dashboard/proxy/"
SILENT = ("wait for delete", "diff of nothing")


def oldest_and_newest() -> list[Path]:
    """The two kubectls whose versions are farthest apart."""
    found = sorted(binaries(), key=version)
    return [found[0], found[-1]] if len(found) > 1 else found


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"t": "x"}}, "data": data}


CONFIG = configmap("config", a="1", b="2")
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"nodeName": "nowhere", "containers": [{"name": "web", "image": "nginx"}]},
}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"key": "value"}}
OBJECTS: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": [CONFIG, SERVICE, POD, SECRET]}
BROKEN = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "Bad_Name"}, "spec": {"ports": [{"port": 0}]}}


@dataclass(frozen=True)
class Row:
    """Commands that are run one after the other; NS in them is the namespace. `stdin` is the first one's."""

    commands: tuple[str, ...]
    stdin: Any = None
    code: int | None = 0
    """Of the last one; None where it is the cluster's affair."""


def row(*commands: str, stdin: Any = None, code: int | None = 0) -> Row:
    return Row(commands, stdin, code)


ROWS = {
    "get": row("get configmaps,services,pods,secrets"),
    "get wide": row("get all -o wide"),
    "get yaml": row("get configmap config -o yaml"),
    "get json": row("get service web -o json"),
    "get name": row("get configmaps -l t=x -o name"),
    "get jsonpath": row("get pod web -o jsonpath={.spec.containers[*].image}"),
    "get columns": row("get pods -o custom-columns=N:.metadata.name,I:.spec.containers[0].image"),
    "get all namespaces": row("get namespaces --show-labels --no-headers default kube-system"),
    "get in chunks": row("get clusterroles --chunk-size=5 -o name"),
    "get sorted": row("get services -n kube-system --sort-by=.metadata.name -o name"),
    "get field": row("get pods --field-selector=metadata.name=web -o name"),
    "get nothing": row("get leases"),
    "describe": row("describe configmap kube-root-ca.crt"),  # kubectl 1.27 shows several keys in any order
    "describe service": row("describe service web"),
    "describe pod": row("describe pod web"),
    "create": row("create -f -", stdin=configmap("made")),
    "create twice": row("create -f -", stdin=CONFIG, code=1),
    "create on the command line": row(
        "create configmap lit --from-literal=x=y -o yaml --dry-run=server", "get cm lit", code=1
    ),
    "apply": row("apply -f -", "apply -f -", "get configmap applied -o yaml", stdin=configmap("applied", a="1")),
    "apply server side": row("apply --server-side -f -", stdin=configmap("owned", a="1"), code=None),
    "diff": row("diff -f -", stdin=CONFIG | {"data": {"a": "1", "b": "3"}}, code=1),
    "diff of nothing": row("diff -f -", stdin=configmap("config", a="1", b="2")),
    "replace": row("replace -f -", "get cm config -o jsonpath={.data}", stdin=CONFIG | {"data": {"c": "3"}}),
    "patch": row('patch configmap config -p {"data":{"a":"2"}}', "get cm config -o jsonpath={.data}"),
    "patch json": row('patch cm config --type=json -p [{"op":"remove","path":"/data/a"}] -o json'),
    "patch that fails": row('patch cm config --type=json -p [{"op":"test","path":"/data/a","value":"no"}]', code=1),
    "label": row("label pod web app=other --overwrite", "get pod web --show-labels"),
    "label without overwrite": row("label pod web app=other", code=1),
    "annotate": row("annotate service web note=here", "get service web -o jsonpath={.metadata.annotations}"),
    "expose": row("expose service web --name=again --port=81", "get service again -o jsonpath={.spec.ports}"),
    "delete": row("delete configmap config", "get configmap config", code=1),
    "delete by label": row("delete configmaps -l t=x", "get configmaps -l t=x"),
    "delete what is gone": row("delete configmap none", "delete configmap none --ignore-not-found"),
    "wait": row("wait --for=jsonpath={.data.a}=1 configmap/config --timeout=20s"),
    "wait in vain": row("wait --for=condition=Ready pod/web --timeout=1s", code=1),
    "wait for delete": row("wait --for=delete configmap/none --timeout=5s"),
    "rollout of nothing": row("rollout status deployment/none", code=1),
    "can-i": row("auth can-i create pods", "auth can-i get nodes/proxy --as=nobody", code=1),
    "can-i list": row("auth can-i --list"),
    "whoami": row("auth whoami"),
    "as somebody": row("get pods --as=nobody", code=1),
    "create token": row("create token default --duration=1h"),
    "create token for nobody": row("create token none", code=1),
    "api-resources": row("api-resources -o wide"),
    "api-versions": row("api-versions"),
    "version": row("version -o json"),
    "explain": row("explain service.spec.ports --recursive"),
    "explain nothing": row("explain service.nothing", code=1),
    "raw": row("get --raw /readyz", "get --raw /apis/discovery.k8s.io/v1", "get --raw /openapi/v2"),
    "raw proxy": row(f"get --raw {SEARCH}/_cluster/health?pretty=true", f"get --raw {PAGE}"),
    "raw nothing": row("get --raw /nowhere", code=1),
    "raw of no service": row("get --raw /api/v1/namespaces/default/services/none/proxy/", code=1),
    "raw slashes": row("get --raw //api/v1/namespaces/default", code=1),
    "events": row("get events"),
    "cluster-info": row("cluster-info"),
    "config of a pod that has none": row("logs none", code=1),
    "cordon": row("cordon none", code=1),
    "scale": row("scale deployment none --replicas=2", code=1),
    "run": row("run once --image=nginx --dry-run=server -o name"),
    "no such kind": row("get nonsense", code=1),
    "no such object": row("get pod none", code=1),
    "no such namespace": row("get pods -n none", "create configmap x -n none", code=1),
    "invalid": row("create -f -", stdin=BROKEN, code=1),
    "unknown field": row("create -f -", stdin=CONFIG | {"metadata": {"name": "x"}, "dada": {}}, code=1),
    "no such selector": row("get pods -l =", code=1),
    "usage": row("get", code=1),
    "get from a file": row("get -f -", stdin=OBJECTS),
}


@pytest.fixture(scope="session")
def through(cluster: Cluster) -> Iterator[ProxyCommand]:
    with proxying(cluster.kubeconfig) as proxy:
        yield proxy


@dataclass(frozen=True)
class Pair:
    """The same kubectl at the cluster and at the door."""

    direct: Kubectl
    door: Kubectl
    servers: tuple[str, str]
    namespaces: tuple[str, str]

    def both(self, act: Callable[[Kubectl, str], list[Result]]) -> tuple[list[Result], list[Result]]:
        ways = zip((self.direct, self.door), self.servers, self.namespaces, strict=True)
        direct, door = ([_normal(r, server, ns) for r in act(k, ns)] for k, server, ns in ways)
        return direct, door


_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} [+-]\d{4}"
)
_UID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_VERSION = re.compile(r'(resourceVersion"?: "?)\d+')
_AGE = re.compile(r"\b\d+(m\d*)?s\b( *)")
_ADDRESS = re.compile(r"\b10\.\d+\.\d+\.\d+\b")
_FILES = re.compile(r"/tmp/\S*/(LIVE|MERGED)-\d+|(LIVE|MERGED)-\d+/?|\d{4}-\d\d-\d\d [\d:.]+ [+-]\d{4}")
_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")


def _normal(result: Result, server: str, namespace: str) -> Result:
    """Without what two runs of the same kubectl at the same cluster differ in, and without the server's URL."""

    def said(text: str) -> str:
        text = text.replace(server, "SERVER").replace(namespace, "NS")
        for pattern, stands in (
            (_TIME, "TIME"),
            (_UID, "UID"),
            (_AGE, "AGE"),
            (_ADDRESS, "IP"),
            (_FILES, "FILE"),
            (_TOKEN, "TOKEN"),
        ):
            text = pattern.sub(stands, text)
        return _VERSION.sub(r"\1N", text)

    return Result(result.code, said(result.out), said(result.err))


@pytest.fixture(params=oldest_and_newest(), ids=label)
def pair(request: pytest.FixtureRequest, cluster: Cluster, through: ProxyCommand, homes: Path, tmp_path: Path) -> Pair:
    number = next(_NUMBERS)
    made = []
    for way, server in (("direct", ""), ("door", f"http://localhost:{through.port}")):
        home = homes / f"{label(request.param).replace('/', '-')}-{way}"
        home.mkdir(exist_ok=True)
        # Names of one length, for they are columns of tables.
        namespace = f"{way[:2]}-{number:05}"
        if server:
            config: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "door",
                "contexts": [{"name": "door", "context": {"cluster": "door", "namespace": namespace}}],
                "clusters": [{"name": "door", "cluster": {"server": server}}],
            }
            path = tmp_path / "door.kubeconfig"
            path.write_text(yaml.safe_dump(config))
            kubectl = Kubectl(request.param, path, home, namespace)
        else:
            kubectl = Kubectl(request.param, cluster.kubeconfig, home).within(namespace, tmp_path)
        made.append((kubectl, server or cluster.server, namespace))
    token = (cluster.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
    for _, _, namespace in made:
        value = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        assert cluster.request("POST", "/api/v1/namespaces", token, value)[0] == 201
        inside = f"/api/v1/namespaces/{namespace}"
        wait_until(
            lambda path=inside: cluster.request("GET", f"{path}/serviceaccounts/default", token)[0] == 200,
            "no service account",
        )
        wait_until(
            lambda path=inside: cluster.request("GET", f"{path}/configmaps/kube-root-ca.crt", token)[0] in (200, 404),
            "no authority",
        )
        for value in OBJECTS["items"]:
            plural = f"{value['kind'].lower()}s"
            assert cluster.request("POST", f"{inside}/{plural}", token, value)[0] == 201
    (direct, first, one), (door, second, two) = made
    return Pair(direct, door, (first, second), (one, two))


@pytest.mark.parametrize("name", ROWS)
def test_through_the_door_it_is_the_same(pair: Pair, name: str) -> None:
    wanted = ROWS[name]

    def act(kubectl: Kubectl, namespace: str) -> list[Result]:
        results = []
        for command in wanted.commands:
            argv = command.replace("NS", namespace).split(" ")
            results.append(kubectl.run(*argv, stdin=wanted.stdin))
        return results

    direct, door = pair.both(act)
    assert door == direct
    assert wanted.code in (direct[-1].code, None), direct[-1]
    assert any(result.out or result.err for result in direct) == (name not in SILENT)


def test_a_watch_shows_the_same(pair: Pair) -> None:
    watch = ("get", "configmaps", "-w", "--output-watch-events", "-l", "t=x", "-o", "jsonpath={.type} {.object.data}\n")
    seen = []
    for kubectl in (pair.direct, pair.door):
        with kubectl.running(*watch) as output:
            lines = [output.readline()]
            kubectl.ok("create", "-f", "-", stdin=configmap("new", a="1"))
            lines.append(output.readline())
            kubectl.ok("patch", "configmap", "new", "-p", '{"data":{"a":"2"}}')
            lines.append(output.readline())
            kubectl.ok("delete", "configmap", "new")
            lines.append(output.readline())
        seen.append(lines)
    assert seen[0] == seen[1]
    assert [line.split(" ")[0] for line in seen[0]] == ["ADDED", "ADDED", "MODIFIED", "DELETED"]


def test_exec_and_attach_are_what_the_door_does_not_do(pair: Pair) -> None:
    for command in (("exec", "web", "--", "id"), ("attach", "web"), ("exec", "-it", "web", "--", "sh")):
        result = pair.door.run(*command)
        assert (result.code, result.out) == (1, "")
        assert "orbidden" in result.err
