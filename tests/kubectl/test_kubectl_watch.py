"""Following changes: get -w, and waiting for a condition, a value or the end of an object."""

import json
from typing import Any

import pytest

from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "web", "image": "nginx"}]},
}


def status(*conditions: str, phase: str = "Running") -> str:
    """A patch of a pod's status."""
    found = [{"type": kind, "status": "True"} for kind in conditions]
    return json.dumps({"status": {"phase": phase, "conditions": found}})


def test_get_watch_shows_every_change(kubectl: Kubectl) -> None:
    kubectl.ok("create", "configmap", "before", "--from-literal=a=1")
    with kubectl.running(
        "get", "configmaps", "-w", "--output-watch-events", "--field-selector=metadata.name!=kube-root-ca.crt"
    ) as seen:
        assert seen.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert seen.readline().split()[:3] == ["ADDED", "before", "1"]
        kubectl.ok("create", "configmap", "new")
        assert seen.readline().split()[:3] == ["ADDED", "new", "0"]
        kubectl.ok("patch", "configmap", "new", "-p", '{"data": {"a": "1", "b": "2"}}')
        assert seen.readline().split()[:3] == ["MODIFIED", "new", "2"]
        kubectl.ok("delete", "configmap", "new")
        assert seen.readline().split()[:3] == ["DELETED", "new", "2"]


def test_get_watch_of_labelled_objects_as_json(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=POD)
    with kubectl.running(
        "get", "pods", "-l", "app=web", "-w", "-o", 'jsonpath={.metadata.name} {.metadata.labels.x}{"\\n"}'
    ) as seen:
        kubectl.ok("label", "pod", "web", "app=web", "x=1")
        assert seen.readline() == "web 1\n"
        kubectl.ok("label", "pod", "web", "--overwrite", "x=2")
        assert seen.readline() == "web 2\n"
        kubectl.ok("label", "pod", "web", "app-")
        assert seen.readline() == "web 2\n"  # the last that matched, as it went


def patched(kubectl: Kubectl, patch: str) -> Any:
    return kubectl.ok("patch", "pod", "web", "--subresource=status", "--type=merge", "-p", patch)


def test_wait(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=POD)
    with kubectl.running("wait", "--for=condition=Ready", "pod/web", "--timeout=20s") as waiting:
        assert patched(kubectl, status("Ready")) == "pod/web patched\n"
        assert waiting.read() == "pod/web condition met\n"
    assert kubectl.ok("wait", "--for=condition=Ready", "pod", "--all", "--timeout=5s") == "pod/web condition met\n"
    assert kubectl.ok("wait", "--for=jsonpath={.status.phase}=Running", "pod/web") == "pod/web condition met\n"
    timed_out = "error: timed out waiting for the condition on pods/web\n"
    assert kubectl.refused("wait", "--for=condition=Initialized", "pod/web", "--timeout=0.2s") == timed_out
    with kubectl.running("wait", "--for=delete", "pod/web", "--timeout=20s") as waiting:
        kubectl.ok("delete", "pod", "web", "--wait=false")
        assert waiting.read() in ("pod/web condition met\n", "")


def test_the_demo_gets_ready(admin: Kubectl) -> None:
    said = admin.ok("wait", "--for=condition=Ready", "pod", "-l", "app=hello", "--timeout=20s")
    assert said == "pod/hello-0 condition met\npod/hello-1 condition met\n"
    assert admin.ok("wait", "--for=condition=Ready", "node/portway", "--timeout=20s") == "node/portway condition met\n"


def test_deleting_a_namespace_waits_until_it_is_empty(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-more"
    kubectl.ok("create", "namespace", name)
    kubectl.run("create", "configmap", "inside", f"--namespace={name}")
    assert kubectl.ok("delete", "namespace", name) == f'namespace "{name}" deleted\n'
    missing = f'Error from server (NotFound): namespaces "{name}" not found\n'
    assert kubectl.refused("get", "namespace", name) == missing
