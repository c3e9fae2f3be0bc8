"""Ingresses as values: which hosts one may have, which are ours, whose a host is, and what is not served."""

from typing import Any

import pytest

from portway.kube.ingresses import CONTROLLER, DEFAULT_ANNOTATION, Plan, ingress, ingress_class, plan
from portway.kube.ingresshosts import IngressHosts

Object = dict[str, Any]
OWN = IngressHosts(own=("door.example", "kubernetes.default", "*.apps.example", "laptop.local"))
DOMAINS = IngressHosts(own=OWN.own, domains=("apps.example", "shop.test"))


@pytest.mark.parametrize(
    ("host", "own", "domains"),
    [
        ("shop.test", "", ""),
        ("a.shop.test", "", ""),
        ("*.shop.test", "", ""),
        ("shop.example", "", "in none of the domains apps.example, shop.test"),
        ("ashop.test", "", "in none of the domains apps.example, shop.test"),
        ("*.test", "", "in none of the domains apps.example, shop.test"),
        ("sub.door.example", "", "in none"),
        ("*.example", "", "in none"),
        ("door.example", "a name of the door", "a name of the door"),
        ("kubernetes.default", "a name of the door", "a name of the door"),
        ("laptop.local", "a name of the door", "a name of the door"),
        ("a.apps.example", "a name of the door", ""),
        ("*.apps.example", "a name of the door", ""),
        ("a.b.apps.example", "", ""),
        ("", "without a host", "without a host"),
        ("localhost", "one label", "one label"),
        ("kubernetes", "one label", "one label"),
        ("shop.localhost", "this machine", "this machine"),
        ("web.demo.localhost", "this machine", "this machine"),
        ("*.localhost", "this machine", "this machine"),
        ("kubernetes.default.svc", "of the cluster", "of the cluster"),
        ("kubernetes.default.svc.cluster.local", "of the cluster", "of the cluster"),
        ("*.svc", "of the cluster", "of the cluster"),
        ("*.cluster.local", "of the cluster", "of the cluster"),
        ("127.0.0.1", "an address", "an address"),
        ("127.1", "an address", "an address"),
        ("0x7f.0x1", "an address", "an address"),
        ("*.0.0.1", "an address", "an address"),
        ("shop.1a", "", "in none"),
    ],
)
def test_which_hosts_an_ingress_may_have(host: str, own: str, domains: str) -> None:
    for allowed, expected in ((OWN, own), (DOMAINS, domains)):
        found = allowed.problem(host)
        assert (expected in found) if expected else not found, found


def made(name: str, *rules: tuple[str, str], namespace: str = "demo", age: int = 5, **spec: Any) -> Object:
    """An Ingress of (host, path) rules; `age` is its creation, the smaller the older."""
    annotations = spec.pop("annotations", {})
    listed = [
        {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend(name)}]}}
        for host, path in rules
    ]
    created = f"2026-01-0{age}T00:00:00Z"
    metadata = {"namespace": namespace, "name": name, "creationTimestamp": created, "annotations": annotations}
    return {"metadata": metadata, "spec": {"ingressClassName": "portway", "rules": listed} | spec}


def backend(service: str) -> Object:
    return {"service": {"name": service, "port": {"number": 80}}}


def a_class(name: str = "portway", controller: str = CONTROLLER, age: int = 1, *, default: bool = False) -> Object:
    annotations = {DEFAULT_ANNOTATION: "true"} if default else {}
    metadata = {"name": name, "creationTimestamp": f"2026-01-0{age}T00:00:00Z", "annotations": annotations}
    return {"metadata": metadata, "spec": {"controller": controller}}


def planned(*ingresses: Object, classes: tuple[Object, ...] = (a_class(),)) -> Plan:
    """The plan, which the order that things are told in must not change."""
    found = plan(map(ingress, ingresses), map(ingress_class, classes), OWN)
    assert found == plan(map(ingress, reversed(ingresses)), map(ingress_class, reversed(classes)), OWN)
    return found


def served(found: Plan) -> list[tuple[str, str, str]]:
    return [(path.host, path.path, f"{one.namespace}/{path.service}:{path.port}") for one, path in found.served]


OTHER = a_class("nginx", "k8s.io/ingress-nginx")


@pytest.mark.parametrize(
    ("spec", "classes", "ours"),
    [
        ({}, [a_class()], True),
        ({}, [], False),
        ({}, [a_class(controller="portway.dev/another")], False),
        ({"ingressClassName": "nginx"}, [a_class(default=True), OTHER], False),
        ({"ingressClassName": None}, [a_class(), OTHER], False),
        ({"ingressClassName": None}, [a_class(default=True), OTHER], True),
        ({"ingressClassName": None}, [a_class(default=True), a_class("x", "a/b", 2, default=True)], False),
        ({"ingressClassName": None}, [a_class(age=3, default=True), a_class("x", "a/b", 2, default=True)], True),
        ({"ingressClassName": None}, [a_class(default=True), a_class("aa", "a/b", default=True)], False),
        ({"annotations": {"kubernetes.io/ingress.class": "nginx"}}, [a_class(), OTHER], False),
        (
            {"annotations": {"kubernetes.io/ingress.class": "portway"}, "ingressClassName": None},
            [a_class(), OTHER],
            True,
        ),
        ({"ingressClassName": "ours-too"}, [a_class("ours-too")], True),
    ],
)
def test_which_are_ours(spec: Object, classes: list[Object], ours: bool) -> None:
    found = planned(made("web", ("shop.test", "/"), **spec), classes=tuple(classes))
    assert (("demo", "web") in found.ours, bool(found.served), bool(found.hosts)) == (ours, ours, ours)
    assert not found.problems


def test_a_host_is_the_namespaces_that_named_it_first() -> None:
    found = planned(
        made("late", ("shop.test", "/stolen"), namespace="evil", age=2),
        made("web", ("shop.test", "/"), age=1),
        made("more", ("shop.test", "/more"), age=3),
    )
    assert served(found) == [("shop.test", "/", "demo/web:80"), ("shop.test", "/more", "demo/more:80")]
    (text,) = found.problems["evil", "late"]
    assert text == '"shop.test" belongs to another namespace\'s older Ingress: its paths are not served'


def test_a_host_under_somebodys_wildcard_is_theirs_too() -> None:
    wildcard = made("wild", ("*.shop.test", "/"), age=2)
    newer = made("new", ("a.shop.test", "/"), namespace="evil", age=3)
    older = made("old", ("b.shop.test", "/"), namespace="other", age=1)
    found = planned(wildcard, newer, older)
    assert served(found) == [("b.shop.test", "/", "other/old:80"), ("*.shop.test", "/", "demo/wild:80")]
    assert [*found.problems] == [("evil", "new")]
    assert found.hosts == {"*.shop.test", "b.shop.test"}


def test_a_host_that_may_not_be_had_keeps_nobody_from_another() -> None:
    found = planned(
        made("bad", ("localhost", "/"), ("", "/"), ("door.example", "/api"), ("shop.test", "/"), age=1),
        made("web", ("shop.test", "/x"), namespace="other", age=2),
    )
    assert served(found) == [("shop.test", "/", "demo/bad:80")]
    assert len(found.problems["demo", "bad"]) == 3


def test_what_else_is_not_served_is_said() -> None:
    rule = {
        "host": "shop.test",
        "http": {
            "paths": [
                {"path": "/disk", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
                {"pathType": "ImplementationSpecific", "backend": {"service": {"name": "a", "port": {"name": "http"}}}},
                {"path": "/x", "pathType": "Exact", "backend": backend("b")},
            ]
        },
    }
    found = planned(
        made("web", rules=[rule, {"host": "bare.test"}], defaultBackend=backend("d"), tls=[{"secretName": "s"}])
    )
    assert served(found) == [("shop.test", "/", "demo/a:http"), ("shop.test", "/x", "demo/b:80")]
    assert [path.exact for _, path in found.served] == [False, True]
    assert found.hosts == {"shop.test", "bare.test"}
    assert [text.partition(" is not ")[0] for text in found.problems["demo", "web"]] == [
        "spec.defaultBackend",
        'path "/disk"',
        "spec.tls",
    ]
