"""lightkube: typed resources by HTTP/1.1 on httpx, its patches, waits, apply and errors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightkube
import pytest
from lightkube.models.core_v1 import ServicePort, ServiceSpec, ServiceStatus
from lightkube.models.meta_v1 import Condition, ObjectMeta, OwnerReference
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import ConfigMap, Pod, Service
from lightkube.resources.discovery_v1 import EndpointSlice
from lightkube.types import CascadeType, PatchType

from portway.testing import clientlab
from portway.testing.cluster import Cluster, wait_until

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]


@pytest.fixture
def login(cluster: Cluster, namespace: str, tmp_path: Path) -> clientlab.ExecConfig:
    """lightkube knows the plugins' older versions only."""
    return clientlab.exec_kubeconfig(cluster, tmp_path, namespace=namespace, version="v1beta1")


@pytest.fixture
def kube(login: clientlab.ExecConfig, namespace: str) -> Iterator[Any]:
    config = lightkube.KubeConfig.from_file(str(login.path))
    with lightkube.Client(config=config, namespace=namespace, field_manager="lightkube-test") as client:
        yield client


def service(name: str, *ports: int) -> Any:
    spec = ServiceSpec(selector={"app": name}, ports=[ServicePort(name=f"p{port}", port=port) for port in ports])
    return Service(metadata=ObjectMeta(name=name), spec=spec)


def configmap(name: str, **data: str) -> Any:
    return ConfigMap(metadata=ObjectMeta(name=name, labels={"t": "x"}), data=data)


def names(kube: Any) -> list[str]:
    return [each.metadata.name for each in kube.list(ConfigMap, labels={"t": "x"})]


def refusal(call: Any, *args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(lightkube.ApiError) as caught:
        call(*args, **kwargs)
    return caught.value.status.code, caught.value.status.reason


def test_lists_in_chunks_and_by_selectors(kube: Any, login: clientlab.ExecConfig) -> None:
    made = [f"c{number}" for number in range(7)]
    for name in made:
        kube.create(configmap(name))
    assert [each.metadata.name for each in kube.list(ConfigMap, labels={"t": "x"}, chunk_size=3)] == made
    assert names(kube) == made
    assert [each.metadata.name for each in kube.list(ConfigMap, fields={"metadata.name": "c3"})] == ["c3"]
    assert [each.metadata.name for each in kube.list(ConfigMap, labels={"t": lightkube.operators.in_(["y"])})] == []
    leases = kube.list(Lease, namespace="*")
    assert [each.metadata.name for each in leases if each.metadata.namespace == "kube-node-lease"] == ["portway"]
    assert int(leases.resourceVersion) > 1
    assert list(kube.list(EndpointSlice)) == []
    assert login.runs == 1


def test_creates_and_patches_in_every_way(kube: Any) -> None:
    made = kube.create(service("web", 80))
    assert (made.spec.type, made.spec.ports[0].targetPort) == ("ClusterIP", 80)
    change = {"spec": {"ports": [{"name": "p443", "port": 443}]}}
    assert ports(kube.patch(Service, "web", change)) == [80, 443]
    assert ports(kube.patch(Service, "web", change, patch_type=PatchType.MERGE)) == [443]
    steps = [{"op": "replace", "path": "/spec/ports/0/port", "value": 8443}]
    assert ports(kube.patch(Service, "web", steps, patch_type=PatchType.JSON)) == [8443]
    current = kube.get(Service, "web")
    current.spec.selector = {"app": "other"}
    assert kube.replace(current).spec.selector == {"app": "other"}
    condition = Condition(
        lastTransitionTime="2026-01-02T03:04:05Z", message="", reason="Test", status="True", type="Served"
    )
    current = kube.get(Service, "web")
    current.status = ServiceStatus(conditions=[condition])
    kube.replace(Service.Status.from_dict(current.to_dict()))
    assert kube.get(Service, "web").status.conditions[0].type == "Served"
    assert kube.wait(Service, "web", for_conditions=["Served"]).metadata.name == "web"
    assert kube.create(configmap("dry"), dry_run=True).metadata.uid
    assert names(kube) == []


def ports(found: Any) -> list[int]:
    return [port.port for port in found.spec.ports]


def test_sets_a_pods_status(kube: Any, namespace: str) -> None:
    containers = [{"name": "web", "image": "nginx"}]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": containers}}
    kube.create(Pod.from_dict(pod))
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    kube.patch(Pod.Status, "web", status, patch_type=PatchType.MERGE)
    ready = kube.wait(Pod, "web", for_conditions=["Ready"])
    assert (ready.status.phase, ready.metadata.namespace) == ("Running", namespace)


def test_applies_with_conflicts_and_force(kube: Any) -> None:
    assert kube.apply(applied("one")).metadata.managedFields[0].manager == "lightkube-test"
    assert refusal(kube.apply, applied("two"), field_manager="other") == (409, "Conflict")
    assert kube.apply(applied("two"), field_manager="other", force=True).data == {"k": "two"}


def applied(value: str) -> Any:
    return ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="shared"), data={"k": value})


@pytest.mark.parametrize("cascade", list(CascadeType))
def test_deletes_with_propagation(kube: Any, cascade: Any) -> None:
    owner = kube.create(configmap("owner"))
    child = configmap("child")
    child.metadata.ownerReferences = [
        OwnerReference(apiVersion="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid)
    ]
    kube.create(child)
    kube.delete(ConfigMap, "owner", cascade=cascade)
    left = ["child"] if cascade is CascadeType.ORPHAN else []
    wait_until(lambda: names(kube) == left, f"{cascade}: not {left}")
    kube.deletecollection(ConfigMap)
    assert names(kube) == []


def test_errors_are_typed(kube: Any) -> None:
    kube.create(configmap("a"))
    assert refusal(kube.get, ConfigMap, "none") == (404, "NotFound")
    assert refusal(kube.create, configmap("a")) == (409, "AlreadyExists")
    stale = kube.get(ConfigMap, "a")
    kube.patch(ConfigMap, "a", {"data": {"k": "v"}})
    stale.data = {"k": "w"}
    assert refusal(kube.replace, stale) == (409, "Conflict")
    assert refusal(kube.create, service("web", 70_000)) == (422, "Invalid")
    assert refusal(kube.get, ConfigMap, "a", namespace="nowhere") == (404, "NotFound")


def test_watches_from_a_list(kube: Any) -> None:
    kube.create(configmap("before"))
    listed = kube.list(ConfigMap, labels={"t": "x"})
    assert [each.metadata.name for each in listed] == ["before"]
    kube.create(configmap("a"))
    kube.patch(ConfigMap, "a", {"data": {"k": "v"}})
    kube.patch(ConfigMap, "a", {"metadata": {"labels": {"t": "y"}}})
    seen = []
    for event, each in kube.watch(ConfigMap, labels={"t": "x"}, resource_version=listed.resourceVersion):
        seen.append((event, each.metadata.name))
        if event == "DELETED":  # it left the selection
            break
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
