"""What the cluster is and offers, the way to its services, and `kubectl proxy`."""

import json
import re
import urllib.request
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster
from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

SEARCH = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"
STORED = """
configmaps endpoints events namespaces nodes pods secrets serviceaccounts services leases.coordination.k8s.io
endpointslices.discovery.k8s.io events.events.k8s.io clusterrolebindings.rbac.authorization.k8s.io
clusterroles.rbac.authorization.k8s.io rolebindings.rbac.authorization.k8s.io roles.rbac.authorization.k8s.io
certificatesigningrequests.certificates.k8s.io ingresses.networking.k8s.io ingressclasses.networking.k8s.io
ipaddresses.networking.k8s.io servicecidrs.networking.k8s.io
"""
DUMPED = "events replication-controllers services daemonsets deployments replicasets pods"
SHORT = {"configmaps": "cm", "endpoints": "ep", "events": "ev", "namespaces": "ns", "nodes": "no", "pods": "po"}
SHORT |= {"serviceaccounts": "sa", "services": "svc"}


def test_version(admin: Kubectl) -> None:
    found = json.loads(admin.run("version", "-o", "json").out)
    assert found["serverVersion"]["gitVersion"].startswith("v1.36")
    assert (found["serverVersion"]["major"], found["serverVersion"]["minor"]) == ("1", "36")
    complaints = admin.run("version").err
    assert complaints == ""


def test_cluster_info(admin: Kubectl, cluster: Cluster) -> None:
    services = f"{cluster.server}/api/v1/namespaces/kube-system/services"
    assert admin.ok("cluster-info").splitlines() == [
        f"Kubernetes control plane is running at {cluster.server}",
        f"Dashboard is running at {services}/dashboard/proxy",
        f"Elasticsearch is running at {services}/elasticsearch-logging/proxy",
        "",
        "To further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.",
    ]


def test_discovery(admin: Kubectl) -> None:
    assert {"v1", "discovery.k8s.io/v1", "rbac.authorization.k8s.io/v1"} <= set(admin.ok("api-versions").split())
    listable = admin.ok("api-resources", "--verbs=list", "-o", "name").split()
    assert sorted(listable) == sorted(STORED.split())
    rows = [line.split() for line in admin.ok("api-resources", "--api-group=", "--no-headers").splitlines()]
    assert {row[0]: row[1] for row in rows if len(row) == 5} == SHORT
    assert {row[0]: row[-1] for row in rows}["endpoints"] == "Endpoints"
    assert sorted(admin.ok("api-resources", "--categories=all", "-o", "name").split()) == ["pods", "services"]
    wide = admin.ok("api-resources", "--api-group=coordination.k8s.io", "-o", "wide")
    assert re.search(r"\bLease\b.*create,delete,deletecollection,get,list,patch,update,watch", wide)


def test_cluster_info_dump(admin: Kubectl, tmp_path: Path) -> None:
    said = admin.ok("cluster-info", "dump", "--namespaces=kube-system", f"--output-directory={tmp_path}")
    assert said == f"Cluster info dumped to {tmp_path}\n"
    kinds = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "kube-system").glob("*.json")}
    assert set(kinds) == set(DUMPED.split())
    assert {one["metadata"]["name"] for one in kinds["services"]["items"]} >= {"elasticsearch-logging"}
    for empty in ("daemonsets", "deployments", "replicasets", "replication-controllers"):
        assert not kinds[empty]["items"]
    assert json.loads((tmp_path / "nodes.json").read_text())["items"]


def test_workloads_are_no_part_of_what_is_offered(admin: Kubectl) -> None:
    assert "apps/v1" not in admin.ok("api-versions").split()
    assert "the server doesn't have a resource type" in admin.refused("get", "deployments")
    refused = admin.refused("create", "deployment", "web", "--image=i", "--validate=false")
    assert "the server does not allow this method on the requested resource" in refused


def test_raw_paths(admin: Kubectl) -> None:
    assert admin.ok("get", "--raw", "/readyz") == "ok"
    assert json.loads(admin.ok("get", "--raw", "/version"))["minor"] == "36"
    health = json.loads(admin.ok("get", "--raw", f"{SEARCH}/_cluster/health?pretty=true"))
    assert health["status"] == "green"
    found = json.loads(admin.ok("get", "--raw", f"{SEARCH}/_search?q=user:kimchy"))
    assert found["hits"]["hits"]
    assert "<html" in admin.ok("get", "--raw", SEARCH.replace("elasticsearch-logging", "dashboard") + "/").lower()
    missing = "/api/v1/namespaces/kube-system/services/missing/proxy/"
    assert admin.refused("get", "--raw", missing) == 'Error from server (NotFound): services "missing" not found\n'
    nowhere = "Error from server (NotFound): the server could not find the requested resource\n"
    assert admin.refused("get", "--raw", "/nowhere") == nowhere


def test_proxy(admin: Kubectl) -> None:
    with admin.running("proxy", "--port=0") as output:
        started = re.fullmatch(r"Starting to serve on (127\.0\.0\.1:\d+)\n", output.readline())
        assert started is not None

        def fetch(path: str) -> bytes:
            with urllib.request.urlopen(f"http://{started[1]}{path}", timeout=10) as answer:
                body: bytes = answer.read()
            return body

        assert json.loads(fetch(f"{SEARCH}/_search?q=user:kimchy"))["hits"]["hits"]
        assert b'"cluster_name" : "portway-demo"' in fetch(f"{SEARCH}/_cluster/health?pretty=true")
        assert json.loads(fetch("/api/v1/namespaces/default"))["metadata"]["name"] == "default"
        hello = fetch("/api/v1/namespaces/default/services/hello:http/proxy/")
        assert hello
        assert fetch("/api/v1/namespaces/default/services/https:secure:https/proxy/")
