"""Ingresses, ranges and addresses as kubectl makes and shows them."""

import pytest

from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]


def test_an_ingress_made_shown_and_explained(kubectl: Kubectl) -> None:
    made = kubectl.ok(
        "create", "ingress", "web", "--class=portway", "--rule=a.example/docs*=web:80", "--rule=b.example/=api:http"
    )
    assert made == "ingress.networking.k8s.io/web created\n"
    assert kubectl.json("get", "ing", "web")["spec"] == {
        "ingressClassName": "portway",
        "rules": [
            {
                "host": "a.example",
                "http": {
                    "paths": [
                        {
                            "path": "/docs",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "web", "port": {"number": 80}}},
                        }
                    ]
                },
            },
            {
                "host": "b.example",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Exact",
                            "backend": {"service": {"name": "api", "port": {"name": "http"}}},
                        }
                    ]
                },
            },
        ],
    }
    head, row = kubectl.ok("get", "ingress", "web").splitlines()
    assert head.split() == ["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"]
    assert row.split()[:4] == ["web", "portway", "a.example,b.example", "80"]  # nobody has given it an address
    described = kubectl.ok("describe", "ingress", "web")
    assert "a.example" in described
    assert "web:80" in described
    assert "pathType" in kubectl.ok("explain", "ingress.spec.rules.http.paths")


def test_an_address_says_whose_it_is(kubectl: Kubectl) -> None:
    kubectl.ok("create", "service", "clusterip", "held", "--tcp=80")
    address = kubectl.json("get", "service", "held")["spec"]["clusterIP"]
    head, row = kubectl.ok("get", "ip", address).splitlines()
    assert head.split() == ["NAME", "PARENTREF", "AGE"]
    assert row.split()[:2] == [address, f"services/{kubectl.namespace}/held"]
    head, row = kubectl.ok("get", "servicecidr", "kubernetes").splitlines()
    assert head.split() == ["NAME", "CIDRS", "AGE"]
    kubectl.ok("delete", "service", "held")
    assert "NotFound" in kubectl.refused("get", "ip", address)
