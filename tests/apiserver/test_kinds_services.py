"""Services: defaults, allocation over a life of changes, 422 bodies, Tables; all through the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.apiserver.kinds.services import SERVICE
from portway.storage.memory import MemoryStore
from portway.testing.api import InProcessApi

PATH = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"


def serve(test: Callable[[InProcessApi], Awaitable[None]], **changes: Any) -> None:
    """Runs a test against a fresh server."""

    async def run() -> None:
        async with InProcessApi(**changes) as api:
            await test(api)

    asyncio.run(run())


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def create(api: InProcessApi, obj: dict[str, Any], status: int = 201) -> Any:
    answer = await api.admin.request("POST", PATH, obj)
    assert answer.status == status, answer.body
    return answer.json()


async def patch(api: InProcessApi, change: dict[str, Any], name: str = "web", status: int = 200) -> Any:
    answer = await api.admin.request("PATCH", f"{PATH}/{name}", change, content_type=MERGE)
    assert answer.status == status, answer.body
    return answer.json()


def causes(status: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(cause["field"], cause["reason"], cause["message"]) for cause in status["details"]["causes"]]


def test_a_small_service_gets_upstream_s_defaults() -> None:
    async def test(api: InProcessApi) -> None:
        spec = (await create(api, service(clusterIP="10.96.0.10")))["spec"]
        assert spec == {
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10"],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        }

    serve(test)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"clusterIP": "None"}, {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
        ({"clusterIP": "None", "selector": {"a": "b"}}, {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
        ({"ipFamilyPolicy": "PreferDualStack"}, {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"}),
        ({"sessionAffinity": "ClientIP"}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}),
        ({"externalIPs": ["192.0.2.1"]}, {"externalTrafficPolicy": "Cluster"}),
        ({"type": "LoadBalancer"}, {"allocateLoadBalancerNodePorts": True, "externalTrafficPolicy": "Cluster"}),
        ({"ports": [{"port": 1, "targetPort": "web", "nodePort": 0}]}, {"clusterIPs": None}),
    ],
)
def test_defaults_by_type(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    async def test(api: InProcessApi) -> None:
        found = (await create(api, service(**spec)))["spec"]
        if expected.get("clusterIPs", "") is None:
            assert found["clusterIPs"] == [found["clusterIP"]]
            assert found["ports"] == [{"port": 1, "protocol": "TCP", "targetPort": "web"}]
        else:
            assert {key: found.get(key) for key in expected} == expected

    serve(test)


def test_an_external_name_holds_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        spec = (await create(api, service(type="ExternalName", externalName="example.com.")))["spec"]
        assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"} & set(spec)

    serve(test)


def test_addresses_are_unique_until_released() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, service("a", clusterIP="10.96.0.77"))
        refused = await create(api, service("b", clusterIP="10.96.0.77"), 422)
        text = "failed to allocate IP 10.96.0.77: provided IP is already allocated"
        value = 'Invalid value: ["10.96.0.77"]: '
        assert causes(refused) == [("spec.clusterIPs", "FieldValueInvalid", value + text)]
        refused = await create(api, service("b", clusterIP="10.97.0.1"), 422)
        assert "not in the valid range. The range of valid IPs is 10.96.0.0/16" in refused["message"]
        assert (await api.admin.request("DELETE", f"{PATH}/a")).status == 200
        await create(api, service("b", clusterIP="10.96.0.77"))

    serve(test)


def test_a_refused_or_dry_create_reserves_nothing() -> None:
    async def test(api: InProcessApi) -> None:
        obj = service("a", type="NodePort", clusterIP="10.96.0.77", ports=[{"port": 80, "nodePort": 30777}])
        for _ in range(2):
            answer = await api.admin.request("POST", f"{PATH}?dryRun=All", obj)
            assert answer.status == 201
        await create(api, obj)
        # Exists: 409 or 422, but never a leak.
        other = service("a", clusterIP="10.96.0.78")
        assert (await api.admin.request("POST", PATH, other)).status == 409
        await create(api, service("b", clusterIP="10.96.0.78"))
        # The address is free, the port isn't: the address stays free.
        taken = service("c", type="NodePort", clusterIP="10.96.0.79", ports=[{"port": 80, "nodePort": 30777}])
        refused = await create(api, taken, 422)
        assert causes(refused) == [
            ("spec.ports[0].nodePort", "FieldValueInvalid", "Invalid value: 30777: provided port is already allocated")
        ]
        await create(api, service("d", clusterIP="10.96.0.79"))

    serve(test)


def test_a_full_range_says_so() -> None:
    async def test(api: InProcessApi) -> None:
        for i in range(5):  # .1 is default/kubernetes
            await create(api, service(f"s{i}"))
        refused = await create(api, service("one-more"), 500)
        assert refused["message"] == "Internal error occurred: failed to allocate a serviceIP: range is full"
        ports = [{"port": 80}]
        assert (await create(api, service("np", type="NodePort", clusterIP="None", ports=ports), 422))["code"] == 422

    serve(test, service_cluster_ip_range="10.0.0.0/29")


def test_node_ports_run_out() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, service("a", type="NodePort"))
        refused = await create(api, service("b", type="NodePort"), 500)
        assert refused["message"] == "Internal error occurred: failed to allocate a nodePort: range is full"
        refused = await create(api, service("c", type="NodePort", ports=[{"port": 1, "nodePort": 1}]), 422)
        assert causes(refused)[0][2].endswith("The range of valid ports is 30000-30000")

    serve(test, service_node_port_range=(30000, 30000))


def test_many_at_once_get_different_addresses_and_ports() -> None:
    async def test(api: InProcessApi) -> None:
        made = await asyncio.gather(*(create(api, service(f"s{i}", type="NodePort")) for i in range(60)))
        assert len({obj["spec"]["clusterIP"] for obj in made}) == 60
        assert len({obj["spec"]["ports"][0]["nodePort"] for obj in made}) == 60

    serve(test)


def test_a_restart_remembers() -> None:
    async def test() -> None:
        store = MemoryStore()
        async with InProcessApi(store) as api:
            await create(api, service("a", type="NodePort", clusterIP="10.96.0.9"))
            held = (await create(api, service("b", type="NodePort")))["spec"]["ports"][0]["nodePort"]
        async with InProcessApi(store) as api:
            await create(api, service("c", clusterIP="10.96.0.9"), 422)
            ports = [{"port": 80, "nodePort": held}]
            await create(api, service("d", type="NodePort", ports=ports), 422)
            assert (await api.admin.request("DELETE", f"{PATH}/b")).status == 200
            await create(api, service("d", type="NodePort", ports=ports))

    asyncio.run(test())


def test_ports_of_one_number_share_a_node_port() -> None:
    async def test(api: InProcessApi) -> None:
        ports = [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53}, {"name": "x", "port": 54}]
        first, second, third = (await create(api, service("dns", type="NodePort", ports=ports)))["spec"]["ports"]
        assert first["nodePort"] == second["nodePort"] != third["nodePort"]
        ports = [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "nodePort": 30999}]
        found = (await create(api, service("dns2", type="NodePort", ports=ports)))["spec"]["ports"]
        assert [port["nodePort"] for port in found] == [30999, 30999]

    serve(test)


def test_a_life_of_type_changes() -> None:
    async def test(api: InProcessApi) -> None:
        address = (await create(api, service()))["spec"]["clusterIP"]
        spec = (await patch(api, {"spec": {"type": "NodePort"}}))["spec"]
        node_port = spec["ports"][0]["nodePort"]
        assert spec["clusterIP"] == address
        # A client that leaves allocated values out keeps them.
        obj = service(type="NodePort")
        answer = await api.admin.request("PUT", f"{PATH}/web", obj)
        assert answer.json()["spec"]["ports"][0]["nodePort"] == node_port
        assert answer.json()["spec"]["clusterIPs"] == [address]
        spec = (await patch(api, {"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}))["spec"]
        health = spec["healthCheckNodePort"]
        assert health != node_port
        assert spec["ports"][0]["nodePort"] == node_port
        spec = (await patch(api, {"spec": {"type": "ClusterIP", "externalTrafficPolicy": None}}))["spec"]
        assert "nodePort" not in spec["ports"][0]
        assert not {"healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"} & set(spec)
        # Both ports are free again.
        ports = [{"name": "a", "port": 1, "nodePort": node_port}, {"name": "b", "port": 2, "nodePort": health}]
        await create(api, service("other", type="NodePort", ports=ports))
        spec = (await patch(api, {"spec": {"type": "ExternalName", "externalName": "example.com"}}))["spec"]
        assert not {"clusterIP", "clusterIPs", "ipFamilies"} & set(spec)
        await create(api, service("heir", clusterIP=address))
        spec = (await patch(api, {"spec": {"type": "ClusterIP"}}))["spec"]
        assert spec["clusterIP"] not in ("", address)

    serve(test)


def test_changing_a_node_port_releases_the_old_one() -> None:
    async def test(api: InProcessApi) -> None:
        old = (await create(api, service(type="NodePort")))["spec"]["ports"][0]["nodePort"]
        await patch(api, {"spec": {"ports": [{"port": 80, "nodePort": 30001}]}})
        await create(api, service("heir", type="NodePort", ports=[{"port": 80, "nodePort": old}]))
        await create(api, service("late", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]), 422)

    serve(test)


def test_the_primary_address_may_not_change() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, service(clusterIP="10.96.0.30"))
        refused = await patch(api, {"spec": {"clusterIP": "10.96.0.31"}}, status=422)
        text = 'Invalid value: ["10.96.0.31"]: may not change once set'
        assert causes(refused) == [("spec.clusterIPs[0]", "FieldValueInvalid", text)]
        refused = await patch(api, {"spec": {"ipFamilies": ["IPv6"]}}, status=422)
        assert ("spec.ipFamilies[0]", "FieldValueInvalid") in [cause[:2] for cause in causes(refused)]
        # Nothing was reserved for the refused change.
        await create(api, service("other", clusterIP="10.96.0.31"))

    serve(test)


INVALID: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"ports": []}, [("spec.ports", "FieldValueRequired", "Required value")]),
    (
        {"type": "Nope"},
        [
            (
                "spec.type",
                "FieldValueNotSupported",
                'Unsupported value: "Nope": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
            )
        ],
    ),
    (
        {"ports": [{"port": 80}, {"port": 81}]},
        [
            ("spec.ports[0].name", "FieldValueRequired", "Required value"),
            ("spec.ports[1].name", "FieldValueRequired", "Required value"),
        ],
    ),
    (
        {"ports": [{"name": "a", "port": 0}]},
        [
            (f"spec.ports[0].{name}", "FieldValueInvalid", "Invalid value: 0: must be between 1 and 65535, inclusive")
            for name in ("port", "targetPort")
        ],
    ),
    (
        {"ports": [{"port": 1, "targetPort": "UPPER"}]},
        [
            ("spec.ports[0].targetPort", "FieldValueInvalid", f'Invalid value: "UPPER": {why}')
            for why in (
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "must contain at least one letter (a-z)",
            )
        ],
    ),
    (
        {"ports": [{"port": 1, "protocol": "HTTP"}]},
        [
            (
                "spec.ports[0].protocol",
                "FieldValueNotSupported",
                'Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"',
            )
        ],
    ),
    (
        {"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]},
        [("spec.ports[1].name", "FieldValueDuplicate", 'Duplicate value: "a"')],
    ),
    (
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]},
        [
            (
                "spec.ports[1]",
                "FieldValueDuplicate",
                'Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":1,"TargetPort":0,"NodePort":0}',
            )
        ],
    ),
    (
        {"ports": [{"port": 1, "nodePort": 30000}]},
        [("spec.ports[0].nodePort", "FieldValueForbidden", "Forbidden: may not be used when `type` is 'ClusterIP'")],
    ),
    (
        {
            "type": "NodePort",
            "ports": [{"name": "a", "port": 1, "nodePort": 30000}, {"name": "b", "port": 2, "nodePort": 30000}],
        },
        [("spec.ports[1].nodePort", "FieldValueDuplicate", "Duplicate value: 30000")],
    ),
    (
        {"type": "NodePort", "clusterIP": "None"},
        [
            (
                "spec.clusterIPs[0]",
                "FieldValueInvalid",
                "Invalid value: \"None\": may not be set to 'None' for NodePort services",
            )
        ],
    ),
    (
        {"type": "LoadBalancer", "ports": [{"port": 10250}]},
        [
            (
                "spec.ports[0]",
                "FieldValueInvalid",
                "Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
            )
        ],
    ),
    ({"type": "ExternalName"}, [("spec.externalName", "FieldValueRequired", "Required value")]),
    (
        {"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.9"},
        [("spec.clusterIPs", "FieldValueForbidden", "Forbidden: may not be set for ExternalName services")],
    ),
    (
        {"sessionAffinity": "Sticky"},
        [
            (
                "spec.sessionAffinity",
                "FieldValueNotSupported",
                'Unsupported value: "Sticky": supported values: "ClientIP", "None"',
            )
        ],
    ),
    (
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
        [
            (
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                "FieldValueInvalid",
                "Invalid value: 86401: must be greater than 0 and less than 86400",
            )
        ],
    ),
    (
        {"externalTrafficPolicy": "Local"},
        [
            (
                "spec.externalTrafficPolicy",
                "FieldValueInvalid",
                'Invalid value: "Local": may only be set for externally-accessible services',
            )
        ],
    ),
    (
        {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
        [
            (
                "spec.LoadBalancerSourceRanges",
                "FieldValueForbidden",
                "Forbidden: may only be used when `type` is 'LoadBalancer'",
            )
        ],
    ),
    (
        {"allocateLoadBalancerNodePorts": False},
        [
            (
                "spec.allocateLoadBalancerNodePorts",
                "FieldValueForbidden",
                "Forbidden: may only be used when `type` is 'LoadBalancer'",
            )
        ],
    ),
    (
        {"trafficDistribution": "Far"},
        [
            (
                "spec.trafficDistribution",
                "FieldValueNotSupported",
                'Unsupported value: "Far": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"',
            )
        ],
    ),
    (
        {"externalIPs": ["127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1", "x"]},
        [
            (f"spec.externalIPs[{i}]", "FieldValueInvalid", f'Invalid value: "{ip}": {why}')
            for i, (ip, why) in enumerate(
                [
                    ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
                    ("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
                    ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
                    ("224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
                    ("x", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
                ]
            )
        ],
    ),
    (
        {"ipFamilyPolicy": "RequireDualStack"},
        [
            (
                "spec.ipFamilyPolicy",
                "FieldValueInvalid",
                'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
            )
        ],
    ),
    (
        {"ipFamilies": ["IPv6"]},
        [("spec.ipFamilies[0]", "FieldValueInvalid", 'Invalid value: "IPv6": not configured on this cluster')],
    ),
    (
        {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]},
        [
            (
                "spec.clusterIPs",
                "FieldValueInvalid",
                'Invalid value: ["10.96.0.8"]: first value must match `clusterIP`',
            )
        ],
    ),
    (
        {"clusterIPs": ["None"], "type": "ClusterIP"},
        [("spec.clusterIPs", "FieldValueInvalid", 'Invalid value: ["None"]: first value must match `clusterIP`')],
    ),
    (
        {"clusterIP": "fd00::1"},
        [
            (
                "spec.clusterIPs[0]",
                "FieldValueInvalid",
                'Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
            )
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), INVALID)
def test_422(spec: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        assert causes(await create(api, service(**spec), 422)) == expected

    serve(test)


def test_the_whole_422_body() -> None:
    async def test(api: InProcessApi) -> None:
        why = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
            " end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
            " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        )
        assert await create(api, service("Bad_Name"), 422) == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f'Service "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": {why}',
            "reason": "Invalid",
            "details": {
                "name": "Bad_Name",
                "kind": "Service",
                "causes": [
                    {
                        "reason": "FieldValueInvalid",
                        "message": f'Invalid value: "Bad_Name": {why}',
                        "field": "metadata.name",
                    }
                ],
            },
            "code": 422,
        }

    serve(test)


def test_dual_stack_where_the_cluster_is() -> None:
    async def test(api: InProcessApi) -> None:
        spec = (await create(api, service(ipFamilyPolicy="RequireDualStack")))["spec"]
        v4, v6 = spec["clusterIPs"]
        assert (spec["clusterIP"], spec["ipFamilies"]) == (v4, ["IPv4", "IPv6"])
        await create(api, service("late", ipFamilies=["IPv6"], clusterIP=v6), 422)
        spec = (await patch(api, {"spec": {"ipFamilyPolicy": "SingleStack"}}))["spec"]
        assert (spec["clusterIPs"], spec["ipFamilies"]) == ([v4], ["IPv4"])
        await create(api, service("late", ipFamilies=["IPv6"], clusterIP=v6))

    serve(test, service_cluster_ip_range="10.0.0.0/24,fd00::/112")


def test_a_dry_run_that_adds_a_family_leaves_what_everybody_reads() -> None:
    async def test(api: InProcessApi) -> None:
        made = await create(api, service(clusterIP="None", ipFamilyPolicy="SingleStack"))
        wish = service(clusterIP="None", ipFamilyPolicy="RequireDualStack")
        answer = await api.admin.request("PUT", f"{PATH}/web?dryRun=All", wish)
        assert answer.json()["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        known = api.app.server.find("", "services", "default", "web")
        assert known is not None
        assert known["spec"]["ipFamilies"] == made["spec"]["ipFamilies"] == ["IPv4"]

    serve(test)


def test_status_of_a_load_balancer() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, service(type="LoadBalancer"))
        ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}
        answer = await api.admin.request("PATCH", f"{PATH}/web/status", ingress, content_type=MERGE)
        assert answer.json()["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.9", "ipMode": "VIP"}]
        assert (await patch(api, {"spec": {"type": "ClusterIP"}}))["status"] == {"loadBalancer": {}}
        answer = await api.admin.request("PATCH", f"{PATH}/web/status", ingress, content_type=MERGE)
        assert answer.status == 422
        bad = {"status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "192.0.2.1"}, {"ipMode": "VIP"}]}}}
        await create(api, service("lb", type="LoadBalancer"))
        answer = await api.admin.request("PATCH", f"{PATH}/lb/status", bad, content_type=MERGE)
        assert [cause[0] for cause in causes(answer.json())] == [
            "status.loadBalancer.ingress[0].ip",
            "status.loadBalancer.ingress[1].hostname",
            "status.loadBalancer.ingress[2].ipMode",
        ]

    serve(test)


def test_what_is_written_is_told_as_written_though_the_server_cannot_show_it() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, service())
        server = api.app.server
        server.cache.close()
        while server.cache.alive:
            await asyncio.sleep(0)
        change = {"metadata": {"labels": {"a": "b"}}}
        answer = await api.admin.request("PATCH", f"{PATH}/web", change, content_type=MERGE)
        assert (answer.status, answer.json()["metadata"]["labels"]) == (200, {"a": "b"})
        stored = (await api.store.list("/registry/core/services/default/web")).items[0]
        assert answer.json()["metadata"]["resourceVersion"] == str(stored.mod_revision)

    serve(test)


@pytest.mark.parametrize("held", [False, True], ids=["deleted", "finalizer taken off"])
def test_a_deleted_service_lets_go_of_what_it_held_though_the_server_cannot_show_it_gone(held: bool) -> None:
    async def test(api: InProcessApi) -> None:
        obj = service(type="NodePort", clusterIP="10.96.0.10", ports=[{"port": 80, "nodePort": 30080}])
        if held:
            obj["metadata"]["finalizers"] = ["example.com/x"]
        await create(api, obj)
        await api.admin.request("POST", PATH.replace("services", "endpoints"), {"metadata": {"name": "web"}})
        server = api.app.server
        if held:
            assert (await api.admin.request("DELETE", f"{PATH}/web")).status == 200
        server.cache.close()
        while server.cache.alive:
            await asyncio.sleep(0)
        release = {"metadata": {"finalizers": None}}
        answer = await (
            api.admin.request("PATCH", f"{PATH}/web", release, content_type=MERGE)
            if held
            else api.admin.request("DELETE", f"{PATH}/web")
        )
        assert answer.status == 200
        assert (await api.store.list("/registry/core/services/default/web")).items == []
        assert (await api.store.list("/registry/core/endpoints/default/web")).items == []
        assert (await api.store.list("/registry/networking.k8s.io/ipaddresses/10.96.0.10")).items == []
        assert (await api.store.list("/registry/core/servicenodeports/")).items == []

    serve(test)


def test_endpoints_go_with_their_service() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, service())
        endpoints = {"metadata": {"name": "web"}, "subsets": []}
        path = "/api/v1/namespaces/default/endpoints"
        assert (await api.admin.request("POST", path, endpoints)).status == 201
        assert (await api.admin.request("DELETE", f"{PATH}/web")).status == 200
        assert (await api.admin.request("GET", f"{path}/web")).status == 404

    serve(test)


@pytest.mark.parametrize(
    ("obj", "cells"),
    [
        ({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}}, ["ClusterIP", "10.0.0.1", "<none>", "<none>"]),
        (
            {"spec": {"type": "ExternalName", "externalName": "e.example"}},
            ["ExternalName", "<none>", "e.example", "<none>"],
        ),
        (
            {"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]}},
            ["LoadBalancer", "10.0.0.1", "<pending>", "80:30080/TCP"],
        ),
        (
            {
                "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "externalIPs": ["192.0.2.1"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example"}]}},
            },
            ["LoadBalancer", "10.0.0.1", "192.0.2.2,lb.example,192.0.2.1", "<none>"],
        ),
        (
            {
                "spec": {
                    "type": "ClusterIP",
                    "clusterIP": "None",
                    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 1}],
                }
            },
            ["ClusterIP", "None", "<none>", "53/UDP,1/TCP"],
        ),
    ],
)
def test_cells(obj: dict[str, Any], cells: list[str]) -> None:
    row = SERVICE.columns.cells({"metadata": {"name": "s"}, **obj}, 0.0)
    assert row == ["s", *cells, "<unknown>", "<none>"]
    assert len(row) == len(SERVICE.columns.definitions)
