"""The configuration that every pod has: the service account's token, the authority, the API's address.

Made as a kubeconfig's content, so that all else is the same. Source: client-go rest.InClusterConfig and
clientcmd.inClusterClientConfig.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAME = "in-cluster"
"""Of the context, cluster and user."""


def document(environ: Mapping[str, str], directory: Path = DIRECTORY) -> dict[str, Any] | None:
    """A kubeconfig's content; None outside of a pod. The namespace is $POD_NAMESPACE, else the account's."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    token, authority = directory / "token", directory / "ca.crt"
    if not (host and port and token.is_file()):
        return None
    cluster = {"server": f"https://{_bracketed(host)}:{port}"}
    if authority.is_file():
        cluster["certificate-authority"] = str(authority)
    context = {"cluster": NAME, "user": NAME, "namespace": environ.get("POD_NAMESPACE") or _namespace(directory)}
    return {
        "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": NAME, "context": context}],
    }


def _namespace(directory: Path) -> str:
    try:
        return (directory / "namespace").read_text("utf-8").strip() or "default"
    except (OSError, ValueError):
        return "default"


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
