"""kr8s: untyped objects that know how to get, patch, watch and wait for themselves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import ConfigMap, Pod, Service

from portway.testing import clientlab

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported:UserWarning"),
]


def run(login: clientlab.ExecConfig, namespace: str, test: Callable[[Any], Awaitable[None]]) -> None:
    async def logged_in() -> None:
        async with asyncio.timeout(60):
            api = await kr8s.asyncio.api(kubeconfig=str(login.path), namespace=namespace)
            try:
                await test(api)
            finally:
                await api._session.aclose()  # it has no public way to close its connections

    asyncio.run(logged_in())


def service(name: str, *ports: int, **labels: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"name": f"p{port}", "port": port} for port in ports]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec}


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"t": "x"}},
        "data": data or {"k": "v"},
    }


def test_logs_in_and_discovers(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        assert await api.whoami() == "admin"
        found = {(each["version"], each["name"]) for each in await api.api_resources()}
        assert {("v1", "services"), ("discovery.k8s.io/v1", "endpointslices")} <= found
        assert (await api.version())["minor"] == "36"
        assert {"v1", "coordination.k8s.io/v1"} <= {each async for each in api.api_versions()}
        assert await api.lookup_kind("svc") == ("service/v1", "services", True)
        assert login.runs == 1

    run(login, namespace, test)


def test_lists_more_than_a_page(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        made = [f"c{number:03}" for number in range(120)]  # it asks for 100 at a time
        for name in made:
            await (await ConfigMap(configmap(name), api=api)).create()
        assert [each.name async for each in api.get("configmaps", label_selector={"t": "x"})] == made
        named = [each.name async for each in api.get("configmaps", field_selector={"metadata.name": "c007"})]
        assert named == ["c007"]

    run(login, namespace, test)


def test_creates_patches_and_labels(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        web = await Service(service("web", 80), api=api)
        await web.create()
        assert web.spec.clusterIP.startswith("10.")
        await web.patch({"spec": {"ports": [{"name": "p443", "port": 443}]}})
        assert [port.port for port in web.spec.ports] == [443]
        await web.patch([{"op": "replace", "path": "/spec/ports/0/port", "value": 8443}], type="json")
        assert [port.port for port in web.spec.ports] == [8443]
        await web.label(tier="front")
        await web.annotate(note="here")
        again = await Service.get("web", api=api)
        assert (again.labels, again.annotations) == ({"tier": "front"}, {"note": "here"})
        await web.remove_label("tier")
        assert not (await Service.get("web", api=api)).labels
        assert await web.exists()
        await web.delete()
        assert not await web.exists()

    run(login, namespace, test)


def test_watches_and_waits(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        containers = [{"name": "web", "image": "nginx"}]
        pod = await Pod(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": containers}},
            api=api,
        )
        await pod.create()
        ready = asyncio.create_task(pod.wait("condition=Ready", timeout=20), name="waiting")
        other = await Pod.get("web", api=api)
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await other.patch(status, subresource="status")
        await ready
        assert pod.status.phase == "Running"
        seen = []
        async for event, each in api.watch("pods", namespace=namespace):
            seen.append((event, each.name))
            if event == "DELETED":
                break
            await other.delete()
        assert seen[0] == ("ADDED", "web")
        assert seen[-1] == ("DELETED", "web")
        await pod.wait("delete", timeout=20)

    run(login, namespace, test)


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_deletes_with_propagation(login: clientlab.ExecConfig, namespace: str, policy: str) -> None:
    async def test(api: Any) -> None:
        owner = await ConfigMap(configmap("owner"), api=api)
        child = await ConfigMap(configmap("child"), api=api)
        await owner.create()
        await child.create()
        await owner.adopt(child)
        await owner.delete(propagation_policy=policy)
        if policy == "Orphan":
            while await owner.exists():
                await owner.wait("delete", timeout=20)
            await child.refresh()
            assert not child.metadata.get("ownerReferences")
        else:
            await child.wait("delete", timeout=20)
            assert not await child.exists()

    run(login, namespace, test)


def test_errors_are_typed(login: clientlab.ExecConfig, namespace: str) -> None:
    async def test(api: Any) -> None:
        made = await ConfigMap(configmap("a"), api=api)
        await made.create()
        stale = made.raw.metadata.resourceVersion
        await made.patch({"data": {"k": "w"}})
        assert await refusal((await ConfigMap(configmap("a"), api=api)).create()) == (409, "AlreadyExists")
        behind = {"metadata": {"resourceVersion": stale}, "data": {"k": "x"}}
        assert await refusal(made.patch(behind)) == (409, "Conflict")
        assert await refusal((await Service(service("web", 70_000), api=api)).create()) == (422, "Invalid")
        with pytest.raises(kr8s.NotFoundError):
            await ConfigMap.get("none", api=api, timeout=0.1)
        with pytest.raises(kr8s.NotFoundError):
            await (await ConfigMap(configmap("none"), api=api)).refresh()

    run(login, namespace, test)


async def refusal(call: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(kr8s.ServerError) as caught:
        await call
    return caught.value.response.status_code, caught.value.status["reason"]
