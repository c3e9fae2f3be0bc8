# mypy: disable-error-code="untyped-decorator"
"""A small kopf operator: every labelled Service has a ConfigMap that says where it is. `test_kopf.py` runs it.

    kopf run published.py --namespace=NS --standalone

The ConfigMap `where-NAME` follows the Service's ports; it belongs to the Service, so that it goes with it. The
annotation `example.com/published` says how many ports there were, and what leaves is noted in the ConfigMap `left`.
"""

import os
from typing import Any

import kopf
import kubernetes

LABEL = {"publish": "yes"}


@kopf.on.startup()
def configure(settings: Any, **_: Any) -> None:
    settings.persistence.finalizer = "example.com/published"
    settings.watching.reconnect_backoff = 0.1
    settings.networking.error_backoffs = [0.1] * 100


def _core() -> Any:
    kubernetes.config.load_kube_config(os.environ["KUBECONFIG"])
    return kubernetes.client.CoreV1Api()


@kopf.on.create("", "v1", "services", labels=LABEL)
@kopf.on.update("", "v1", "services", labels=LABEL, field="spec.ports")
@kopf.on.resume("", "v1", "services", labels=LABEL)
def publish(body: Any, name: str, namespace: str, spec: Any, patch: Any, **_: Any) -> None:
    ports = ",".join(str(port["port"]) for port in spec.get("ports", []))
    wanted = {"metadata": {"name": f"where-{name}", "namespace": namespace}, "data": {"ports": ports}}
    kopf.adopt(wanted)
    try:
        _core().create_namespaced_config_map(namespace, wanted)
    except kubernetes.client.ApiException as error:
        if error.status != 409:
            raise
        _core().patch_namespaced_config_map(
            f"where-{name}", namespace, wanted, _content_type="application/merge-patch+json"
        )
    patch.metadata.annotations["example.com/published"] = str(len(spec.get("ports", [])))
    kopf.info(body, reason="Published", message=f"At {ports}")


@kopf.on.delete("", "v1", "services", labels=LABEL)
def leave(name: str, namespace: str, **_: Any) -> None:
    wanted = {"metadata": {"name": f"left-{name}", "namespace": namespace}, "data": {}}
    try:
        _core().create_namespaced_config_map(namespace, wanted)
    except kubernetes.client.ApiException as error:
        if error.status != 409:
            raise
