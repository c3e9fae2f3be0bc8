"""What clients rely on when they list and watch: every field selector, pages under writes, and how things end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.testing.api import InProcessApi
from portway.testing.asgi import Caller

MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"


def serve(test: Callable[[InProcessApi], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with InProcessApi(**changes) as api:
            await test(api)

    asyncio.run(run())


async def make(caller: Caller, target: str, obj: dict[str, Any]) -> Any:
    answer = await caller.request("POST", target, obj)
    assert answer.status == 201, answer.body
    return answer.json()


def names(value: Any) -> list[str]:
    return [item["metadata"]["name"] for item in value["items"]]


def pod(name: str, status: dict[str, Any], **spec: Any) -> tuple[str, dict[str, Any]]:
    containers = [{"name": "c", "image": "i"}]
    return "/api/v1/namespaces/default/pods", {
        "metadata": {"name": name},
        "spec": {"containers": containers, **spec},
        "status": status,
    }


def event(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    involved = {"kind": "Pod", "namespace": "default", "name": name, "uid": f"u-{name}", "apiVersion": "v1"}
    more = {"resourceVersion": f"1{len(name)}", "fieldPath": f"spec.{name}"}
    target = "/api/v1/namespaces/default/events"
    return target, {"metadata": {"name": name}, "involvedObject": involved | more, "message": "m", **fields}


ONE, OTHER = "one", "another"
PODS = (
    pod(
        ONE,
        {
            "phase": "Running",
            "podIP": "10.9.0.1",
            "podIPs": [{"ip": "10.9.0.1"}, {"ip": "fd00::1"}],
            "nominatedNodeName": "m1",
        },
        nodeName="n1",
        restartPolicy="Never",
        schedulerName="s1",
        serviceAccountName="a1",
        hostNetwork=True,
    ),
    pod(OTHER, {"phase": "Pending"}, nodeName="n2"),
)
PORTS = [{"port": 80}]
SERVICES = "/api/v1/namespaces/default/services"
KINDS: dict[str, tuple[tuple[tuple[str, dict[str, Any]], ...], dict[str, str]]] = {
    "pods": (
        PODS,
        {
            "metadata.name": ONE,
            "spec.nodeName": "n1",
            "spec.restartPolicy": "Never",
            "spec.schedulerName": "s1",
            "spec.serviceAccountName": "a1",
            "spec.hostNetwork": "true",
            "status.phase": "Running",
            "status.podIP": "10.9.0.1",
            "status.podIPs": "10.9.0.1,fd00::1",
            "status.nominatedNodeName": "m1",
        },
    ),
    "services": (
        (
            (
                SERVICES,
                {"metadata": {"name": ONE}, "spec": {"clusterIP": "10.96.9.9", "ports": PORTS, "type": "NodePort"}},
            ),
            (SERVICES, {"metadata": {"name": OTHER}, "spec": {"ports": PORTS}}),
        ),
        {"metadata.name": ONE, "spec.clusterIP": "10.96.9.9", "spec.type": "NodePort"},
    ),
    "nodes": (
        (
            ("/api/v1/nodes", {"metadata": {"name": ONE}, "spec": {"unschedulable": True}}),
            ("/api/v1/nodes", {"metadata": {"name": OTHER}}),
        ),
        {"metadata.name": ONE, "spec.unschedulable": "true"},
    ),
    "events": (
        (
            event(ONE, reason="Tested", reportingComponent="tester", source={"component": "tester"}, type="Warning"),
            event(OTHER, reason="Seen", reportingComponent="", source={"component": "seer"}, type="Normal"),
        ),
        {
            "metadata.name": ONE,
            "involvedObject.name": ONE,
            "involvedObject.uid": "u-one",
            "involvedObject.resourceVersion": "13",
            "involvedObject.fieldPath": "spec.one",
            "reason": "Tested",
            "reportingComponent": "tester",
            "source": "tester",
            "type": "Warning",
        },
    ),
    "secrets": (
        (
            ("/api/v1/namespaces/default/secrets", {"metadata": {"name": ONE}, "type": "example.com/one"}),
            ("/api/v1/namespaces/default/secrets", {"metadata": {"name": OTHER}}),
        ),
        {"metadata.name": ONE, "type": "example.com/one"},
    ),
}


@pytest.mark.parametrize("plural", KINDS)
def test_every_field_selector_selects(plural: str) -> None:
    objects, selectors = KINDS[plural]

    async def test(api: InProcessApi) -> None:
        for target, obj in objects:
            await make(api.admin, target, obj)
            if "status" in obj:
                status = f"{target}/{obj['metadata']['name']}/status"
                answer = await api.admin.request("PATCH", status, {"status": obj["status"]}, content_type=MERGE)
                assert answer.status == 200, answer.body
        for field, value in selectors.items():
            escaped = value.replace(",", "%5C,")
            found = (await api.admin.request("GET", f"/api/v1/{plural}?fieldSelector={field}%3D{escaped}")).json()
            assert names(found) == [ONE], field
            left = (await api.admin.request("GET", f"/api/v1/{plural}?fieldSelector={field}%21%3D{escaped}")).json()
            assert OTHER in names(left), field
            assert ONE not in names(left), field

    serve(test)


def test_a_namespace_is_selected_by_its_phase() -> None:
    async def test(api: InProcessApi) -> None:
        held = {"metadata": {"name": "held", "finalizers": ["example.com/held"]}}
        await make(api.admin, "/api/v1/namespaces", held)
        await api.admin.request("DELETE", "/api/v1/namespaces/held")
        selector = "/api/v1/namespaces?fieldSelector=status.phase%3D"
        assert names((await api.admin.request("GET", f"{selector}Terminating")).json()) == ["held"]
        assert "default" in names((await api.admin.request("GET", f"{selector}Active")).json())

    serve(test)


def test_pages_under_writes_are_one_moment() -> None:
    async def test(api: InProcessApi) -> None:
        for number in range(40):
            await make(api.admin, MAPS, {"metadata": {"name": f"m{number:03}"}, "data": {"round": "0"}})
        done = asyncio.Event()

        async def write() -> None:
            turn = 0
            while not done.is_set():
                turn += 1
                name = f"m{turn % 40:03}"
                await api.admin.request("PATCH", f"{MAPS}/{name}", {"data": {"round": str(turn)}}, content_type=MERGE)
                await api.admin.request("DELETE", f"{MAPS}/m{turn * 7 % 40:03}")
                await api.admin.request("POST", MAPS, {"metadata": {"name": f"m{turn * 7 % 40:03}-{turn}"}})

        writing = asyncio.create_task(write(), name="writer")
        for _ in range(5):
            first = (await api.admin.request("GET", f"{MAPS}?limit=7")).json()
            revision, found, token = (
                first["metadata"]["resourceVersion"],
                first["items"],
                first["metadata"].get("continue"),
            )
            while token:
                page = (await api.admin.request("GET", f"{MAPS}?limit=7&continue={token}")).json()
                assert page["metadata"]["resourceVersion"] == revision
                found += page["items"]
                token = page["metadata"].get("continue")
            exact = f"{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"
            assert found == (await api.admin.request("GET", exact)).json()["items"]
        done.set()
        await writing

    serve(test)


def test_what_is_deprecated_or_unknown_is_warned_of() -> None:
    async def test(api: InProcessApi) -> None:
        endpoints = await api.admin.request("GET", "/api/v1/namespaces/default/endpoints")
        assert "v1 Endpoints is deprecated" in endpoints.header("warning")
        unknown = await api.admin.request(
            "POST", f"{MAPS}?fieldValidation=Warn", {"metadata": {"name": "a"}, "dada": 1}
        )
        assert (unknown.status, unknown.header("warning")) == (201, '299 - "unknown field \\"dada\\""')
        ignored = await api.admin.request(
            "POST", f"{MAPS}?fieldValidation=Ignore", {"metadata": {"name": "b"}, "dada": 1}
        )
        assert (ignored.status, ignored.header("warning")) == (201, "")

    serve(test)


def test_a_watch_of_the_list_that_is_sent_first() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api.admin, MAPS, {"metadata": {"name": "a"}})
        query = (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
        )
        async with api.admin.stream(f"{MAPS}?{query}") as lines:
            assert (await lines.next())["type"] == "ADDED"
            end = await lines.next()
            assert (end["type"], end["object"]["metadata"]["annotations"]) == (
                "BOOKMARK",
                {"k8s.io/initial-events-end": "true"},
            )
            last = await lines.next()
            assert last["type"] == "BOOKMARK"
            assert "annotations" not in last["object"]["metadata"]
            assert await lines.next() is None
        refused = await api.admin.request("GET", f"{MAPS}?watch=1&sendInitialEvents=true")
        assert (refused.status, refused.json()["details"]["causes"][0]["field"]) == (422, "resourceVersionMatch")
        plain = await api.admin.request("GET", f"{MAPS}?sendInitialEvents=true")
        assert (plain.status, plain.json()["reason"]) == (422, "Invalid")

    serve(test)
