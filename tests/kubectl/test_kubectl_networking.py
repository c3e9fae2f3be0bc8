"""Ingresses, ranges and addresses as kubectl makes and shows them."""

import subprocess

import pytest

from portway.testing.cluster import Cluster, wait_until
from portway.testing.kubectl import Kubectl
from portway.testing.pages import RegisteredPod, registered

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
    kubectl.ok("wait", "ingress/web", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=127.0.0.1", "--timeout=20s")
    head, row = kubectl.ok("get", "ingress", "web").splitlines()
    assert head.split() == ["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"]
    assert row.split()[:5] == ["web", "portway", "a.example,b.example", "127.0.0.1", "80"]
    described = kubectl.ok("describe", "ingress", "web")
    assert "a.example" in described
    assert "web:80" in described
    assert "pathType" in kubectl.ok("explain", "ingress.spec.rules.http.paths")


def test_an_ingress_is_served_at_the_door(kubectl: Kubectl, cluster: Cluster) -> None:
    for name in ("shop", "admin"):
        kubectl.ok("create", "service", "clusterip", name, "--tcp=80:8080")
        kubectl.ok("set", "selector", f"service/{name}", f"app={name}")
    host, port = f"{kubectl.namespace}.shop.test", cluster.server.rpartition(":")[2]
    token = (cluster.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
    bearer = f"Authorization: Bearer {token}"

    def asked(path: str, *more: str, name: str = host) -> tuple[str, str]:
        """(code, body) from a curl that finds the name at the door, whose certificate is for other names."""
        url = f"https://{name}:{port}{path}"
        command = ["curl", "-sSk", "--resolve", f"{name}:{port}:127.0.0.1", "-w", "\n%{http_code}", url, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        body, _, code = done.stdout.rpartition("\n")
        return code, body.partition("\n")[0] if code == "200" else ""

    def answers(path: str, expected: tuple[str, str], name: str = host) -> None:
        wait_until(lambda: asked(path, "-H", bearer, name=name) == expected, f"{path} does not answer {expected}")

    with registered(kubectl, pod("shop")), registered(kubectl, pod("admin")):
        kubectl.ok("create", "ingress", "shop", f"--rule={host}/*=shop:80", f"--rule={host}/admin*=admin:80")
        answers("/x", ("200", "shop"))
        answers("/admin/x", ("200", "admin"))
        answers("/administrator", ("200", "shop"))
        answers("/api/v1/namespaces/default", ("200", "shop"))
        assert asked("/x")[0] == "403"
        assert asked("/api/v1/namespaces/default", "-H", bearer, name="other.shop.test")[0] == "200"
        kubectl.ok("create", "ingress", "evil", "--rule=localhost/*=shop:80")
        wait_until(lambda: "its paths are not served" in kubectl.ok("describe", "ingress", "evil"), "nobody warned")
        assert asked("/api/v1/namespaces/default", "-H", bearer, name="localhost") == ("200", "{")
        kubectl.ok("create", "ingress", "all", "--default-backend=admin:80")
        kubectl.ok(
            "wait", "ingress/all", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=127.0.0.1", "--timeout=20s"
        )
        assert "admin:80" in kubectl.ok("describe", "ingress", "all")
        answers("/api/v1/namespaces/default", ("200", "admin"), name="other.shop.test")
        assert asked("/x", "-H", bearer) == ("200", "shop")
        for name in ("localhost", "127.0.0.1", "elsewhere.test"):
            assert asked("/api/v1/namespaces/default", "-H", bearer, name=name) == ("200", "{")
        kubectl.ok("delete", "ingress", "all")
        answers("/api/v1/namespaces/default", ("200", "{"), name="other.shop.test")


def pod(name: str) -> RegisteredPod:
    return RegisteredPod(name, {"app": name}, 8080)


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
