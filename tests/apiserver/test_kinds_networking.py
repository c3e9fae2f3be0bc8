"""Ingresses, IngressClasses, ServiceCIDRs and IPAddresses through the API: 422 bodies, defaults, Tables, discovery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.kube.ingresses import DEFAULT_ANNOTATION
from portway.testing.api import InProcessApi

GROUP = "/apis/networking.k8s.io/v1"
INGRESSES = f"{GROUP}/namespaces/default/ingresses"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
BACKEND: dict[str, Any] = {"service": {"name": "web", "port": {"number": 80}}}
HTTP_PATH = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+"
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
WILDCARD = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    r"regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def serve(test: Callable[[InProcessApi], Awaitable[None]], **changes: Any) -> None:
    """Runs a test against a fresh server."""

    async def run() -> None:
        async with InProcessApi(**changes) as api:
            await test(api)

    asyncio.run(run())


async def create(api: InProcessApi, path: str, name: str, spec: dict[str, Any], status: int = 201, **meta: Any) -> Any:
    answer = await api.admin.request("POST", path, {"metadata": {"name": name, **meta}, "spec": spec})
    assert answer.status == status, answer.body
    return answer.json()


async def row(api: InProcessApi, path: str, name: str) -> list[Any]:
    table = (await api.admin.request("GET", f"{path}/{name}", accept=TABLE)).json()
    columns = [column["name"] for column in table["columnDefinitions"]]
    return [cell for name, cell in zip(columns, table["rows"][0]["cells"], strict=True) if name != "Age"]


def causes(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [(cause["field"], cause["message"]) for cause in status["details"]["causes"]]


def path(path_: str = "/", kind: str | None = "Prefix", **backend: Any) -> dict[str, Any]:
    made = {"path": path_, "pathType": kind, "backend": backend or BACKEND}
    return {"rules": [{"http": {"paths": [{key: value for key, value in made.items() if value}]}}]}


def rule(host: str) -> dict[str, Any]:
    return {"rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Exact", "backend": BACKEND}]}}]}


PATH = "spec.rules[0].http.paths[0]"
INGRESS_FAULTS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, [("spec", "Invalid value: []: either `defaultBackend` or `rules` must be specified")]),
    ({"defaultBackend": {}}, [("spec.defaultBackend", 'Invalid value: "": resource or service backend is required')]),
    (
        path(resource={"kind": "Bucket", "name": "b"}, **BACKEND),
        [(f"{PATH}.backend", 'Invalid value: "": cannot set both resource and service backends')],
    ),
    (
        path(resource={"apiGroup": "_", "kind": "a/b"}),
        [
            (f"{PATH}.backend.resource.apiGroup", f'Invalid value: "_": {SUBDOMAIN}'),
            (f"{PATH}.backend.resource.kind", "Invalid value: \"a/b\": may not contain '/'"),
            (f"{PATH}.backend.resource.name", "Required value: name is required"),
        ],
    ),
    (path(service={"port": {"number": 80}}), [(f"{PATH}.backend.service.name", "Required value")]),
    (path(service={"name": "a"}), [(f"{PATH}.backend", "Required value: port name or number is required")]),
    (
        path(service={"name": "a", "port": {"name": "b", "number": 1}}),
        [(f"{PATH}.backend", 'Invalid value: "": cannot set both port name & port number')],
    ),
    (
        path(service={"name": "a", "port": {"number": 70000}}),
        [
            (
                f"{PATH}.backend.service.port.number",
                "Invalid value: 70000: must be between 1 and 65535, inclusive",
            )
        ],
    ),
    (path(kind=None), [(f"{PATH}.pathType", "Required value: pathType must be specified")]),
    (
        path(kind="Regex"),
        [
            (
                f"{PATH}.pathType",
                'Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"',
            )
        ],
    ),
    (path("a"), [(f"{PATH}.path", 'Invalid value: "a": must be an absolute path')]),
    (path("", "Exact"), [(f"{PATH}.path", 'Invalid value: "": must be an absolute path')]),
    (path("a", "ImplementationSpecific"), [(f"{PATH}.path", 'Invalid value: "a": must be an absolute path')]),
    (
        path("/a//b%2fc/.."),
        [
            (f"{PATH}.path", "Invalid value: \"/a//b%2fc/..\": must not contain '//'"),
            (f"{PATH}.path", "Invalid value: \"/a//b%2fc/..\": must not contain '%2f'"),
            (f"{PATH}.path", "Invalid value: \"/a//b%2fc/..\": cannot end with '/..'"),
        ],
    ),
    (rule("192.0.2.1"), [("spec.rules[0].host", 'Invalid value: "192.0.2.1": must be a DNS name, not an IP address')]),
    (rule("Foo.bar"), [("spec.rules[0].host", f'Invalid value: "Foo.bar": {SUBDOMAIN}')]),
    (rule("a.*.bar"), [("spec.rules[0].host", f'Invalid value: "a.*.bar": {WILDCARD}')]),
    ({"rules": [{"http": {"paths": []}}]}, [("spec.rules[0].http.paths", "Required value")]),
    (
        {**path(), "ingressClassName": "A", "tls": [{"hosts": ["*."], "secretName": "_"}]},
        [
            ("spec.tls[0].hosts[0]", f'Invalid value: "*.": {WILDCARD}'),
            ("spec.tls[0].secretName", f'Invalid value: "_": {SUBDOMAIN}'),
            ("spec.ingressClassName", f'Invalid value: "A": {SUBDOMAIN}'),
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), INGRESS_FAULTS)
def test_faults_of_ingresses(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        assert causes(await create(api, INGRESSES, "web", spec, 422)) == expected

    serve(test)


@pytest.mark.parametrize(
    "spec",
    [
        {"defaultBackend": BACKEND},
        rule("*.example.com"),
        path("", "ImplementationSpecific"),
        {**path("/a"), "tls": [{"hosts": ["a.example", "*.b.example"], "secretName": "s"}, {}]},
        {"rules": [{"host": "only.example"}]},
    ],
)
def test_ingresses_that_are_fine(spec: dict[str, Any]) -> None:
    async def test(api: InProcessApi) -> None:
        made = await create(api, INGRESSES, "web", spec)
        expected = {**spec, "ingressClassName": "portway"}
        assert (made["spec"], made["status"], made["metadata"]["generation"]) == (expected, {"loadBalancer": {}}, 1)

    serve(test)


def test_who_names_no_class_gets_the_default_one_when_there_is_one() -> None:
    classes = f"{GROUP}/ingressclasses"

    async def mark(api: InProcessApi, name: str, marked: str | None) -> None:
        change = {"metadata": {"annotations": {DEFAULT_ANNOTATION: marked}}}
        assert (await api.admin.request("PATCH", f"{classes}/{name}", change, content_type=MERGE)).status == 200

    async def test(api: InProcessApi) -> None:
        for name in ("b", "a"):
            await create(api, classes, name, {"controller": "example.com/x"})
        await mark(api, "portway", None)
        assert "ingressClassName" not in (await create(api, INGRESSES, "none", path()))["spec"]
        await mark(api, "b", "true")
        await mark(api, "a", "false")
        made = await create(api, INGRESSES, "web", path())
        assert made["spec"]["ingressClassName"] == "b"
        old = await create(api, INGRESSES, "old", path(), annotations={"kubernetes.io/ingress.class": "z"})
        assert "ingressClassName" not in old["spec"]
        # Only when it is made: who takes the class away later means it.
        change = [{"op": "remove", "path": "/spec/ingressClassName"}]
        answer = await api.admin.request("PATCH", f"{INGRESSES}/web", change, content_type=JSON_PATCH)
        assert "ingressClassName" not in answer.json()["spec"]

    serve(test)


def test_the_old_way_to_name_a_class_warns_and_must_agree() -> None:
    async def test(api: InProcessApi) -> None:
        annotations = {"kubernetes.io/ingress.class": "a"}
        obj = {"metadata": {"name": "old", "annotations": annotations}, "spec": path()}
        answer = await api.admin.request("POST", INGRESSES, obj)
        text = (
            "annotation \\\"kubernetes.io/ingress.class\\\" is deprecated, please use 'spec.ingressClassName' instead"
        )
        assert answer.header("warning") == f'299 - "{text}"'
        refused = await create(api, INGRESSES, "two", {**path(), "ingressClassName": "b"}, 422, annotations=annotations)
        assert causes(refused) == [
            (
                "annotations.kubernetes.io/ingress.class",
                'Invalid value: "a": must match `ingressClassName` when both are specified',
            )
        ]

    serve(test)


def test_the_status_of_an_ingress_is_its_controller_s() -> None:
    async def test(api: InProcessApi) -> None:
        made = await create(api, INGRESSES, "web", path())
        point = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a.example"}]}}
        answer = await api.admin.request("PUT", f"{INGRESSES}/web/status", {**made, "status": point})
        assert answer.status == 200
        after = await api.admin.request("PUT", f"{INGRESSES}/web", {**made, "metadata": {"name": "web"}, "status": {}})
        assert after.json()["status"] == point
        bad = {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "192.0.2.1"}]}}
        answer = await api.admin.request("PATCH", f"{INGRESSES}/web/status", {"status": bad}, content_type=MERGE)
        assert [field for field, _ in causes(answer.json())] == [
            "status.loadBalancer.ingress[0].ip",
            "status.loadBalancer.ingress[1].hostname",
        ]

    serve(test)


@pytest.mark.parametrize(
    ("rules", "shown"),
    [([None], "*"), (["a"], "a"), (["a", "b", "c"], "a,b,c"), (["a", "b", "c", "d", "e"], "a,b,c + 2 more...")],
)
def test_hosts_in_a_table(rules: list[str | None], shown: str) -> None:
    async def test(api: InProcessApi) -> None:
        made = [{"host": f"{host}"} if host else {} for host in rules]
        await create(api, INGRESSES, "web", {"rules": made, "ingressClassName": "portway", "tls": [{}]})
        assert await row(api, INGRESSES, "web") == ["web", "portway", shown, "", "80, 443"]

    serve(test)


CLASS_FAULTS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, [("spec.controller", "Required value")]),
    (
        {"controller": "portway"},
        [
            (
                "spec.controller",
                'Invalid value: "portway": must be a domain-prefixed path (such as \\"acme.io/foo\\")'.replace(
                    "\\", ""
                ),
            )
        ],
    ),
    (
        {"controller": "a.b/c d"},
        [
            (
                "spec.controller",
                f"Invalid value: \"c d\": Invalid path (regex used for validation is '{HTTP_PATH}')",
            )
        ],
    ),
    (
        {"controller": "a/" + "b" * 249},
        [("spec.controller", "Too long: may not be more than 250 bytes")],
    ),
    (
        {"controller": "a/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}},
        [("spec.parameters.namespace", "Required value: `parameters.scope` is set to 'Namespace'")],
    ),
    (
        {"controller": "a/b", "parameters": {"kind": "K", "name": "n", "namespace": "x"}},
        [("spec.parameters.namespace", "Forbidden: `parameters.scope` is set to 'Cluster'")],
    ),
    (
        {"controller": "a/b", "parameters": {"scope": "World"}},
        [
            ("spec.parameters.kind", "Required value: kind is required"),
            ("spec.parameters.name", "Required value: name is required"),
            ("spec.parameters.scope", 'Unsupported value: "World": supported values: "Cluster", "Namespace"'),
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), CLASS_FAULTS)
def test_faults_of_ingress_classes(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        assert causes(await create(api, f"{GROUP}/ingressclasses", "c", spec, 422)) == expected

    serve(test)


def test_an_ingress_class_keeps_its_controller() -> None:
    async def test(api: InProcessApi) -> None:
        parameters = {"apiGroup": "example.com", "kind": "Settings", "name": "all"}
        made = await create(
            api, f"{GROUP}/ingressclasses", "c", {"controller": "example.com/door", "parameters": parameters}
        )
        assert made["spec"]["parameters"]["scope"] == "Cluster"
        assert await row(api, f"{GROUP}/ingressclasses", "c") == ["c", "example.com/door", "Settings.example.com/all"]
        change = {"spec": {"controller": "example.com/other", "parameters": None}}
        answer = await api.admin.request("PATCH", f"{GROUP}/ingressclasses/c", change, content_type=MERGE)
        assert causes(answer.json()) == [("spec.controller", 'Invalid value: "example.com/other": field is immutable')]

    serve(test)


RANGE_FAULTS: list[tuple[list[str], list[tuple[str, str]]]] = [
    ([], [("spec.cidrs", "Required value: at least one CIDR required")]),
    (["10.0.0.0/8"] * 3, [("spec.cidrs", "may only hold up to 2 values")]),
    (["10.0.0.0/24", "10.1.0.0/24"], [("spec.cidrs", "may specify no more than one IP for each IP family")]),
    (["10.0.0.0"], [("spec.cidrs[0]", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]),
    (["10.0.0.1/24"], [("spec.cidrs[0]", "must not have bits set beyond the prefix length")]),
    (["FD00::/112"], [("spec.cidrs[0]", 'must be in canonical form ("fd00::/112")')]),
    (["10.0.0.0/255.255.255.0"], [("spec.cidrs[0]", 'must be in canonical form ("10.0.0.0/24")')]),
    (["fe80::%eth0/64"], [("spec.cidrs[0]", "must be a valid CIDR value")]),
]


@pytest.mark.parametrize(("cidrs", "expected"), RANGE_FAULTS)
def test_faults_of_service_ranges(cidrs: list[str], expected: list[tuple[str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        found = causes(await create(api, f"{GROUP}/servicecidrs", "more", {"cidrs": cidrs}, 422))
        assert [field for field, _ in found] == [field for field, _ in expected]
        assert all(text in message for (_, message), (_, text) in zip(found, expected, strict=True))

    serve(test)


def test_a_service_range_stays_as_it_is() -> None:
    async def test(api: InProcessApi) -> None:
        await create(api, f"{GROUP}/servicecidrs", "more", {"cidrs": ["10.200.0.0/24", "fd00::/112"]})
        assert await row(api, f"{GROUP}/servicecidrs", "more") == ["more", "10.200.0.0/24,fd00::/112"]
        change = {"spec": {"cidrs": ["10.200.0.0/24"]}}
        answer = await api.admin.request("PATCH", f"{GROUP}/servicecidrs/more", change, content_type=MERGE)
        assert causes(answer.json()) == [("spec.cidrs", 'Invalid value: ["10.200.0.0/24"]: field is immutable')]

    serve(test)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("web", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("10.0.0.01", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("FD00::1", 'must be in canonical form ("fd00::1")'),
    ],
)
def test_the_name_of_an_address_is_the_address(name: str, text: str) -> None:
    async def test(api: InProcessApi) -> None:
        parent = {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}
        refused = await create(api, f"{GROUP}/ipaddresses", name, parent, 422)
        assert causes(refused) == [("metadata.name", f'Invalid value: "{name}": {text}')]

    serve(test)


def test_an_address_says_whose_it_is_and_stays_so() -> None:
    async def test(api: InProcessApi) -> None:
        where = f"{GROUP}/ipaddresses"
        assert causes(await create(api, where, "192.0.2.1", {}, 422)) == [("spec.parentRef", "Required value")]
        refused = await create(api, where, "192.0.2.1", {"parentRef": {"group": "_", "namespace": "a/b"}}, 422)
        assert [field for field, _ in causes(refused)] == [
            "spec.parentRef.group",
            "spec.parentRef.resource",
            "spec.parentRef.name",
            "spec.parentRef.namespace",
        ]
        parent = {"group": "example.com", "resource": "gateways", "namespace": "default", "name": "web"}
        await create(api, where, "192.0.2.1", {"parentRef": parent})
        assert await row(api, where, "192.0.2.1") == ["192.0.2.1", "gateways.example.com/default/web"]
        change = {"spec": {"parentRef": {"name": "other"}}}
        answer = await api.admin.request("PATCH", f"{where}/192.0.2.1", change, content_type=MERGE)
        assert [field for field, _ in causes(answer.json())] == ["spec.parentRef"]

    serve(test)


def test_discovery_knows_the_group() -> None:
    async def test(api: InProcessApi) -> None:
        found = (await api.admin.request("GET", GROUP)).json()["resources"]
        assert [(one["name"], one["namespaced"], one.get("shortNames")) for one in found] == [
            ("ingressclasses", False, None),
            ("ingresses", True, ["ing"]),
            ("ingresses/status", True, None),
            ("ipaddresses", False, ["ip"]),
            ("servicecidrs", False, None),
            ("servicecidrs/status", False, None),
        ]

    serve(test)
