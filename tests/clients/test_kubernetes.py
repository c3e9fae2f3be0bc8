"""The official client, `kubernetes`: typed models, patches, watches, its dynamic client and its leader election."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic import exceptions as dynamic_errors
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from urllib3.exceptions import HTTPError

from portway.testing import clientlab
from portway.testing.cluster import Cluster, wait_until

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
HISTORY = 50
"""What conftest.py gives the cluster for --default-watch-cache-size."""


@pytest.fixture
def api(login: clientlab.ExecConfig) -> Iterator[Any]:
    """A client of its own, logged in by the plugin."""
    with config.new_client_from_config(str(login.path)) as made:
        yield made


@pytest.fixture
def core(api: Any) -> Any:
    return client.CoreV1Api(api)


def service(name: str, *ports: int, **labels: str) -> Any:
    """A service model."""
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name, labels=labels),
        spec=client.V1ServiceSpec(
            selector={"app": name}, ports=[client.V1ServicePort(name=f"p{port}", port=port) for port in ports]
        ),
    )


def configmap(name: str, **data: str) -> Any:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"t": "x"}), data=data)


def refusal(call: Any, *args: Any, **kwargs: Any) -> Any:
    """(code, reason of the Status) of what the call is refused with."""
    with pytest.raises(ApiException) as caught:
        call(*args, **kwargs)
    return caught.value.status, json.loads(caught.value.body)["reason"]


def test_logs_in_with_the_plugin(api: Any, login: clientlab.ExecConfig) -> None:
    review = client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
    assert review.status.user_info.username == "admin"
    assert login.runs == 1
    assert client.VersionApi(api).get_code().git_version.startswith("v1.36")


def test_lists_in_chunks_at_one_revision(core: Any, namespace: str) -> None:
    names = [f"c{number}" for number in range(7)]
    for name in names:
        core.create_namespaced_config_map(namespace, configmap(name))
    found, token, pages, revisions = [], None, 0, set()
    while pages == 0 or token:
        page = core.list_namespaced_config_map(namespace, label_selector="t=x", limit=3, _continue=token)
        core.create_namespaced_config_map(namespace, configmap(f"c{pages}-late"))
        found += [item.metadata.name for item in page.items]
        revisions.add(page.metadata.resource_version)
        token, pages = page.metadata._continue, pages + 1
    assert (found, pages, len(revisions)) == (names, 3, 1)
    whole = core.list_namespaced_config_map(namespace, limit=2)
    assert whole.metadata.remaining_item_count >= 8


def test_creates_and_patches_in_every_way(core: Any, namespace: str) -> None:
    made = core.create_namespaced_service(namespace, service("web", 80, tier="front"))
    assert (made.spec.type, made.spec.cluster_ip[:3], made.spec.ports[0].target_port) == ("ClusterIP", "10.", 80)
    change = {"spec": {"ports": [{"port": 443, "name": "p443"}]}, "metadata": {"labels": {"tier": None}}}
    strategic = core.patch_namespaced_service("web", namespace, change, _content_type=STRATEGIC)
    assert [port.port for port in strategic.spec.ports] == [80, 443]
    assert not strategic.metadata.labels
    merged = core.patch_namespaced_service("web", namespace, change, _content_type=MERGE)
    assert [port.port for port in merged.spec.ports] == [443]
    steps = [
        {"op": "test", "path": "/spec/ports/0/port", "value": 443},
        {"op": "replace", "path": "/spec/ports/0/port", "value": 8443},
    ]
    patched = core.patch_namespaced_service("web", namespace, steps, _content_type=JSON_PATCH)
    assert [port.port for port in patched.spec.ports] == [8443]
    patched.spec.selector = {"app": "other"}
    replaced = core.replace_namespaced_service("web", namespace, patched)
    assert core.read_namespaced_service("web", namespace) == replaced
    status = {"status": {"conditions": [condition()]}}
    core.patch_namespaced_service_status("web", namespace, status, _content_type=MERGE)
    assert core.read_namespaced_service_status("web", namespace).status.conditions[0].type == "Served"


def condition() -> dict[str, str]:
    return {
        "type": "Served",
        "status": "True",
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }


def test_applies_with_conflicts_and_force(core: Any, namespace: str) -> None:
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"k": "one"}}

    def apply(value: str, manager: str, **more: Any) -> Any:
        body = {**wanted, "data": {"k": value}}
        return core.patch_namespaced_config_map(
            "shared", namespace, body, field_manager=manager, _content_type=APPLY, **more
        )

    made = apply("one", "first")
    assert [(entry.manager, entry.operation) for entry in made.metadata.managed_fields] == [("first", "Apply")]
    assert apply("one", "first").metadata.resource_version == made.metadata.resource_version
    assert refusal(apply, "two", "second") == (409, "Conflict")
    forced = apply("two", "second", force=True)
    assert forced.data == {"k": "two"}
    assert [entry.manager for entry in forced.metadata.managed_fields] == ["second"]


def test_deletes_with_propagation(core: Any, namespace: str) -> None:
    for policy in ("Background", "Foreground", "Orphan"):
        owner = core.create_namespaced_config_map(namespace, configmap("owner"))
        child = configmap("child")
        child.metadata.owner_references = [
            client.V1OwnerReference(
                api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid, block_owner_deletion=True
            )
        ]
        core.create_namespaced_config_map(namespace, child)
        core.delete_namespaced_config_map("owner", namespace, body=client.V1DeleteOptions(propagation_policy=policy))
        wait_until(lambda: "owner" not in names(core, namespace), f"{policy}: the owner stays")
        if policy == "Orphan":
            kept = core.read_namespaced_config_map("child", namespace)
            assert not kept.metadata.owner_references
        else:
            wait_until(lambda: "child" not in names(core, namespace), f"{policy}: the child stays")
    core.delete_collection_namespaced_config_map(namespace, label_selector="t=x")
    assert names(core, namespace) <= {"kube-root-ca.crt"}


def names(core: Any, namespace: str) -> set[str]:
    return {item.metadata.name for item in core.list_namespaced_config_map(namespace).items}


def test_errors_are_typed(core: Any, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, configmap("a"))
    assert refusal(core.read_namespaced_config_map, "none", namespace) == (404, "NotFound")
    assert refusal(core.create_namespaced_config_map, namespace, configmap("a")) == (409, "AlreadyExists")
    stale = core.read_namespaced_config_map("a", namespace)
    core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}}, _content_type=MERGE)
    assert refusal(core.replace_namespaced_config_map, "a", namespace, stale) == (409, "Conflict")
    bad = service("web", 80)
    bad.spec.ports[0].port = 70_000
    assert refusal(core.create_namespaced_service, namespace, bad) == (422, "Invalid")
    for turn in range(2 * HISTORY + 1):
        core.patch_namespaced_config_map("a", namespace, {"data": {"turn": str(turn)}}, _content_type=MERGE)
    rewound = {"resource_version": stale.metadata.resource_version, "timeout_seconds": 5}
    with pytest.raises(ApiException) as gone:
        list(watch.Watch().stream(core.list_namespaced_config_map, namespace, **rewound))
    assert gone.value.status == 410


def test_watches_from_a_revision_with_bookmarks(core: Any, namespace: str) -> None:
    begun = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, configmap("a"))
    core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}}, _content_type=MERGE)
    core.delete_namespaced_config_map("a", namespace)
    follower = watch.Watch()
    wanted = {"label_selector": "t=x", "allow_watch_bookmarks": True, "timeout_seconds": 1}
    events = follower.stream(core.list_namespaced_config_map, namespace, resource_version=begun, **wanted)
    seen = [event["type"] for event in events]
    assert seen == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    resumed = follower.resource_version
    core.create_namespaced_config_map(namespace, configmap("b"))
    for event in follower.stream(core.list_namespaced_config_map, namespace, resource_version=resumed):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "b")
        follower.stop()


def test_the_dynamic_client_discovers_and_writes(api: Any, namespace: str) -> None:
    dynamic = DynamicClient(api, cache_file=None)
    services = dynamic.resources.get(api_version="v1", kind="Service")
    assert (services.namespaced, services.name, sorted(services.subresources)) == (
        True,
        "services",
        ["proxy", "status"],
    )
    slices = dynamic.resources.get(api_version="discovery.k8s.io/v1", kind="EndpointSlice")
    with pytest.raises(dynamic_errors.ResourceNotFoundError):
        dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    made = services.create(body=body, namespace=namespace)
    assert services.get(name="web", namespace=namespace).spec.clusterIP == made.spec.clusterIP
    services.patch(body={"metadata": {"labels": {"a": "b"}}}, name="web", namespace=namespace, content_type=MERGE)
    assert [item.metadata.name for item in services.get(namespace=namespace, label_selector="a=b").items] == ["web"]
    assert slices.get(namespace=namespace).kind == "EndpointSliceList"
    with pytest.raises(dynamic_errors.ConflictError):
        services.create(body=body, namespace=namespace)
    with pytest.raises(dynamic_errors.UnprocessibleEntityError):
        services.create(body={**body, "metadata": {"name": "Bad"}}, namespace=namespace)
    for event in services.watch(namespace=namespace, timeout=10):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "web")
        break
    services.delete(name="web", namespace=namespace)
    with pytest.raises(dynamic_errors.NotFoundError):
        services.get(name="web", namespace=namespace)


def test_the_dynamic_client_applies(api: Any, namespace: str) -> None:
    maps = DynamicClient(api, cache_file=None).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    made = maps.server_side_apply(body=body, namespace=namespace, field_manager="dynamic")
    assert [entry.manager for entry in made.metadata.managedFields] == ["dynamic"]
    with pytest.raises(dynamic_errors.ConflictError):
        maps.server_side_apply(body={**body, "data": {"k": "x"}}, namespace=namespace, field_manager="other")


@pytest.mark.parametrize("lock_type", [LeaseLock, ConfigMapLock])
@pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")
def test_leadership_moves_when_the_leader_loses_the_api(
    lock_type: Any, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    leads: list[str] = []

    def candidate(identity: str, configuration: Path) -> threading.Thread:
        lock = lock_type("lock", namespace, identity)
        lock.api_instance.api_client = config.new_client_from_config(str(configuration))
        settings = electionconfig.Config(lock, 4, 2, 1, lambda: leads.append(identity), None)

        def run() -> None:
            with suppress(HTTPError):  # to this library no connection is no answer: it gives up leading and ends
                leaderelection.LeaderElection(settings).run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    with clientlab.wire(cluster) as way:
        (tmp_path / "first").mkdir()
        far = clientlab.exec_kubeconfig(cluster, tmp_path / "first", server=way.server)
        first = candidate("first", far.path)
        wait_until(lambda: leads == ["first"], "nobody leads")
        candidate("second", clientlab.exec_kubeconfig(cluster, tmp_path).path)
        with way.down():
            wait_until(lambda: leads == ["first", "second"], "leadership stays")
            first.join(20)
            assert not first.is_alive()
