"""Every kind that is served, through what kubectl does to objects: all kinds in one file, each command once."""

import re
from copy import deepcopy
from typing import Any

import pytest
import yaml

from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

RBAC = "rbac.authorization.k8s.io"


def objects(namespace: str) -> list[dict[str, Any]]:
    """One object of each kind; names of cluster-scoped ones start with the namespace's."""
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    subject = {"kind": "User", "name": "jane", "apiGroup": RBAC}
    wide = f"{namespace}-wide"
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "apart", "namespace": namespace}
    port = {"name": "http", "port": 80, "protocol": "TCP"}
    return [
        _object("v1", "Namespace", wide),
        _object("v1", "Node", wide, spec={"podCIDR": "10.9.0.0/24"}),
        _object("v1", "Pod", "apart", spec={"containers": [{"name": "web", "image": "nginx:1"}]}),
        _object("v1", "Service", "made", spec={"ports": [{**port, "targetPort": 8080}]}),
        _object("v1", "Endpoints", "apart", subsets=[{"addresses": [{"ip": "10.9.0.9"}], "ports": [port]}]),
        _object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "apart",
            addressType="IPv4",
            endpoints=[{"addresses": ["10.9.0.9"], "conditions": {"ready": True}}],
            ports=[port],
        ),
        _object("v1", "ConfigMap", "apart", data={"key": "value"}),
        _object("v1", "Secret", "apart", data={"key": "dmFsdWU="}),
        _object("v1", "ServiceAccount", "apart"),
        _object("v1", "Event", "apart", involvedObject=reference, reason="Tested", message="It is.", type="Normal"),
        _object("coordination.k8s.io/v1", "Lease", "apart", spec={"holderIdentity": "me"}),
        _object(f"{RBAC}/v1", "Role", "apart", rules=[rule]),
        _object(f"{RBAC}/v1", "RoleBinding", "apart", subjects=[subject], roleRef=_role("Role", "apart")),
        _object(f"{RBAC}/v1", "ClusterRole", wide, rules=[rule]),
        _object(f"{RBAC}/v1", "ClusterRoleBinding", wide, subjects=[subject], roleRef=_role("ClusterRole", wide)),
    ]


def _object(version: str, kind: str, name: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **parts}


def _role(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": RBAC, "kind": kind, "name": name}


def changed(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a second apply sends: a label on each, and something of its own where a kind has something."""
    changes: dict[str, dict[str, Any]] = {
        "Pod": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}},
        "Service": {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9090}]}},
        "ConfigMap": {"data": {"other": "value"}},
        "Secret": {"data": {"other": "dmFsdWU="}},
        "Lease": {"spec": {"holderIdentity": "you"}},
        "RoleBinding": {"subjects": [{"kind": "Group", "name": "staff", "apiGroup": RBAC}]},
    }
    found = []
    for each in deepcopy(made):
        each["metadata"]["labels"] = {"round": "second"}
        found.append(each | changes.get(each["kind"], {}))
    return found


def names(made: list[dict[str, Any]]) -> list[str]:
    """kind.group/name, as kubectl calls them."""
    found = []
    for each in made:
        group = each["apiVersion"].rpartition("/")[0]
        kind = each["kind"].lower() + (f".{group}" if group else "")
        found.append(f"{kind}/{each['metadata']['name']}")
    return found


def said(made: list[dict[str, Any]], verb: str) -> list[str]:
    return [f"{name} {verb}" for name in names(made)]


def listed(made: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": made}


def lines(kubectl: Kubectl, *argv: str, stdin: Any) -> list[str]:
    return kubectl.ok(*argv, "-f", "-", stdin=stdin).splitlines()


def test_applies_twice_and_once_more(kubectl: Kubectl) -> None:
    first = objects(kubectl.namespace)
    second = changed(first)
    assert lines(kubectl, "apply", stdin=listed(first)) == said(first, "created")
    assert lines(kubectl, "apply", stdin=listed(first)) == said(first, "unchanged")
    assert lines(kubectl, "apply", stdin=listed(second)) == said(second, "configured")
    assert lines(kubectl, "apply", stdin=listed(second)) == said(second, "unchanged")
    stored = {each["kind"]: each for each in kubectl.json("get", "-f", "-", stdin=listed(second))["items"]}
    assert stored["Pod"]["spec"]["containers"][0]["image"] == "nginx:2"
    assert stored["Service"]["spec"]["ports"][0]["targetPort"] == 9090
    assert (stored["ConfigMap"]["data"], list(stored["Secret"]["data"])) == ({"other": "value"}, ["other"])
    assert stored["Lease"]["spec"] == {"holderIdentity": "you"}
    assert stored["RoleBinding"]["subjects"] == [{"kind": "Group", "name": "staff", "apiGroup": RBAC}]
    assert all(each["metadata"]["labels"]["round"] == "second" for each in stored.values())


def test_gets_and_describes_in_every_form(kubectl: Kubectl) -> None:
    made = objects(kubectl.namespace)
    everything = listed(made)
    assert lines(kubectl, "create", stdin=everything) == said(made, "created")
    assert lines(kubectl, "get", "-o", "name", stdin=everything) == names(made)
    items = kubectl.json("get", "-f", "-", stdin=everything)["items"]
    assert [each["kind"] for each in items] == [each["kind"] for each in made]
    assert yaml.safe_load(kubectl.ok("get", "-f", "-", "-o", "yaml", stdin=everything))["items"] == items
    columns = "custom-columns=K:.kind,N:.metadata.name,S:.metadata.namespace"
    rows = [line.split() for line in lines(kubectl, "get", "-o", columns, stdin=everything)]
    assert rows == [
        ["K", "N", "S"],
        *([e["kind"], e["metadata"]["name"], e["metadata"].get("namespace", "<none>")] for e in items),
    ]
    for form in ([], ["-o", "wide"], ["--show-labels"]):
        table = kubectl.ok("get", "-f", "-", *form, stdin=everything)
        first = [line.split()[0] for line in table.splitlines() if line]
        assert [name for name in names(made) if name not in first] == ["event/apart"]  # its table starts with a time
    described = kubectl.ok("describe", "-f", "-", stdin=everything)
    assert re.findall(r"^Name: +(\S+)$", described, re.MULTILINE) == [each["metadata"]["name"] for each in made]


def test_changes_labels_and_annotations_and_patches(kubectl: Kubectl) -> None:
    made = objects(kubectl.namespace)
    everything = listed(made)
    assert lines(kubectl, "create", stdin=everything) == said(made, "created")
    assert lines(kubectl, "label", "colour=red", stdin=everything) == said(made, "labeled")
    assert lines(kubectl, "label", "colour=red", stdin=everything) == said(made, "not labeled")
    assert lines(kubectl, "label", "--overwrite", "colour=blue", stdin=everything) == said(made, "labeled")
    annotated = "annotated" if kubectl.version > (1, 27) else "annotate"
    assert lines(kubectl, "annotate", "note=one two", stdin=everything) == said(made, annotated)
    patches = {
        "json": '[{"op": "test", "path": "/metadata/labels/colour", "value": "blue"},'
        ' {"op": "add", "path": "/metadata/labels/json", "value": "1"}]',
        "merge": '{"metadata": {"labels": {"merge": "1"}, "annotations": {"note": null}}}',
        "strategic": '{"metadata": {"labels": {"strategic": "1"}, "finalizers": ["example.com/kept"]}}',
    }
    for form, patch in patches.items():
        assert lines(kubectl, "patch", f"--type={form}", "-p", patch, stdin=everything) == said(made, "patched")
    assert kubectl.ok("patch", "configmap/apart", "-p", patches["strategic"]) == "configmap/apart patched (no change)\n"
    for each in kubectl.json("get", "-f", "-", stdin=everything)["items"]:
        wanted = {"colour": "blue", "json": "1", "merge": "1", "strategic": "1"}
        assert wanted.items() <= each["metadata"]["labels"].items()
        assert "note" not in each["metadata"].get("annotations", {})
        assert each["metadata"]["finalizers"] == ["example.com/kept"]
    assert lines(kubectl, "label", "colour-", stdin=everything) == said(made, "unlabeled")
    drop = '{"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/kept"]}}'
    assert lines(kubectl, "patch", "-p", drop, stdin=everything) == said(made, "patched")


def test_replaces_and_deletes(kubectl: Kubectl) -> None:
    made = objects(kubectl.namespace)
    everything = listed(made)
    assert lines(kubectl, "create", stdin=everything) == said(made, "created")
    assert lines(kubectl, "replace", stdin=listed(changed(made))) == said(made, "replaced")
    assert lines(kubectl, "get", "-o", "name", "-l", "round=second", stdin=everything) == names(made)
    deleted = lines(kubectl, "delete", stdin=everything)
    if kubectl.version >= (1, 34):
        deleted = [line.removesuffix(f" from {kubectl.namespace} namespace") for line in deleted]
    assert deleted == [f'{kind} "{name}" deleted' for kind, name in (each.split("/") for each in names(made))]
    assert kubectl.ok("get", "-f", "-", "--ignore-not-found", stdin=everything) == ""
    assert kubectl.ok("delete", "-f", "-", "--ignore-not-found", stdin=everything) == ""
