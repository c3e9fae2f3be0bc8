"""The demo's programs and the objects that come with them: services, and what the user `demo` may do. Values only."""

from typing import Any

from portway.kube.objects import Object
from portway.node.workload import Manifest, Workload

LABEL = "portway.dev/demo"
DEMO_USER = "demo"
_PROGRAMS = "portway.node.demo"

WORKLOADS = (
    Workload(
        namespace="kube-system",
        name="elasticsearch-logging",
        module=f"{_PROGRAMS}.elasticsearch",
        port=9200,
        port_name="db",
        ready_path="/_cluster/health",
        labels={"k8s-app": "elasticsearch-logging"},
    ),
    Workload(
        namespace="kube-system",
        name="dashboard",
        module=f"{_PROGRAMS}.dashboard",
        port=5601,
        labels={"k8s-app": "dashboard"},
        uses=(("kube-system", "elasticsearch-logging"),),
    ),
    Workload(
        namespace="default",
        name="hello",
        module=f"{_PROGRAMS}.hello",
        port=8080,
        port_name="web",
        replicas=2,
        ready_path="/",
        labels={"app": "hello"},
    ),
    Workload(
        namespace="default",
        name="secure",
        module=f"{_PROGRAMS}.secure",
        port=8443,
        ready_path="/",
        ready_scheme="https",
        labels={"app": "secure"},
    ),
    Workload(namespace="default", name="echo-ws", module=f"{_PROGRAMS}.echo", port=8080, labels={"app": "echo-ws"}),
)


def _service(namespace: str, name: str, title: str, port: Object, selector: dict[str, str]) -> Manifest:
    labels = {LABEL: "true", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": title}
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels | selector},
        "spec": {"selector": selector, "ports": [port]},
    }
    return Manifest(f"/api/v1/namespaces/{namespace}/services", service)


def _role() -> Object:
    """Reach every service in every way, and see what there is; nothing else."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "portway:demo", "labels": {LABEL: "true"}},
        "rules": [
            _rule(["services/proxy"], ["get", "create", "update", "patch", "delete"]),
            _rule(["namespaces", "services", "endpoints", "pods"], ["get", "list", "watch"]),
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        ],
    }


def _rule(resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [""], "resources": resources, "verbs": verbs}


def _binding() -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "portway:demo", "labels": {LABEL: "true"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "portway:demo"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DEMO_USER}],
    }


_RBAC = "/apis/rbac.authorization.k8s.io/v1"

MANIFESTS = (
    Manifest(f"{_RBAC}/clusterroles", _role()),
    Manifest(f"{_RBAC}/clusterrolebindings", _binding()),
    _service(
        "kube-system",
        "elasticsearch-logging",
        "Elasticsearch",
        {"port": 9200, "targetPort": "db", "protocol": "TCP"},
        {"k8s-app": "elasticsearch-logging"},
    ),
    _service(
        "kube-system",
        "dashboard",
        "Dashboard",
        {"port": 80, "targetPort": 5601, "protocol": "TCP"},
        {"k8s-app": "dashboard"},
    ),
    _service(
        "default",
        "hello",
        "Hello",
        {"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"},
        {"app": "hello"},
    ),
    _service(
        "default",
        "secure",
        "Secure",
        {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
        {"app": "secure"},
    ),
    _service(
        "default",
        "echo-ws",
        "Echo",
        {"name": "ws", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "kubernetes.io/ws"},
        {"app": "echo-ws"},
    ),
)

WITHDRAWN = (("/api/v1/services", f"{_RBAC}/clusterrolebindings", f"{_RBAC}/clusterroles"), f"{LABEL}=true")
"""What to take away again in a cluster without the demo."""
