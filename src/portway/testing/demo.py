"""The demo cluster as a test sees it, and what tests ask of running processes."""

import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portway.testing.cluster import LOOPBACK, Cluster, free_port, started, wait_until

PORTWAY = (sys.executable, "-m", "portway")
ELASTIC = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"
HELLO = "/api/v1/namespaces/default/services/hello/proxy/"


def portway(cluster: Cluster, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command line of ours on the cluster."""
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    return subprocess.run(
        [*PORTWAY, *arguments], env=environment, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def ask(url: str, *, user: str = "", token: str = "", ca: Path | None = None, **headers: str) -> tuple[int, str]:
    """(status, body) of a GET; TLS is verified against `ca`."""
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def admin_token(cluster: Cluster) -> str:
    """The administrator's bearer token."""
    return (cluster.data_dir / "admin-token.csv").read_text().partition(",")[0]


def get(cluster: Cluster, path: str) -> tuple[int, str]:
    """A GET as the administrator, over verified TLS."""
    return ask(cluster.server + path, token=admin_token(cluster), ca=cluster.data_dir / "pki" / "ca.crt")


def pod(cluster: Cluster, name: str) -> dict[str, Any]:
    """A pod of the namespace default."""
    found: dict[str, Any] = json.loads(get(cluster, f"/api/v1/namespaces/default/pods/{name}")[1])
    return found


def is_ready(found: dict[str, Any]) -> bool:
    """Whether a pod or node has the condition Ready."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def descendants(pid: int) -> set[int]:
    """Every process below one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = set(), [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found.update(children)
        todo += children
    return found


def running(pids: set[int]) -> set[int]:
    """Those that still run; a zombie doesn't."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                found.add(pid)
    return found


def child(cluster: Cluster, module: str) -> int:
    """The child of `up` that runs a module."""
    for pid in descendants(cluster.process.pid):
        with contextlib.suppress(OSError):
            if module in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
    raise LookupError(module)


@contextlib.contextmanager
def demo(directory: Path, *flags: str) -> Iterator[tuple[Cluster, str]]:
    """A demo cluster that has printed what it prints, and that text."""
    with started(directory, "--demo", "--insecure-port", str(free_port()), *flags) as cluster:
        wait_until(lambda: "Ctrl+C" in cluster.output.read_text(), "the banner was not printed")
        yield cluster, cluster.output.read_text()


def up(*flags: str) -> subprocess.CompletedProcess[str]:
    """`portway up` that is expected to end by itself."""
    return subprocess.run([*PORTWAY, "up", *LOOPBACK, *flags], capture_output=True, text=True, timeout=60, check=False)
