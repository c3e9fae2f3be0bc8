"""kubernetes_asyncio: the official client on aiohttp, with its own watch, dynamic client and leader election."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.dynamic import DynamicClient
from kubernetes_asyncio.dynamic import exceptions as dynamic_errors
from kubernetes_asyncio.leaderelection import electionconfig, leaderelection
from kubernetes_asyncio.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes_asyncio.leaderelection.resourcelock.leaselock import LeaseLock

from portway.testing import clientlab
from portway.testing.cluster import Cluster

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(120),
    # Its watches leave responses and a client session of their own to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
HISTORY = 50
"""What conftest.py gives the cluster for --default-watch-cache-size."""


async def connected(path: Path) -> Any:
    configuration = client.Configuration()
    await config.load_kube_config(str(path), client_configuration=configuration)
    return client.ApiClient(configuration)


def run(login: clientlab.ExecConfig, test: Callable[[Any], Awaitable[None]]) -> None:
    async def logged_in() -> None:
        async with asyncio.timeout(90), await connected(login.path) as api:
            await test(api)

    asyncio.run(logged_in())
    gc.collect()  # what was left behind, while that is expected


def service(name: str, *ports: int) -> Any:
    found = [client.V1ServicePort(name=f"p{port}", port=port) for port in ports]
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name), spec=client.V1ServiceSpec(selector={"app": name}, ports=found)
    )


def configmap(name: str, **data: str) -> Any:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"t": "x"}), data=data)


async def refusal(call: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(client.ApiException) as caught:
        await call
    return caught.value.status, json.loads(caught.value.body)["reason"]


def test_logs_in_and_lists_in_chunks(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        review = await client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
        assert (review.status.user_info.username, login.runs) == ("admin", 1)
        core = client.CoreV1Api(api)
        for number in range(5):
            await core.create_namespaced_config_map(namespace, configmap(f"c{number}"))
        found, token = [], None
        while token != "":
            page = await core.list_namespaced_config_map(
                namespace, label_selector="t=x", limit=2, **({"_continue": token} if token else {})
            )
            found += [each.metadata.name for each in page.items]
            token = page.metadata._continue or ""
        assert found == ["c0", "c1", "c2", "c3", "c4"]

    run(login, test)


def test_creates_and_patches_in_every_way(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        core = client.CoreV1Api(api)
        made = await core.create_namespaced_service(namespace, service("web", 80))
        assert made.spec.cluster_ip.startswith("10.")
        change = {"spec": {"ports": [{"name": "p443", "port": 443}]}}
        patch = core.patch_namespaced_service
        assert ports(await patch("web", namespace, change)) == [80, 443]
        assert ports(await patch("web", namespace, change, _content_type=MERGE)) == [443]
        steps = [{"op": "replace", "path": "/spec/ports/0/port", "value": 8443}]
        current = await patch("web", namespace, steps)
        assert ports(current) == [8443]
        current.spec.selector = {"app": "other"}
        assert (await core.replace_namespaced_service("web", namespace, current)).spec.selector == {"app": "other"}

    run(login, test)


def ports(found: Any) -> list[int]:
    return [port.port for port in found.spec.ports]


def test_applies_with_conflicts_and_force(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        def apply(value: str, manager: str, **more: Any) -> Awaitable[Any]:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"k": value}}
            patch: Awaitable[Any] = client.CoreV1Api(api).patch_namespaced_config_map(
                "shared", namespace, body, field_manager=manager, _content_type=APPLY, **more
            )
            return patch

        made = await apply("one", "first")
        assert [(entry.manager, entry.operation) for entry in made.metadata.managed_fields] == [("first", "Apply")]
        assert await refusal(apply("two", "second")) == (409, "Conflict")
        assert (await apply("two", "second", force=True)).data == {"k": "two"}

    run(login, test)


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_deletes_with_propagation(login: clientlab.ExecConfig, namespace: str, policy: str) -> None:
    async def test(api: Any) -> None:
        core = client.CoreV1Api(api)
        owner = await core.create_namespaced_config_map(namespace, configmap("owner"))
        child = configmap("child")
        child.metadata.owner_references = [
            client.V1OwnerReference(api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid)
        ]
        begun = await core.create_namespaced_config_map(namespace, child)
        await core.delete_namespaced_config_map(
            "owner", namespace, body=client.V1DeleteOptions(propagation_policy=policy)
        )
        last = {}
        wanted = {"resource_version": begun.metadata.resource_version, "label_selector": "t=x"}
        done = {"owner"} if policy == "Orphan" else {"owner", "child"}
        async with watch.Watch().stream(core.list_namespaced_config_map, namespace, **wanted) as events:
            async for event in events:
                last[event["object"].metadata.name] = event["type"]
                if {name for name, type_ in last.items() if type_ == "DELETED"} >= done:
                    break
        if policy == "Orphan":
            assert not (await core.read_namespaced_config_map("child", namespace)).metadata.owner_references

    run(login, test)


def test_errors_are_typed(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        core = client.CoreV1Api(api)
        stale = await core.create_namespaced_config_map(namespace, configmap("a"))
        assert await refusal(core.read_namespaced_config_map("none", namespace)) == (404, "NotFound")
        assert await refusal(core.create_namespaced_config_map(namespace, configmap("a"))) == (409, "AlreadyExists")
        assert await refusal(core.create_namespaced_service(namespace, service("web", 70_000))) == (422, "Invalid")
        for turn in range(2 * HISTORY + 1):
            await core.patch_namespaced_config_map("a", namespace, {"data": {"turn": str(turn)}})
        assert await refusal(core.replace_namespaced_config_map("a", namespace, stale)) == (409, "Conflict")
        rewound = {"resource_version": stale.metadata.resource_version}
        with pytest.raises(client.ApiException) as gone:
            async with watch.Watch().stream(core.list_namespaced_config_map, namespace, **rewound) as events:
                await anext(events)
        assert gone.value.status == 410

    run(login, test)


def test_watches_from_a_revision_with_bookmarks(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        core = client.CoreV1Api(api)
        begun = (await core.list_namespaced_config_map(namespace)).metadata.resource_version
        await core.create_namespaced_config_map(namespace, configmap("a"))
        await core.delete_namespaced_config_map("a", namespace)
        follower = watch.Watch()
        wanted = {"label_selector": "t=x", "allow_watch_bookmarks": True, "timeout_seconds": 1}
        async with follower.stream(
            core.list_namespaced_config_map, namespace, resource_version=begun, **wanted
        ) as events:
            assert [event["type"] async for event in events] == ["ADDED", "DELETED", "BOOKMARK"]
        resumed = follower.resource_version
        await core.create_namespaced_config_map(namespace, configmap("b"))
        async with watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version=resumed) as events:
            event = await anext(events)
            assert (event["type"], event["object"].metadata.name) == ("ADDED", "b")

    run(login, test)


def test_the_dynamic_client(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        dynamic = await DynamicClient(api)
        services = await dynamic.resources.get(api_version="v1", kind="Service")
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
        made = await services.create(body=body, namespace=namespace)
        assert (await services.get(name="web", namespace=namespace)).spec.clusterIP == made.spec.clusterIP
        change = {"metadata": {"labels": {"a": "b"}}}
        await services.patch(body=change, name="web", namespace=namespace, content_type=MERGE)
        found = await services.get(namespace=namespace, label_selector="a=b")
        assert [each.metadata.name for each in found.items] == ["web"]
        refused = await services.create(body=body, namespace=namespace)  # its writes raise nothing
        assert (refused.kind, refused.code, refused.reason) == ("Status", 409, "AlreadyExists")
        with pytest.raises(dynamic_errors.ResourceNotFoundError):
            await dynamic.resources.get(api_version="apps/v1", kind="Deployment")
        async for event in services.watch(namespace=namespace, timeout=10):
            assert (event["type"], event["object"].metadata.name) == ("ADDED", "web")
            break
        await services.delete(name="web", namespace=namespace)
        assert (await services.get(name="web", namespace=namespace)).reason == "NotFound"

    run(login, test)


@pytest.mark.parametrize("lock_type", [LeaseLock, ConfigMapLock])
def test_leadership_moves_when_the_leader_loses_the_api(
    lock_type: Any, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    leads: list[str] = []

    async def candidate(identity: str, path: Path, leading: asyncio.Event) -> None:
        async with await connected(path) as api:
            lock = lock_type("lock", namespace, identity, api)

            async def lead() -> None:
                leads.append(identity)
                leading.set()

            async def end() -> None:
                """Nothing to tidy up."""

            settings = electionconfig.Config(lock, 4, 2, 1, lead, end)
            await leaderelection.LeaderElection(settings).run()

    async def test(way: clientlab.Wire) -> None:
        one, two = asyncio.Event(), asyncio.Event()
        (tmp_path / "first").mkdir()
        far = clientlab.exec_kubeconfig(cluster, tmp_path / "first", server=way.server)
        near = clientlab.exec_kubeconfig(cluster, tmp_path)
        async with asyncio.timeout(60):
            first = asyncio.create_task(candidate("first", far.path, one), name="first")
            await one.wait()
            second = asyncio.create_task(candidate("second", near.path, two), name="second")
            with way.down():
                await two.wait()
                ended = await asyncio.gather(first, return_exceptions=True)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
        # No connection is no answer to this library: it gives up leading with the error.
        assert isinstance(ended[0], aiohttp.ClientError | None)

    with clientlab.wire(cluster) as way:
        asyncio.run(test(way))
    assert leads == ["first", "second"]
