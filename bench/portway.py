"""Portway as it is measured: `portway up` with two workers, TLS, a token, RBAC and audit on; and kubectl's proxy in
front of it.
"""

import asyncio
import base64
import dataclasses
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import cluster
from bench.peers import Door
from bench.process import BenchError, accepts, descendants, free_port, listeners
from bench.programs import KUBECTL
from bench.stage import Stage

WORKERS = 2
SERVICES = 10
"""Of the small cluster, the measured ones among them."""
_READY_WITHIN = 300.0
ADMIN, _USER = "bench-admin-token", "bench-user-token"


@dataclass(frozen=True)
class Portway:
    """A running one. `web` is the door to the backend; `door(service)` to others of the cluster."""

    name: str
    pid: int
    tls_port: int
    plain_port: int
    command: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def web(self) -> Door:
        return self.door("web")

    def door(self, service: str) -> Door:
        prefix = f"/api/v1/namespaces/{cluster.NAMESPACE}/services/{service}/proxy"
        return Door(self.name, self.tls_port, self.plain_port, prefix, {"Authorization": f"Bearer {_USER}"})

    def data(self, stage: Stage) -> Path:
        """Its data directory."""
        return _data(stage, self.name)

    def workers(self) -> list[int]:
        """The process ids of the gateway's workers: those that hold the TLS listener."""
        return listeners(descendants(self.pid), self.tls_port)

    def apply(self, writes: Iterable[cluster.Write], *, ordered: bool = True) -> None:
        """Writes to its API, in order or many at once."""

        async def run() -> None:
            async with cluster.api(self.url, ADMIN) as session:
                await (cluster.apply if ordered else cluster.apply_all)(session, writes)

        asyncio.run(run())


def start(stage: Stage, name: str, services: dict[str, int], *flags: str) -> Portway:
    """A fresh cluster with ten services, `services` (name: the backend's port) among them; ready to answer."""
    tls, plain = free_port(), free_port()
    label = name.replace(" ", "-").lower()
    tokens = f'{ADMIN},bench-admin,1,"system:masters"\n{_USER},bench,2\n'
    settings = {
        "data-dir": _data(stage, name),
        "secure-port": tls,
        "insecure-port": plain,
        "tls-cert-file": stage.cert,
        "tls-private-key-file": stage.key,
        "token-auth-file": stage.write(f"{label}.tokens", tokens),
        "workers": WORKERS,
        "audit-log-path": stage.directory / f"{label}.audit",
        "kubeconfig": stage.directory / f"{label}.kubeconfig",
        "nodeport-addresses": "127.0.0.0/8",
        "service-interface": "none",
    }
    command = [sys.executable, "-m", "portway", "up", *(f"--{flag}={value}" for flag, value in settings.items())]
    portway = restart(stage, Portway(name, 0, tls, plain, (*command, *flags)))
    portway.apply(cluster.base(stage.address, services, "bench"))
    portway.apply(cluster.fillers(range(SERVICES - len(services))))
    return portway


def restart(stage: Stage, portway: Portway, *, wait: bool = True) -> Portway:
    """Starts one that was stopped, on the same data and ports; `wait` until it is ready."""
    label = portway.name.replace(" ", "-").lower()
    started = dataclasses.replace(portway, pid=stage.processes.start(label, portway.command))
    if wait:
        ports = (portway.tls_port, portway.plain_port)
        stage.processes.wait_for(label, lambda: all(accepts("127.0.0.1", port) for port in ports), _READY_WITHIN)
        stage.processes.wait_for(label, lambda: _is_ready(started), _READY_WITHIN)
    return started


def _data(stage: Stage, name: str) -> Path:
    return stage.directory / f"{name.replace(' ', '-').lower()}.data"


def stop(stage: Stage, portway: Portway) -> None:
    """Ends it; the stage would at its end."""
    stage.processes.stop(portway.name.replace(" ", "-").lower())


def _is_ready(portway: Portway) -> bool:
    try:
        portway.apply([("GET", "/readyz", {})])
    except (BenchError, OSError):
        return False
    return True


def kubeconfig(stage: Stage, portway: Portway, token: str = _USER) -> Path:
    """One for the measuring user, or whose token it is."""
    authority = base64.b64encode(stage.cert.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": portway.url, "certificate-authority-data": authority}}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    }
    return stage.write(f"{portway.name.replace(' ', '-').lower()}.user.kubeconfig", json.dumps(config))


def kubectl_proxy(stage: Stage, portway: Portway, token: str = _USER) -> Door:
    """`kubectl proxy` for the measuring user; BenchError when there is no kubectl."""
    path = KUBECTL.find()
    if path is None:
        raise BenchError(f"not installed: {KUBECTL.install}")
    port = free_port()
    name = f"kubectl-proxy-{port}"
    stage.processes.start(name, [path, f"--kubeconfig={kubeconfig(stage, portway, token)}", "proxy", f"--port={port}"])
    stage.processes.wait_for(name, lambda: accepts("127.0.0.1", port))
    return Door("kubectl proxy → Portway", 0, port, portway.web.prefix)
