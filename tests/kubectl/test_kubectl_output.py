"""The tables and descriptions that people read, cell by cell as a cluster shows them."""

import json
import re
from typing import Any

import pytest

from portway.testing.cluster import wait_until
from portway.testing.kubectl import DEPRECATED, Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

AGE = re.compile(r"\d+[smh](\d+s)?")
STARTED = "2026-01-02T03:04:05Z"
CONTAINER = {
    "name": "web",
    "image": "nginx",
    "imageID": "",
    "ready": True,
    "restartCount": 2,
    "state": {"running": {"startedAt": STARTED}},
}
RUNNING = {
    "phase": "Running",
    "podIP": "10.9.1.2",
    "podIPs": [{"ip": "10.9.1.2"}],
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [CONTAINER],
}


def pod(kubectl: Kubectl, name: str = "web", status: dict[str, Any] | None = None) -> str:
    """Makes a pod, running if not said otherwise; returns its uid."""
    containers = [{"name": "web", "image": "nginx", "ports": [{"name": "http", "containerPort": 8080}]}]
    meta = {"name": name, "labels": {"app": "web"}}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "n1", "containers": containers}}
    uid: str = kubectl.json("create", "-f", "-", stdin=made)["metadata"]["uid"]
    patch = json.dumps({"status": RUNNING if status is None else status})
    kubectl.ok("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)
    return uid


def event(uid: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "web.1", "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": namespace, "uid": uid},
        "reason": "BackOff",
        "message": "Back-off restarting",
        "type": "Warning",
        "count": 3,
        "firstTimestamp": STARTED,
        "lastTimestamp": STARTED,
        "source": {"component": "kubelet", "host": "n1"},
    }


def described(text: str) -> dict[str, str]:
    """The one-line fields of a description, the first of each name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def test_pods(kubectl: Kubectl) -> None:
    pod(kubectl)
    pod(
        kubectl,
        "waits",
        {
            "containerStatuses": [
                {**CONTAINER, "ready": False, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
            ]
        },
    )
    pod(
        kubectl,
        "done",
        {
            "phase": "Succeeded",
            "containerStatuses": [
                {
                    **CONTAINER,
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
                }
            ],
        },
    )
    header, *rows = kubectl.rows("get", "pods", "-o", "wide")
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert [[*row[:4], *row[5:]] for row in rows] == [
        ["done", "0/1", "Completed", "0", "<none>", "n1", "<none>", "<none>"],
        ["waits", "0/1", "CrashLoopBackOff", "0", "<none>", "n1", "<none>", "<none>"],
        ["web", "1/1", "Running", "2", "10.9.1.2", "n1", "<none>", "<none>"],
    ]
    assert all(AGE.fullmatch(row[4]) for row in rows)
    assert kubectl.ok("get", "pods", "--field-selector=status.phase=Running", "-o", "name") == "pod/web\n"
    assert kubectl.ok("get", "pods", "--field-selector=spec.nodeName=n2", "-o", "name") == ""
    assert kubectl.rows("get", "pod", "web", "-L", "app", "--no-headers")[0][-1] == "web"
    everywhere = kubectl.rows("get", "pods", "-A")
    assert everywhere[0][0] == "NAMESPACE"
    assert [kubectl.namespace, "web"] in [row[:2] for row in everywhere]


def test_describe_pod(kubectl: Kubectl) -> None:
    uid = pod(kubectl)
    kubectl.ok("create", "-f", "-", stdin=event(uid, kubectl.namespace))
    text = kubectl.ok("describe", "pod", "web")
    fields = described(text)
    wanted = {
        "Name": "web",
        "Namespace": kubectl.namespace,
        "Node": "n1/",
        "Labels": "app=web",
        "Annotations": "<none>",
        "Status": "Running",
        "IP": "10.9.1.2",
        "Image": "nginx",
        "Port": "8080/TCP" if kubectl.version < (1, 34) else "8080/TCP (http)",
        "State": "Running",
        "Started": "Fri, 02 Jan 2026 03:04:05 +0000",
        "Restart Count": "2",
        "QoS Class": "BestEffort",
        "Events": "",
    }
    assert {name: fields.get(name) for name in wanted} == wanted
    assert re.search(r"Warning +BackOff +\S+ \(x3 over \S+\) +kubelet +Back-off restarting\n", text)


def test_service_and_its_endpoints(kubectl: Kubectl) -> None:
    pod(kubectl)
    kubectl.ok("expose", "pod", "web", "--port=80", "--target-port=http")
    wait_until(lambda: "10.9.1.2:8080" in kubectl.run("get", "endpoints", "web").out, "the endpoints did not follow")
    listed = kubectl.run("get", "endpoints", "web", "--no-headers")
    assert (listed.out.split()[:2], listed.err) == (["web", "10.9.1.2:8080"], DEPRECATED)
    wait_until(lambda: "10.9.1.2" in kubectl.ok("get", "endpointslices"), "the slices did not follow")
    header, slice_row = kubectl.rows("get", "endpointslices")
    assert header == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert slice_row[0].startswith("web-")
    assert slice_row[1:4] == ["IPv4", "8080", "10.9.1.2"]
    address = kubectl.json("get", "service", "web")["spec"]["clusterIP"]
    fields = described(kubectl.ok("describe", "service", "web"))
    wanted = {
        "Name": "web",
        "Labels": "app=web",
        "Selector": "app=web",
        "Type": "ClusterIP",
        "IP Family Policy": "SingleStack",
        "IP Families": "IPv4",
        "IP": address,
        "IPs": address,
        "Port": "<unset>  80/TCP",
        "TargetPort": "http/TCP",
        "Endpoints": "10.9.1.2:8080",
        "Session Affinity": "None",
        "Events": "<none>",
    }
    assert {name: fields.get(name) for name in wanted} == wanted
    kubectl.ok("delete", "service", "web")
    wait_until(lambda: kubectl.run("get", "endpointslices,endpoints", "-o", "name").out == "", "left behind")


def test_events(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=event(pod(kubectl), kubectl.namespace))
    header, row = kubectl.rows("get", "events")
    assert header == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert row[1:] == ["Warning", "BackOff", "pod/web", "Back-off restarting"]
    wide = kubectl.rows("get", "events", "-o", "wide")[0]
    assert wide[-5:] == ["SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME"]
    assert kubectl.rows("events", "--for=pod/web", "--no-headers")[0][1:] == [
        "Warning",
        "BackOff",
        "Pod/web",
        "Back-off restarting",
    ]
    selected = kubectl.ok("get", "events", "-o", "name", "--field-selector=involvedObject.name=web,type=Warning")
    assert selected == "event/web.1\n"
    assert kubectl.ok("get", "events.events.k8s.io", "-o", "name") == "event.events.k8s.io/web.1\n"


def test_nodes(admin: Kubectl) -> None:
    header, row = admin.rows("get", "nodes", "portway", "-o", "wide")
    assert header[:6] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP"]
    assert header[6:] == ["EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]
    assert (row[:3], row[6]) == (["portway", "Ready", "<none>"], "<none>")
    fields = described(admin.ok("describe", "node", "portway"))
    assert (fields["Unschedulable"], fields["Taints"], fields["HolderIdentity"]) == ("false", "<none>", "portway")
    assert re.search(r"^Non-terminated Pods: +\(\d+ in total\)$", admin.ok("describe", "node", "portway"), re.MULTILINE)


def test_a_node_is_cordoned_and_tainted(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-node"
    kubectl.ok("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    assert kubectl.ok("cordon", name) == f"node/{name} cordoned\n"
    assert kubectl.rows("get", "node", name)[1][1].endswith(",SchedulingDisabled")
    assert kubectl.ok("uncordon", name) == f"node/{name} uncordoned\n"
    assert kubectl.ok("taint", "node", name, "a=b:NoSchedule") == f"node/{name} tainted\n"
    assert described(kubectl.ok("describe", "node", name))["Taints"] == "a=b:NoSchedule"
    assert kubectl.ok("taint", "node", name, "a-") == f"node/{name} untainted\n"
    assert "taints" not in kubectl.json("get", "node", name).get("spec", {})
    kubectl.ok("delete", "node", name)


def test_roles_and_the_rest(kubectl: Kubectl) -> None:
    kubectl.ok("create", "role", "a", "--verb=get", "--resource=pods")
    kubectl.ok(
        "create", "rolebinding", "a", "--role=a", "--user=u", "--group=g", f"--serviceaccount={kubectl.namespace}:s"
    )
    assert kubectl.rows("get", "roles")[0] == ["NAME", "CREATED AT"]
    header, row = kubectl.rows("get", "rolebindings", "-o", "wide")
    assert header == ["NAME", "ROLE", "AGE", "USERS", "GROUPS", "SERVICEACCOUNTS"]
    assert (row[:2], row[3:]) == (["a", "Role/a"], ["u", "g", f"{kubectl.namespace}/s"])
    assert ["pods", "[]", "[]", "[get]"] in [
        line.split(maxsplit=3) for line in _body(kubectl.ok("describe", "role", "a"))
    ]
    kubectl.ok("create", "secret", "generic", "a", "--from-literal=k=value")
    assert kubectl.rows("get", "secrets")[0] == ["NAME", "TYPE", "DATA", "AGE"]
    assert kubectl.rows("get", "secrets")[1][:3] == ["a", "Opaque", "1"]
    assert "k:  5 bytes" in kubectl.ok("describe", "secret", "a")
    assert kubectl.rows("get", "serviceaccounts")[1][:2] == ["default", "0"]
    assert kubectl.rows("get", "namespace", kubectl.namespace)[1][:2] == [kubectl.namespace, "Active"]
    assert kubectl.rows("get", "leases", "-n", "kube-node-lease")[1][:2] == ["portway", "portway"]
    assert kubectl.rows("get", "clusterrole", "admin")[0] == ["NAME", "CREATED AT"]


def _body(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("  ")]


def test_pages_and_sorting(kubectl: Kubectl) -> None:
    names = [f"c{number:02}" for number in range(7)]
    made = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in names]
    kubectl.ok("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": made})
    paged = kubectl.rows("get", "configmaps", "--chunk-size=2", "--no-headers", "--field-selector=metadata.name!=c00")
    assert [row[0] for row in paged if row[0] in names] == names[1:]
    backwards = kubectl.rows("get", "configmaps", "--sort-by={.metadata.resourceVersion}", "--no-headers")
    assert [row[0] for row in backwards if row[0] in names] == names
