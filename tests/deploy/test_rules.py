"""The chart's rules are what a door needs: it works with them, asks for each of them and for nothing else, and fails
without any one of them.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.testing.cluster import Cluster, wait_until
from portway.testing.demo import HELLO, admin_token
from portway.testing.deployed import Deployed, asked, deployed, granted, token_of
from portway.testing.kubectl import binaries

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(180)]

READER = "deploy-test-reader"
EXTRA = "userextras/authentication.kubernetes.io/"


@dataclass(frozen=True)
class Callers:
    """Tokens: the administrator's, who is a user; an account's in a pod, with some rights; and one's with none."""

    admin: str
    account: str
    stranger: str
    pod: str
    node: str


@pytest.fixture(scope="module")
def callers(cluster: Cluster) -> Iterator[Callers]:
    admin = admin_token(cluster)
    pods = json.loads(cluster.request("GET", "/api/v1/namespaces/default/pods", admin)[1])["items"]
    pod = next(one for one in pods if one["metadata"]["name"].startswith("hello"))
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]},
        {"apiGroups": [""], "resources": ["services/proxy", "pods/proxy", "nodes/proxy"], "verbs": ["get"]},
    ]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    role = {"apiVersion": rbac[6:], "kind": "ClusterRole", "metadata": {"name": READER}, "rules": rules}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}
    # On a node of its own: what its agent does not know it would remove.
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": READER}}
    assert cluster.request("POST", "/api/v1/nodes", admin, node)[0] == 201
    spec = {"serviceAccountName": "default", "nodeName": READER, "containers": [{"name": "c", "image": "i"}]}
    caller = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": READER}, "spec": spec}
    code, body = cluster.request("POST", "/api/v1/namespaces/default/pods", admin, caller)
    assert code == 201, body
    binding = {
        "apiVersion": rbac[6:],
        "kind": "ClusterRoleBinding",
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": READER},
        "subjects": [subject],
    }
    assert cluster.request("POST", f"{rbac}/clusterroles", admin, role)[0] == 201
    assert cluster.request("POST", f"{rbac}/clusterrolebindings", admin, binding)[0] == 201
    yield Callers(
        admin,
        token_of(cluster, "default", "default", READER),
        token_of(cluster, "kube-system", "default"),
        pod["metadata"]["name"],
        pod["spec"]["nodeName"],
    )
    for path in (f"namespaces/default/pods/{READER}", f"nodes/{READER}"):
        cluster.request("DELETE", f"/api/v1/{path}?gracePeriodSeconds=0", admin)
    for plural in ("clusterroles", "clusterrolebindings"):
        cluster.request("DELETE", f"{rbac}/{plural}/{READER}", admin)


def kubectl(door: Deployed, token: str, *arguments: str) -> str:
    """What a kubectl of the project's own prints, through the door."""
    flags = ["--kubeconfig=/dev/null", f"--server={door.server}", f"--certificate-authority={door.certificate}"]
    argv = [str(binaries()[0]), *flags, f"--token={token}", f"--cache-dir={door.log.parent / 'cache'}", *arguments]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


Check = Callable[[Deployed, Callers], str]
"""Says "" or what did not work."""


def status(wanted: int, found: tuple[int, str], text: str = "") -> str:
    return "" if found[0] == wanted and text in found[1] else f"{found[0]} {found[1][:300]}"


def proxied(door: Deployed, who: Callers) -> str:
    return status(200, door.ask(HELLO, who.account), "hello from")


def proxied_to_a_pod(door: Deployed, who: Callers) -> str:
    return status(200, door.ask(f"/api/v1/namespaces/default/pods/{who.pod}/proxy/", who.account), "hello from")


def found_the_node(door: Deployed, who: Callers) -> str:
    """Nobody listens there, but the door knows where `there` is."""
    found = door.ask(f"/api/v1/nodes/{who.node}:1/proxy/", who.account)
    return "" if found[0] in (502, 503) and "refused" in found[1].lower() else f"{found[0]} {found[1][:300]}"


def turned_away(door: Deployed, who: Callers) -> str:
    return status(403, door.ask(HELLO, who.stranger), "cannot get resource")


def unknown(door: Deployed, who: Callers) -> str:
    return status(401, door.ask(HELLO, f"{who.account}x"))


def passed_on(door: Deployed, who: Callers) -> str:
    """As an account: the API server learns its name, groups, uid and extras."""
    return status(200, door.ask("/api/v1/namespaces/default/pods", who.account), who.pod)


def passed_on_for_a_user(door: Deployed, who: Callers) -> str:
    return status(200, door.ask("/api/v1/namespaces", who.admin), "kube-system")


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        proxied, proxied_to_a_pod, found_the_node, turned_away, unknown, passed_on, passed_on_for_a_user,
    )
}  # fmt: skip


def failures(door: Deployed, who: Callers) -> dict[str, str]:
    """What did not work, by check."""
    return {name: found for name, check in CHECKS.items() if (found := check(door, who))}


VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "some-namespaces": {"namespaces": ["default"]},
    "tunnel": {"via": "tunnel"},
    "rbac-mode": {"authorizationMode": "RBAC"},
    "rbac-mode-some-namespaces": {"authorizationMode": "RBAC", "namespaces": ["default"]},
}


NOT_HERE = {("create", "pods/portforward")}
"""Asked of servers that speak SPDY only, or check WebSockets so (1.35 on): the embedded one does neither."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_door_asks_for_what_it_is_granted_and_for_nothing_else(
    variant: str, cluster: Cluster, callers: Callers, tmp_path: Path
) -> None:
    audit = cluster.output.parent / "audit.log"
    since = audit.stat().st_size
    values = VARIANTS[variant]
    with deployed(cluster, tmp_path, values) as door:
        wait_until(lambda: door.ask("/readyz")[0] == 200, f"not ready: {door.ask('/readyz?verbose')}")
        assert failures(door, callers) == {}
        assert f"pod/{callers.pod}" in kubectl(door, callers.account, "get", "pods", "-o", "name")
        said = json.loads(kubectl(door, callers.account, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
        assert said["username"] == "system:serviceaccount:default:default"
        assert said["extra"]["authentication.kubernetes.io/pod-name"] == [READER]
        assert "namespace/kube-system" in kubectl(door, callers.admin, "get", "namespaces", "-o", "name")
    found = asked(audit, since)
    refused = [one for one in found if one[1] in (401, 403)]
    assert refused == []
    assert "forbidden" not in door.log.read_text()
    assert {one[0] for one in found} == granted(values) - NOT_HERE


LOST = {
    "tokenreviews": {*CHECKS},
    "subjectaccessreviews": {"proxied", "proxied_to_a_pod", "found_the_node", "turned_away", "passed_on"},
    "users": {"passed_on_for_a_user"},
    "groups": {"passed_on", "passed_on_for_a_user"},
    "serviceaccounts": {"passed_on"},
    "uids": {"passed_on", "passed_on_for_a_user"},
    f"{EXTRA}credential-id": {"passed_on"},
    f"{EXTRA}node-name": {"passed_on"},
    f"{EXTRA}node-uid": {"passed_on"},
    f"{EXTRA}pod-name": {"passed_on"},
    f"{EXTRA}pod-uid": {"passed_on"},
    "services": {"proxied"},
    "endpointslices": {"proxied"},
    "pods": {"proxied", "proxied_to_a_pod"},
    "nodes": {"found_the_node"},
}  # fmt: skip
"""Resource of a rule → what does not work without it."""


@pytest.mark.parametrize("resource", LOST)
def test_each_rule_is_needed(resource: str, cluster: Cluster, callers: Callers, tmp_path: Path) -> None:
    with deployed(cluster, tmp_path, {}, without=resource) as door:
        assert failures(door, callers).keys() == LOST[resource]


def test_every_rule_was_taken_away_once() -> None:
    from portway.testing.chart import objects

    assert LOST.keys() == {r for one in objects() for rule in one.get("rules", ()) for r in rule["resources"]}


def test_a_door_that_is_held_to_names_can_be_nobody_else(cluster: Cluster, callers: Callers, tmp_path: Path) -> None:
    groups = ["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:default"]
    with deployed(cluster, tmp_path, {"rbac": {"impersonate": {"users": ["admin"], "groups": groups}}}) as door:
        assert failures(door, callers).keys() == {"passed_on_for_a_user"}
        code, said = door.ask("/api/v1/namespaces", callers.admin)
        assert (code, 'cannot impersonate resource \\"groups\\"' in said) == (403, True), said
