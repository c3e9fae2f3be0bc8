"""Making and changing things by subcommand: create, run, expose, set, edit, dry runs, diff, delete --all."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]


def test_create_subcommands(kubectl: Kubectl) -> None:
    create = ("create",)
    wide = f"{kubectl.namespace}-wide"
    rbac = "rbac.authorization.k8s.io"
    for argv, said in {
        ("configmap", "a", "--from-literal=k=v"): "configmap/a",
        ("secret", "generic", "a", "--from-literal=k=v"): "secret/a",
        (
            "secret",
            "docker-registry",
            "b",
            "--docker-username=u",
            "--docker-password=p",
            "--docker-server=r.example",
        ): "secret/b",
        ("serviceaccount", "a"): "serviceaccount/a",
        ("namespace", wide): f"namespace/{wide}",
        ("role", "a", "--verb=get", "--resource=pods,leases.coordination.k8s.io"): f"role.{rbac}/a",
        ("rolebinding", "a", "--role=a", "--user=u", "--group=g"): f"rolebinding.{rbac}/a",
        ("clusterrole", wide, "--verb=get", "--non-resource-url=/x"): f"clusterrole.{rbac}/{wide}",
        ("clusterrolebinding", wide, f"--clusterrole={wide}", "--user=u"): f"clusterrolebinding.{rbac}/{wide}",
        ("service", "clusterip", "a", "--tcp=80:8080"): "service/a",
        ("service", "nodeport", "b", "--tcp=80"): "service/b",
        ("service", "loadbalancer", "c", "--tcp=80"): "service/c",
        ("service", "externalname", "d", "--external-name=x.example"): "service/d",
        ("service", "clusterip", "e", "--clusterip=None"): "service/e",
    }.items():
        assert kubectl.ok(*create, *argv) == f"{said} created\n"
    assert kubectl.json("get", "configmap", "a")["data"] == {"k": "v"}
    assert kubectl.json("get", "secret", "a")["data"] == {"k": base64.b64encode(b"v").decode()}
    assert kubectl.json("get", "secret", "b")["type"] == "kubernetes.io/dockerconfigjson"
    assert kubectl.json("get", "role", "a")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]},
    ]
    assert kubectl.json("get", "clusterrole", wide)["rules"] == [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]
    for kind in ("clusterrole", "clusterrolebinding", "namespace"):
        kubectl.ok("delete", kind, wide)


def test_services_as_they_are_shown(kubectl: Kubectl) -> None:
    kubectl.ok("create", "service", "clusterip", "a", "--tcp=80:8080", "--tcp=443")
    kubectl.ok("create", "service", "nodeport", "b", "--tcp=80")
    kubectl.ok("create", "service", "loadbalancer", "c", "--tcp=80")
    kubectl.ok("create", "service", "externalname", "d", "--external-name=x.example")
    kubectl.ok("create", "service", "clusterip", "e", "--clusterip=None")
    rows = {row[0]: row for row in kubectl.rows("get", "services", "-o", "wide")}
    ports = {each["metadata"]["name"]: each["spec"] for each in kubectl.json("get", "services")["items"]}
    node = {name: spec["ports"][0].get("nodePort") for name, spec in ports.items() if spec.get("ports")}
    address = {name: spec.get("clusterIP") for name, spec in ports.items()}
    assert rows["NAME"] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    shown = {name: [*row[1:5], row[6]] for name, row in rows.items() if name != "NAME"}
    assert shown == {
        "a": ["ClusterIP", address["a"], "<none>", "80/TCP,443/TCP", "app=a"],
        "b": ["NodePort", address["b"], "<none>", f"80:{node['b']}/TCP", "app=b"],
        "c": ["LoadBalancer", address["c"], "<pending>", f"80:{node['c']}/TCP", "app=c"],
        "d": ["ExternalName", "<none>", "x.example", "<none>", "app=d"],
        "e": ["ClusterIP", "None", "<none>", "<none>", "app=e"],
    }


def test_run_expose_and_set(kubectl: Kubectl) -> None:
    assert kubectl.ok("run", "web", "--image=nginx:1", "--port=80", "-l", "app=web") == "pod/web created\n"
    assert kubectl.ok("expose", "pod", "web", "--port=8080", "--target-port=80") == "service/web exposed\n"
    spec = kubectl.json("get", "service", "web")["spec"]
    assert spec["ports"] == [{"port": 8080, "protocol": "TCP", "targetPort": 80}]
    assert spec["selector"] == {"app": "web"}
    assert kubectl.ok("expose", "service", "web", "--name=again", "--type=NodePort") == "service/again exposed\n"
    assert kubectl.json("get", "service", "again")["spec"]["type"] == "NodePort"
    assert kubectl.ok("set", "image", "pod/web", "web=nginx:2") == "pod/web image updated\n"
    assert kubectl.json("get", "pod", "web")["spec"]["containers"][0]["image"] == "nginx:2"
    assert kubectl.ok("set", "selector", "service", "web", "app=other") == "service/web selector updated\n"
    assert kubectl.json("get", "service", "web")["spec"]["selector"] == {"app": "other"}


def test_edit(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.ok("create", "configmap", "a", "--from-literal=k=before")
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nexec sed -i 's/before/after/' \"$1\"\n")
    editor.chmod(0o755)
    assert kubectl.ok("edit", "configmap", "a", EDITOR=str(editor)) == "configmap/a edited\n"
    unchanged = kubectl.run("edit", "configmap", "a", EDITOR="true")
    assert (unchanged.code, unchanged.out + unchanged.err) == (0, "Edit cancelled, no changes made.\n")
    assert kubectl.json("get", "configmap", "a")["data"] == {"k": "after"}


def test_replace_what_was_got(kubectl: Kubectl) -> None:
    kubectl.ok("create", "configmap", "a", "--from-literal=k=before")
    got: dict[str, Any] = kubectl.json("get", "configmap", "a")
    got["data"]["k"] = "after"
    assert kubectl.ok("replace", "-f", "-", stdin=got) == "configmap/a replaced\n"
    got["data"]["k"] = "late"
    assert kubectl.refused("replace", "-f", "-", stdin=got) == (
        'Error from server (Conflict): error when replacing "STDIN": Operation cannot be fulfilled on configmaps "a": '
        "the object has been modified; please apply your changes to the latest version and try again\n"
    )
    del got["metadata"]["resourceVersion"], got["metadata"]["uid"]
    forced = kubectl.run("replace", "--force", "-f", "-", stdin=got)
    assert (forced.code, forced.out.splitlines()[-1]) == (0, "configmap/a replaced")
    assert kubectl.json("get", "configmap", "a")["data"] == {"k": "late"}


def test_dry_runs_leave_nothing(kubectl: Kubectl) -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    dry = "--dry-run=server"
    assert kubectl.ok("apply", dry, "-f", "-", stdin=made) == "configmap/a created (server dry run)\n"
    assert kubectl.json("create", "service", "nodeport", "a", "--tcp=80", dry)["spec"]["ports"][0]["port"] == 80
    assert set(kubectl.ok("get", "configmap,service", "-o", "name").split()) <= {"configmap/kube-root-ca.crt"}
    kubectl.ok("apply", "-f", "-", stdin=made)
    assert kubectl.ok("label", "configmap", "a", "x=y", dry) == "configmap/a labeled (server dry run)\n"
    where = f" from {kubectl.namespace} namespace" if kubectl.version >= (1, 34) else ""
    deleted = f'configmap "a" deleted{where} (server dry run)\n'
    assert kubectl.ok("delete", "configmap", "a", dry) == deleted
    assert "labels" not in kubectl.json("get", "configmap", "a")["metadata"]


def test_diff(kubectl: Kubectl) -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "before"}}
    new = kubectl.run("diff", "-f", "-", stdin=made)
    assert (new.code, new.err) == (1, "")
    assert "\n+  k: before\n" in new.out
    kubectl.ok("apply", "-f", "-", stdin=made)
    assert kubectl.ok("diff", "-f", "-", stdin=made) == ""
    changed = kubectl.run("diff", "-f", "-", stdin=json.dumps(made).replace("before", "after"))
    assert (changed.code, changed.err) == (1, "")
    assert "\n-  k: before\n+  k: after\n" in changed.out


def test_delete_all(kubectl: Kubectl) -> None:
    for name in ("a", "b"):
        kubectl.ok("create", "secret", "generic", name)
        kubectl.ok("run", name, "--image=nginx", "-l", f"app={name}")
    kubectl.ok("delete", "secret", "--all")
    assert kubectl.ok("get", "secret", "-o", "name") == ""
    kubectl.ok("delete", "pod", "-l", "app=a")
    assert kubectl.ok("get", "pod", "-o", "name") == "pod/b\n"
    assert 'pod "b" force' in kubectl.run("delete", "pod", "b", "--force").out
    kubectl.ok("create", "service", "clusterip", "a", "--tcp=80")
    kubectl.ok("run", "b", "--image=nginx")
    kubectl.ok("delete", "all", "--all")
    assert kubectl.ok("get", "all", "-o", "name") == ""
