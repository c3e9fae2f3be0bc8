"""Services over their changes: every type into every type, what is kept, dropped, released and refused on the way."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.testing.api import InProcessApi

SERVICES = "/api/v1/namespaces/default/services"
DUAL = "10.0.0.0/24,fd00::/112"
TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Headless")


def serve(test: Callable[[InProcessApi], Awaitable[None]], **changes: Any) -> None:
    """Runs a test against a fresh server."""

    async def run() -> None:
        async with InProcessApi(**changes) as api:
            await test(api)

    asyncio.run(run())


def spec_of(kind: str) -> dict[str, Any]:
    """What a user writes for a service of a type; a headless one counts as a type of its own."""
    if kind == "ExternalName":
        return {"type": kind, "externalName": "a.example"}
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    headless = {"clusterIP": "None"} if kind == "Headless" else {}
    return {"type": "ClusterIP" if headless else kind, "ports": ports, **headless}


async def send(api: InProcessApi, method: str, path: str, spec: dict[str, Any], status: int) -> Any:
    answer = await api.admin.request(method, path, {"metadata": {"name": "web"}, "spec": spec})
    assert answer.status == status, answer.body
    return answer.json()


async def holdings(api: InProcessApi) -> set[str]:
    """The addresses and ports that are taken, but that of default/kubernetes."""
    claims = [entry for _, entry in api.app.server.claims.all()]
    return {entry.name for entry in claims if entry.obj["spec"]["parentRef"]["name"] == "web"}


def held(spec: dict[str, Any]) -> set[str]:
    """What a service's spec says that it holds."""
    numbers = [port.get("nodePort") for port in spec.get("ports", ())] + [spec.get("healthCheckNodePort")]
    return {address for address in spec.get("clusterIPs", ()) if address != "None"} | {str(n) for n in numbers if n}


HAS_ADDRESS = {"ClusterIP", "NodePort", "LoadBalancer"}
HAS_PORTS = {"NodePort", "LoadBalancer"}


@pytest.mark.parametrize(("before", "after"), list(product(TYPES, TYPES)))
def test_every_type_into_every_type_by_a_put(before: str, after: str) -> None:
    async def test(api: InProcessApi) -> None:
        old = (await send(api, "POST", SERVICES, spec_of(before), 201))["spec"]
        refused = {"Headless"} & {before, after} and before != after and not {"ExternalName"} & {before, after}
        if refused:
            # The address of a service is immutable, and having none is an address too; a headless one that is given
            # a type with ports is refused for that.
            keeps = before == "Headless" and after == "ClusterIP"
            new = await send(api, "PUT", f"{SERVICES}/web", spec_of(after), 200 if keeps else 422)
            assert not keeps or new["spec"]["clusterIP"] == "None"
            assert await holdings(api) == held(old)
            return
        new = (await send(api, "PUT", f"{SERVICES}/web", spec_of(after), 200))["spec"]
        assert ("clusterIP" in new) == (after != "ExternalName")
        if {before, after} <= HAS_ADDRESS:
            assert new["clusterIPs"] == old["clusterIPs"]
        if {before, after} <= HAS_PORTS:
            assert [port["nodePort"] for port in new["ports"]] == [port["nodePort"] for port in old["ports"]]
        assert all(("nodePort" in port) == (after in HAS_PORTS) for port in new.get("ports", ()))
        assert ("externalTrafficPolicy" in new) == (after in HAS_PORTS)
        assert ("allocateLoadBalancerNodePorts" in new) == (after == "LoadBalancer")
        assert await holdings(api) == held(new)

    serve(test)


Step = tuple[dict[str, Any], dict[str, Any]]
"""A merge patch of the spec → what the spec has afterwards (None: it has no such field)."""

LIVES: dict[str, tuple[dict[str, Any], list[Step]]] = {
    "a balancer without node ports keeps what it asked for": (
        {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80, "nodePort": 30080}]},
        [
            (
                {"ports": [{"port": 80}]},
                {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30080}]},
            )
        ],
    ),
    "health check ports come and go with the policy": (
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30090},
        [
            ({"externalTrafficPolicy": "Cluster"}, {"healthCheckNodePort": None}),
            ({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30091}, {"healthCheckNodePort": 30091}),
            ({"type": "NodePort"}, {"healthCheckNodePort": None, "externalTrafficPolicy": "Local"}),
        ],
    ),
    "affinity brings its settings and takes them away": (
        {"sessionAffinity": "ClientIP"},
        [
            ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, {}),
            ({"sessionAffinity": "None"}, {"sessionAffinityConfig": None}),
        ],
    ),
    "a class goes with the type": (
        {"type": "LoadBalancer", "loadBalancerClass": "example.com/a"},
        [({"type": "ClusterIP"}, {"loadBalancerClass": None})],
    ),
    "external addresses make a policy": (
        {"externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"},
        [({"externalIPs": []}, {"externalTrafficPolicy": None})],
    ),
    "up and down the families": (
        {"ipFamilyPolicy": "SingleStack"},
        [
            ({"ipFamilyPolicy": "PreferDualStack"}, {"ipFamilies": ["IPv4", "IPv6"]}),
            ({"ipFamilyPolicy": "RequireDualStack"}, {"ipFamilies": ["IPv4", "IPv6"]}),
            ({"ipFamilyPolicy": "SingleStack"}, {"ipFamilies": ["IPv4"]}),
            ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}, {"ipFamilies": ["IPv4", "IPv6"]}),
            ({"type": "ExternalName", "externalName": "a.example"}, {"ipFamilies": None, "ipFamilyPolicy": None}),
            ({"type": "ClusterIP"}, {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
        ],
    ),
    "the second address may be named": (
        {"ipFamilies": ["IPv6"]},
        [({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}, {"ipFamilies": ["IPv6", "IPv4"]})],
    ),
    "a node port that is taken off an entry is given back": (
        {"type": "NodePort", "ports": [{"name": "a", "port": 1, "nodePort": 30001}, {"name": "b", "port": 2}]},
        [({"ports": [{"name": "b", "port": 2}]}, {}), ({"ports": [{"name": "a", "port": 1, "nodePort": 30001}]}, {})],
    ),
}


@pytest.mark.parametrize("life", LIVES)
def test_a_life_holds_what_it_says(life: str) -> None:
    first, steps = LIVES[life]

    async def test(api: InProcessApi) -> None:
        spec = (await send(api, "POST", SERVICES, {"ports": [{"port": 80}], **first}, 201))["spec"]
        for change, expected in steps:
            answer = await api.admin.request(
                "PATCH", f"{SERVICES}/web", {"spec": change}, content_type="application/merge-patch+json"
            )
            assert answer.status == 200, (change, answer.body)
            spec = answer.json()["spec"]
            assert {key: spec.get(key) for key in expected} == expected
            assert len(spec.get("clusterIPs", ())) == len(spec.get("ipFamilies", ()))
            assert await holdings(api) == held(spec)
        assert (await api.admin.request("DELETE", f"{SERVICES}/web")).status == 200
        assert await holdings(api) == set()

    serve(test, service_cluster_ip_range=DUAL)


TWO_FAMILIES = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (
        {"type": "LoadBalancer", "loadBalancerClass": "example.com/a"},
        {"loadBalancerClass": "example.com/b"},
        "spec.loadBalancerClass",
        'Invalid value: "example.com/b": may not change once set',
    ),
    (
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        {"healthCheckNodePort": 30001},
        "spec.healthCheckNodePort",
        "Forbidden: field is immutable",
    ),
    (
        {"ipFamilyPolicy": "RequireDualStack"},
        {"ipFamilies": ["IPv4"]},
        "spec.ipFamilyPolicy",
        "Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
    ),
    (
        {"ipFamilyPolicy": "SingleStack"},
        {"ipFamilies": ["IPv4", "IPv6"]},
        "spec.ipFamilyPolicy",
        f'Invalid value: "SingleStack": {TWO_FAMILIES}',
    ),
    (
        {},
        {"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]},
        "spec.ports[0].nodePort",
        "Invalid value: 1: provided port is not in the valid range. The range of valid ports is 30000-32767",
    ),
    (
        {},
        {"type": "ExternalName"},
        "spec.externalName",
        "Required value",
    ),
    (
        {},
        {"healthCheckNodePort": 30001},
        "spec.healthCheckNodePort",
        "Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
    ),
]


@pytest.mark.parametrize(("first", "change", "field", "message"), REFUSED)
def test_a_refused_change_leaves_everything(
    first: dict[str, Any], change: dict[str, Any], field: str, message: str
) -> None:
    async def test(api: InProcessApi) -> None:
        made = await send(api, "POST", SERVICES, {"ports": [{"port": 80}], **first}, 201)
        answer = await api.admin.request(
            "PATCH", f"{SERVICES}/web", {"spec": change}, content_type="application/merge-patch+json"
        )
        assert answer.status == 422, answer.body
        causes = [(cause["field"], cause["message"]) for cause in answer.json()["details"]["causes"]]
        assert (field, message) in causes
        assert (await api.admin.request("GET", f"{SERVICES}/web")).json() == made
        assert await holdings(api) == held(made["spec"])

    serve(test, service_cluster_ip_range=DUAL)


def test_a_cluster_that_becomes_dual_stack_leaves_services_as_they_are() -> None:
    from portway.storage.memory import MemoryStore

    async def test() -> None:
        store = MemoryStore()
        async with InProcessApi(store, service_cluster_ip_range="10.0.0.0/24") as api:
            wish = {"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}
            old = (await send(api, "POST", SERVICES, wish, 201))["spec"]
        async with InProcessApi(store, service_cluster_ip_range=DUAL) as api:
            found = (await api.admin.request("GET", f"{SERVICES}/web")).json()
            found["metadata"]["labels"] = {"a": "b"}
            answer = await api.admin.request("PUT", f"{SERVICES}/web", found)
            assert (answer.status, answer.json()["spec"]) == (200, old)
            spec = (await send(api, "PUT", f"{SERVICES}/web", wish | {"ipFamilyPolicy": "RequireDualStack"}, 200))[
                "spec"
            ]
            assert spec["ipFamilies"] == ["IPv4", "IPv6"]
            assert spec["clusterIPs"][0] == old["clusterIP"]

    asyncio.run(test())


PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        "externalName": st.sampled_from(["a.example", None]),
        "clusterIP": st.sampled_from(["None", "", None, "10.0.0.9"]),
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack", None]),
        "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], None]),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster", None]),
        "healthCheckNodePort": st.sampled_from([30003, None]),
        "allocateLoadBalancerNodePorts": st.sampled_from([True, False, None]),
        "externalIPs": st.sampled_from([["192.0.2.1"], None]),
        "ports": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from("ab"), "port": st.integers(1, 2)},
                optional={"nodePort": st.integers(30000, 30003), "protocol": st.sampled_from(["TCP", "UDP"])},
            ),
            min_size=1,
            max_size=2,
        ),
    },
)


@given(st.lists(PATCHES, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_done_to_a_service_what_is_claimed_is_what_it_says(changes: list[dict[str, Any]]) -> None:
    async def test(api: InProcessApi) -> None:
        spec = (await send(api, "POST", SERVICES, {"ports": [{"port": 80}]}, 201))["spec"]
        for change in changes:
            answer = await api.admin.request(
                "PATCH", f"{SERVICES}/web", {"spec": change}, content_type="application/merge-patch+json"
            )
            assert answer.status in (200, 422, 500), answer.body
            if answer.status == 500:
                message = answer.json()["message"]
                assert "range is full" in message or "HealthCheck NodePort 30003: provided port is already" in message
            before, spec = copy.deepcopy(spec), answer.json()["spec"] if answer.status == 200 else spec
            assert answer.status == 200 or spec == before
            assert await holdings(api) == held(spec)

    serve(test, service_cluster_ip_range=DUAL, service_node_port_range=(30000, 30003))
