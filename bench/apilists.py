"""Lists of many pods, whole, as a Table and as metadata only: milliseconds to the last byte, and how many bytes."""

import json
import time
from statistics import median

from bench.cluster import NAMESPACE
from bench.figures import Check
from bench.ways import Way, fetch

FORMS = {
    "whole": "application/json",
    "Table": "application/json;as=Table;v=v1;g=meta.k8s.io",
    "metadata only": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
}
_PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"


def pod(number: int) -> bytes:
    """A pod as a Deployment would make it, about 2 KB as stored."""
    app = f"shop-{number // 10}"
    container = {
        "name": "web",
        "image": "registry.example.com/shop/web:1.14.2",
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}"} for n in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/shop"}],
    }
    metadata = {
        "name": f"listed-{number:05d}",
        "labels": {
            "app.kubernetes.io/name": app,
            "app.kubernetes.io/part-of": "shop",
            "pod-template-hash": "7d4b9c6f5d",
        },
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
    }
    spec = {"nodeName": "bench", "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    return json.dumps({"metadata": metadata, "spec": spec}).encode()


def creations(way: Way, count: int) -> list[bytes]:
    """The requests that make the pods."""
    return [way.request("POST", _PATH, pod(number)) for number in range(count)]


def measure(way: Way, count: int, rounds: int) -> Check:
    """Each form in turns."""
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    sizes: dict[str, int] = {}
    with way.open() as connection:
        for _ in range(rounds):
            for form, accept in FORMS.items():
                started = time.perf_counter()
                _, body = fetch(connection, way.request("GET", f"{_PATH}?limit={2 * count}", accept=accept))
                times[form].append((time.perf_counter() - started) * 1e3)
                sizes[form] = len(body)
    found = ", ".join(f"{form} {median(times[form]):.0f} ms ({sizes[form] / 1e6:.1f} MB)" for form in FORMS)
    return Check(f"list of {count:,} pods, {way.name}", "", found, None)
