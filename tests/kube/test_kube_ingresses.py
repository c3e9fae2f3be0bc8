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
        ("", "the door's own where no --ingress-domains", ""),
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


def planned(*ingresses: Object, classes: tuple[Object, ...] = (a_class(),), allowed: IngressHosts = OWN) -> Plan:
    """The plan, which the order that things are told in must not change."""
    found = plan(map(ingress, ingresses), map(ingress_class, classes), allowed)
    assert found == plan(map(ingress, reversed(ingresses)), map(ingress_class, reversed(classes)), allowed)
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
    bucket = {"resource": {"kind": "Bucket", "name": "b"}}
    found = planned(
        made("web", rules=[rule, {"host": "bare.test"}], defaultBackend=bucket, tls=[{"secretName": "s"}]),
        made("alone", defaultBackend=bucket),
    )
    assert served(found) == [("shop.test", "/", "demo/a:http"), ("shop.test", "/x", "demo/b:80")]
    assert [path.exact for _, path in found.served] == [False, True]
    assert found.hosts == {"shop.test", "bare.test"}
    assert [text.partition(" is not ")[0] for text in found.problems["demo", "web"]] == [
        "spec.defaultBackend",
        'path "/disk"',
        "spec.tls",
    ]
    assert len(found.problems["demo", "alone"]) == 1


A_TEST, B_TEST = ("a.shop.test", "/a"), ("b.shop.test", "/")


@pytest.mark.parametrize(
    ("ingresses", "expected"),
    [
        # What no path of its own hosts matches, and of no other hosts.
        (
            [made("x", A_TEST, B_TEST, defaultBackend=backend("d"))],
            ["a.shop.test /a x", "b.shop.test / x", "a.shop.test / d", "b.shop.test / d"],
        ),
        ([made("x", rules=[{"host": "a.shop.test"}], defaultBackend=backend("d"))], ["a.shop.test / d"]),
        # A path of any Ingress of the host is in front of it, the older default in front of the newer.
        (
            [
                made("new", ("a.shop.test", "/"), age=3),
                made("mid", A_TEST, defaultBackend=backend("m"), age=2),
                made("old", ("a.shop.test", "/b"), defaultBackend=backend("o"), age=1),
            ],
            ["a.shop.test /b old", "a.shop.test /a mid", "a.shop.test / new", "a.shop.test / o", "a.shop.test / m"],
        ),
        # Without rules, or in a rule without a host: what no Ingress names.
        ([made("x", defaultBackend=backend("d")), made("y", A_TEST)], ["a.shop.test /a y", " / d"]),
        ([made("x", ("", "/x"), A_TEST)], [" /x x", "a.shop.test /a x"]),
        ([made("x", ("", "/x"), defaultBackend=backend("d"))], [" /x x", " / d"]),
        ([made("x", defaultBackend=backend("d"), rules=None)], [" / d"]),
        # That is one namespace's, the first's, and keeps nobody from a host of their own.
        (
            [
                made("x", defaultBackend=backend("d"), age=1),
                made("y", A_TEST, ("", "/y"), namespace="other", age=2, defaultBackend=backend("o")),
            ],
            ["a.shop.test /a y", " / d", "a.shop.test / o"],
        ),
        # A host that somebody else has gets no default of ours.
        (
            [made("x", A_TEST, age=1), made("y", B_TEST, A_TEST, namespace="other", defaultBackend=backend("o"))],
            ["a.shop.test /a x", "b.shop.test / y", "b.shop.test / o"],
        ),
        ([made("x", ("door.example", "/"), defaultBackend=backend("d"))], []),
        ([made("x", defaultBackend={"resource": {"kind": "Bucket", "name": "b"}})], []),
        ([made("x", defaultBackend=backend("d"), ingressClassName="other")], []),
    ],
)
def test_default_backends(ingresses: list[Object], expected: list[str]) -> None:
    found = planned(*ingresses, allowed=DOMAINS)
    assert [f"{path.host} {path.path} {path.service}" for _, path in found.served] == expected
    assert found.hosts == {path.host for _, path in found.served}


@pytest.mark.parametrize(
    ("one", "allowed", "told"),
    [
        (made("x", defaultBackend=backend("d")), DOMAINS, ["what no rule names belongs to another namespace's older"]),
        (made("x", defaultBackend=backend("d")), OWN, ["are given: its default backend is not served"]),
        (made("x", ("", "/")), OWN, ["are given: its paths are not served"]),
        (made("x", ("", "/"), defaultBackend=backend("d")), OWN, ["its paths and default backend are not served"]),
        (made("x", B_TEST, defaultBackend=backend("d")), OWN, []),
        (made("x", B_TEST, ("c.shop.test", "/"), defaultBackend=backend("d")), DOMAINS, []),
    ],
)
def test_whose_default_backend_is_not_served_is_told(one: Object, allowed: IngressHosts, told: list[str]) -> None:
    older = made("older", defaultBackend=backend("o"), namespace="other", age=1)
    texts = planned(older, one, allowed=allowed).problems.get(("demo", "x"), ())
    assert len(texts) == len(told)
    assert all(expected in text for expected, text in zip(told, texts, strict=True))
