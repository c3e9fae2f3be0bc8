"""Commands of kubectl that the other modules don't run: pruning, cascades, explaining, changing subjects, refusals.

With the oldest and the newest kubectl: what is in between does the same.
"""

import json
from typing import Any

import pytest

from portway.testing.cluster import wait_until
from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(180)]

NO_ROUTE = "the server could not find the requested resource"


def configmap(name: str, /, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


def listed(*objects: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def names(kubectl: Kubectl, *argv: str) -> list[str]:
    return kubectl.ok("get", *argv, "-o", "name").split()


def deleted(kubectl: Kubectl, what: str) -> str:
    where = f" from {kubectl.namespace} namespace" if kubectl.version >= (1, 34) else ""
    return f"{what} deleted{where}\n"


def test_apply_prunes_what_is_listed_no_more(outermost: Kubectl) -> None:
    prune = ("--prune", "-l", "t=x", f"--namespace={outermost.namespace}", "--prune-allowlist=core/v1/ConfigMap")
    first = outermost.ok("apply", *prune, "-f", "-", stdin=listed(configmap("a", t="x"), configmap("b", t="x")))
    assert first == "configmap/a created\nconfigmap/b created\n"
    outermost.ok("create", "-f", "-", stdin=configmap("by-hand", t="x"))
    second = outermost.ok("apply", *prune, "-f", "-", stdin=listed(configmap("b", t="x")))
    assert second.splitlines() == ["configmap/b unchanged", "configmap/a pruned"]
    assert names(outermost, "configmaps", "-l", "t=x") == ["configmap/b", "configmap/by-hand"]


def test_apply_validates_as_it_is_told(outermost: Kubectl) -> None:
    wrong = configmap("a") | {"dada": {"k": "v"}}
    strict = outermost.refused("apply", "--validate=strict", "-f", "-", stdin=wrong)
    assert strict.endswith('strict decoding error: unknown field "dada"\n')
    warned = outermost.run("apply", "--validate=warn", "-f", "-", stdin=wrong)
    assert (warned.code, warned.err) == (0, 'Warning: unknown field "dada"\n')
    assert outermost.ok("apply", "--validate=ignore", "-f", "-", stdin=configmap("b") | {"dada": {}}) == (
        "configmap/b created\n"
    )
    dry = outermost.ok("apply", "--dry-run=client", "-f", "-", stdin=configmap("c"))
    assert dry == "configmap/c created (dry run)\n"
    assert "configmap/c" not in names(outermost, "configmaps")


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_delete_cascades_as_it_is_told(outermost: Kubectl, cascade: str) -> None:
    uid = outermost.json("create", "-f", "-", stdin=configmap("owner"))["metadata"]["uid"]
    child = configmap("child")
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "blockOwnerDeletion": True}
    ]
    outermost.ok("create", "-f", "-", stdin=child)
    assert outermost.ok("delete", "configmap", "owner", f"--cascade={cascade}") == deleted(
        outermost, 'configmap "owner"'
    )
    if cascade == "orphan":
        assert "ownerReferences" not in outermost.json("get", "configmap", "child")["metadata"]
    else:
        outermost.ok("wait", "--for=delete", "configmap/child", "--timeout=20s")
    assert ("configmap/child" in names(outermost, "configmaps")) == (cascade == "orphan")


def test_delete_waits_selects_and_hurries(outermost: Kubectl) -> None:
    outermost.ok("create", "-f", "-", stdin=listed(configmap("a", t="x"), configmap("b", t="x"), configmap("c")))
    assert outermost.ok("delete", "configmaps", "--field-selector=metadata.name=a") == deleted(
        outermost, 'configmap "a"'
    )
    assert outermost.ok("delete", "configmaps", "-l", "t=x", "--wait=false") == deleted(outermost, 'configmap "b"')
    kept = configmap("kept")
    kept["metadata"]["finalizers"] = ["example.com/kept"]
    outermost.ok("create", "-f", "-", stdin=kept)
    waited = outermost.run("delete", "configmap", "kept", "--timeout=1s")
    assert (waited.code, waited.out) == (1, deleted(outermost, 'configmap "kept"'))
    assert waited.err.endswith("error: timed out waiting for the condition on configmaps/kept\n")
    assert outermost.json("get", "configmap", "kept")["metadata"]["deletionTimestamp"]
    with outermost.running("delete", "configmap", "kept", "--timeout=20s") as waiting:
        assert waiting.readline() == deleted(outermost, 'configmap "kept"')
        outermost.ok("patch", "configmap", "kept", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        assert waiting.read() == ""
    outermost.ok("run", "web", "--image=nginx")
    assert outermost.ok("delete", "pod", "web", "--grace-period=1") == deleted(outermost, 'pod "web"')


def test_wait_for_what_is_not_there_yet(outermost: Kubectl) -> None:
    if outermost.version >= (1, 31):
        with outermost.running("wait", "--for=create", "configmap/late", "--timeout=20s") as waiting:
            outermost.ok("create", "configmap", "late")
            assert waiting.read() == "configmap/late condition met\n"
    outermost.ok("create", "service", "clusterip", "web", "--tcp=80")
    with outermost.running("wait", "--for=jsonpath={.spec.type}=NodePort", "service/web", "--timeout=20s") as waiting:
        outermost.ok("patch", "service", "web", "-p", '{"spec": {"type": "NodePort"}}')
        assert waiting.read() == "service/web condition met\n"


def test_set_changes_what_may_change(outermost: Kubectl) -> None:
    outermost.ok("create", "role", "reader", "--verb=get", "--resource=pods")
    outermost.ok("create", "rolebinding", "reader", "--role=reader", "--user=jane")
    said = outermost.ok("set", "subject", "rolebinding", "reader", "--user=joe", "--group=staff")
    assert said == "rolebinding.rbac.authorization.k8s.io/reader subjects updated\n"
    subjects = outermost.json("get", "rolebinding", "reader")["subjects"]
    assert {(each["kind"], each["name"]) for each in subjects} == {
        ("User", "jane"),
        ("User", "joe"),
        ("Group", "staff"),
    }
    outermost.ok("run", "web", "--image=nginx:1")
    assert outermost.ok("set", "image", "pod/web", "*=nginx:2") == "pod/web image updated\n"
    refused = outermost.refused("set", "env", "pod/web", "A=B")
    assert "pod updates may not change fields other than" in refused
    assert outermost.ok("set", "env", "pod/web", "--list").endswith(" web, container web\n")


def test_patch_of_a_subresource(outermost: Kubectl) -> None:
    outermost.ok("create", "service", "clusterip", "web", "--tcp=80")
    condition = {
        "type": "Served",
        "status": "True",
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    change = json.dumps({"status": {"conditions": [condition]}, "spec": {"sessionAffinity": "ClientIP"}})
    patched = outermost.ok("patch", "service", "web", "--subresource=status", "--type=merge", "-p", change)
    assert patched == "service/web patched\n"
    found = outermost.json("get", "service", "web", "--subresource=status")
    assert (found["status"]["conditions"], found["spec"]["sessionAffinity"]) == ([condition], "None")


def test_explain_by_both_documents(outermost: Kubectl) -> None:
    new = outermost.ok("explain", "service.spec.ports")
    assert "FIELD: ports <[]ServicePort>" in new
    assert "  port\t<integer> -required-\n    The number at the Service's addresses.\n" in new
    old = outermost.ok("explain", "service.spec.ports", "--output=plaintext-openapiv2")
    assert "RESOURCE: ports <[]Object>" in old
    assert "   port\t<integer> -required-\n     The number at the Service's addresses.\n" in old
    for output in ("plaintext", "plaintext-openapiv2"):
        recursive = outermost.ok("explain", "endpointslices.discovery.k8s.io", "--recursive", f"--output={output}")
        assert "conditions\t<" in recursive
        missing = outermost.run("explain", "service.nothing", f"--output={output}")
        assert (missing.code, missing.err) == (1, 'error: field "nothing" does not exist\n')
    assert "KIND:       TokenReview" in outermost.ok("explain", "tokenreviews")
    unknown = outermost.refused("explain", "deployments")
    assert unknown.removeprefix("error: ") == 'the server doesn\'t have a resource type "deployments"\n'


def test_what_is_out_of_scope_is_refused_by_name(outermost: Kubectl) -> None:
    nothing = 'error: the server doesn\'t have a resource type "{}"\n'
    for argv, kind in {
        ("scale", "deployment", "web", "--replicas=2"): "deployment",
        ("autoscale", "deployment", "web", "--max=2"): "deployment",
        ("rollout", "status", "deployment/web"): "deployment",
        ("rollout", "restart", "statefulset/web"): "statefulset",
        ("rollout", "undo", "daemonset/web"): "daemonset",
        ("get", "jobs"): "jobs",
        ("get", "customresourcedefinitions"): "customresourcedefinitions",
    }.items():
        assert outermost.refused(*argv) == nothing.format(kind), argv
    for argv in (
        ("create", "job", "web", "--image=nginx"),
        ("create", "cronjob", "web", "--image=nginx", "--schedule=* * * * *"),
        ("create", "quota", "web"),
        ("create", "priorityclass", "web", "--value=1"),
        ("create", "poddisruptionbudget", "web", "--selector=a=b", "--min-available=1"),
    ):
        assert NO_ROUTE in outermost.refused(*argv), argv
    outermost.ok("run", "web", "--image=nginx")
    for part, argv in {
        "log": ("logs", "web"),
        "exec": ("exec", "web", "--", "id"),
        "attach": ("attach", "web"),
        "ephemeralcontainers": ("debug", "web", "--image=busybox", "-c", "debugger"),
    }.items():
        assert f"pods/{part} is not served: no kubelet runs this cluster's pods" in outermost.refused(*argv)
    assert outermost.refused("top", "nodes") == "error: Metrics API not available\n"


def test_described_without_an_error(outermost: Kubectl) -> None:
    outermost.ok("run", "web", "--image=nginx", "--labels=app=web", "--port=80")
    outermost.ok("expose", "pod", "web")
    outermost.ok("create", "secret", "generic", "kept", "--from-literal=k=v")
    everything = "services,pods,endpoints,endpointslices,secrets,configmaps,serviceaccounts,events,leases,roles"
    wait_until(lambda: len(names(outermost, "endpointslices")) == 1, "no slice")
    described = outermost.ok("describe", everything)
    cluster = outermost.ok("describe", "namespaces,nodes,clusterroles,clusterrolebindings")
    assert "error>" not in described + cluster
    assert described.count("Name: ") >= 6
