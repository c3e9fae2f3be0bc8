"""A door that is started as the chart deploys it: its settings, its account, its rules, and what it asked of the API.

    with deployed(cluster, directory, values) as door:
        assert door.ask(HELLO, token)[0] == 200
    assert not door.refusals()

The cluster is an embedded one with an audit log (portway.testing.cluster). Its pods have loopback addresses, which are
none of a pod's elsewhere: that, ports and paths are all that is set otherwise than the chart does.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from portway.testing.chart import NAMESPACE, Object, objects, of_kind
from portway.testing.cluster import Cluster, free_port, self_signed, wait_until
from portway.testing.demo import admin_token, ask

PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}
POD_ADDRESSES = "127.64.0.0/10"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:portway"

Asked = tuple[str, str]
"""(verb, resource with its subresource) of a request to the API."""


@dataclass(frozen=True)
class Deployed:
    """A running door. `kubeconfig` is the one of its account."""

    server: str
    certificate: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def ask(self, path: str, token: str = "") -> tuple[int, str]:
        """(status, body) of a GET."""
        return ask(self.server + path, token=token, ca=self.certificate)

    def listens(self) -> bool:
        """Whether it is alive."""
        try:
            return self.ask("/livez")[0] == 200
        except OSError:
            return False


def path_of(one: Object) -> str:
    """Where an object of the chart's lies in the API."""
    group = "/api/v1" if one["apiVersion"] == "v1" else f"/apis/{one['apiVersion']}"
    namespace = one["metadata"].get("namespace")
    return f"{group}{f'/namespaces/{namespace}' if namespace else ''}/{PLURALS[one['kind']]}"


@contextmanager
def applied(cluster: Cluster, found: Sequence[Object]) -> Iterator[None]:
    """Accounts, roles and bindings of the chart in the cluster, as long as the block lasts."""
    token = admin_token(cluster)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    assert cluster.request("POST", "/api/v1/namespaces", token, space)[0] in (201, 409)
    mine = [one for one in found if one["kind"] in PLURALS]
    try:
        for one in mine:
            code, body = cluster.request("POST", path_of(one), token, one)
            assert code == 201, body
        yield
    finally:
        for one in mine:
            cluster.request("DELETE", f"{path_of(one)}/{one['metadata']['name']}", token)


def token_of(cluster: Cluster, namespace: str, account: str, pod: str = "") -> str:
    """A new token of a service account, bound to a pod if there is one."""
    bound = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod}} if pod else {}
    question = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], **bound}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    code, body = cluster.request("POST", path, admin_token(cluster), question)
    assert code == 201, body
    return str(json.loads(body)["status"]["token"])


def kubeconfig(cluster: Cluster, file: Path) -> Path:
    """One with a token of the door's account, at `file`."""
    user = {"token": token_of(cluster, NAMESPACE, "portway")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": cluster.server, "certificate-authority-data": _ca(cluster)}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


def _ca(cluster: Cluster) -> str:
    admin = yaml.safe_load(cluster.kubeconfig.read_text())
    found = admin["clusters"][0]["cluster"]
    if "certificate-authority-data" in found:
        return str(found["certificate-authority-data"])
    import base64

    return base64.b64encode(Path(found["certificate-authority"]).read_bytes()).decode()


def configured(found: Sequence[Object], directory: Path, files: Path, port: int) -> Path:
    """The chart's configuration in `directory`, with paths below `files` where the door will find it."""
    (config,) = of_kind(list(found), "ConfigMap")
    for name, text in config["data"].items():
        (directory / name).write_text(text)
    settings = yaml.safe_load(config["data"]["gateway.yaml"]) | {
        "tls-cert-file": str(files / "tls.crt"),
        "tls-private-key-file": str(files / "tls.key"),
        "authentication-config": str(files / "authentication.yaml"),
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cluster-cidr": POD_ADDRESSES,
    }
    (directory / "gateway.yaml").write_text(yaml.safe_dump(settings))
    return directory / "gateway.yaml"


@contextmanager
def serving(argv: Sequence[str], directory: Path, port: int) -> Iterator[Deployed]:
    """A door's process, from when it is alive until it has ended in good order."""
    log = directory / "door.log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    door = Deployed(f"https://localhost:{port}", directory / "tls.crt", log, process)
    try:
        wait_until(lambda: process.poll() is not None or door.listens(), f"not alive: {log.read_text()}")
        assert process.poll() is None, log.read_text()
        yield door
    finally:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def deployed(
    cluster: Cluster, directory: Path, values: Mapping[str, Any] | None = None, without: str = ""
) -> Iterator[Deployed]:
    """A door by the chart's values in front of the cluster; `without`: a resource that its roles leave out."""
    directory.mkdir(exist_ok=True)
    found = [_without(one, without) for one in objects(values)]
    port = free_port()
    certificate, key = self_signed(directory, "tls")
    assert (certificate.name, key.name) == ("tls.crt", "tls.key")
    config = configured(found, directory, directory, port)
    with applied(cluster, found):
        mine = kubeconfig(cluster, directory / "kubeconfig")
        argv = [sys.executable, "-m", "portway", "gateway", "--config", str(config), "--kubeconfig", str(mine)]
        with serving(argv, directory, port) as door:
            yield door


def _without(role: Object, resource: str) -> Object:
    if not resource or "rules" not in role:
        return role
    rules = [rule | {"resources": [one for one in rule["resources"] if one != resource]} for rule in role["rules"]]
    return role | {"rules": [rule for rule in rules if rule["resources"]]}


def granted(values: Mapping[str, Any] | None) -> set[Asked]:
    """What the chart's roles let the door ask for itself: all but impersonation."""
    return {
        (verb, resource)
        for one in objects(values)
        for rule in one.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb != "impersonate"
    }


def asked(audit: Path, since: int = 0) -> list[tuple[Asked, int, str]]:
    """What the door's account asked the API for itself, each with its code and message, from a place in the log on."""
    with audit.open("rb") as file:
        file.seek(since)
        events = [json.loads(line) for line in file]
    found = []
    for event in events:
        if event["user"]["username"] == ACCOUNT and "impersonatedUser" not in event:
            of = event.get("objectRef") or {}
            resource = "/".join(filter(None, (of.get("resource", event["requestURI"]), of.get("subresource"))))
            status = event.get("responseStatus") or {}
            found.append(((event["verb"], resource), int(status.get("code", 0)), str(status.get("message", ""))))
    return found
