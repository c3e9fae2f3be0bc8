"""`portway proxy` beside `kubectl proxy`, both in front of the same Portway with a token, each way to a service.

Port-forwarding leads to pods that somebody runs: it is measured on the demo's, whose programs are slower than nginx.
Beside them, what the cluster's own door answers with no proxy in front, and with HAProxy in the place of one: on a
machine that all of them share, that is how far another hop over TLS can get.
"""

import dataclasses
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from bench import portway
from bench.figures import Check, ratio
from bench.load import Saturation, saturate
from bench.peers import Door
from bench.portway import ADMIN, Portway
from bench.process import BenchError, accepts, free_port
from bench.programs import HAPROXY, KUBECTL
from bench.stage import Stage

TARGET = 5.0
"""Times kubectl proxy's requests per second."""
HELLO = "/api/v1/namespaces/default/services/hello:http/proxy"


def measure(stage: Stage, small: Portway, rounds: int, seconds: float) -> Iterator[Check]:
    """A check for each way."""
    yield from _compare(stage, small, ("direct", "through"), "", small.web.prefix, rounds, seconds)
    demo = portway.start(stage, "Portway, demo", {"web": stage.port}, "--demo")
    try:
        yield from _compare(stage, demo, ("tunnel",), ADMIN, HELLO, rounds, seconds)
    finally:
        portway.stop(stage, demo)


def first_byte(stage: Stage, cluster: Portway, rounds: int) -> dict[str, float]:
    """Seconds from the start of `portway proxy`, and of kubectl's, to the first byte of a service: medians."""
    path = KUBECTL.find()
    if path is None:
        raise BenchError(f"not installed: {KUBECTL.install}")
    flag = f"--kubeconfig={portway.kubeconfig(stage, cluster)}"
    commands: dict[str, list[str | Path]] = {
        "portway proxy": [sys.executable, "-m", "portway", "proxy", flag],
        "kubectl proxy": [path, flag, "proxy"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            port = free_port()
            door = Door(name, 0, port, cluster.web.prefix)
            started = time.monotonic()
            process = f"{name}-{port}".replace(" ", "-")
            stage.processes.start(process, [*command, f"--port={port}"])
            stage.processes.wait_for(process, partial(_answers, door.url("/", tls=False)), pause=0.002)
            found[name].append(time.monotonic() - started)
            stage.processes.stop(process)
    return {name: median(seconds) for name, seconds in found.items()}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.read(1))
    except OSError:
        return False


def _compare(
    stage: Stage, cluster: Portway, ways: tuple[str, ...], token: str, prefix: str, rounds: int, seconds: float
) -> Iterator[Check]:
    tokens = (token,) if token else ()
    alone = dataclasses.replace(
        cluster.web, prefix=prefix, headers={"Authorization": f"Bearer {token}"} if token else cluster.web.headers
    )
    kubectl = dataclasses.replace(portway.kubectl_proxy(stage, cluster, *tokens), prefix=prefix)
    kubeconfig = portway.kubeconfig(stage, cluster, *tokens)
    doors = {"kubectl": kubectl, "alone": alone, "HAProxy": _haproxy(stage, alone)}
    for way in ways:
        port = free_port()
        name = f"portway-proxy-{way}"
        flags = [f"--kubeconfig={kubeconfig}", f"--port={port}", f"--via={way}"]
        stage.processes.start(name, [sys.executable, "-m", "portway", "proxy", *flags])
        stage.processes.wait_for(name, partial(accepts, "127.0.0.1", port))
        doors[way] = Door(f"portway proxy, {way}", 0, port, prefix)
    found: dict[str, list[Saturation]] = {name: [] for name in doors}
    for door in doors.values():
        saturate(door, 1, tls=bool(door.tls_port))
    for _ in range(rounds):
        for name, door in doors.items():
            found[name].append(saturate(door, seconds, tls=bool(door.tls_port)))
    rates = {name: [round_.rate for round_ in rounds_] for name, rounds_ in found.items()}
    share = {name: ratio(rates[name], rates["kubectl"]) or 0.0 for name in rates}
    peer, peer_p99 = _median(found["kubectl"])
    for way in ways:
        rate, p99 = _median(found[way])
        yield Check(
            f"portway proxy, {way}: req/s, of kubectl proxy's {peer:,.0f} (p99 {peer_p99:.1f} ms)",
            f"≥ {TARGET:.0f}, p99 lower",
            f"{share[way]:.1f} ({rate:,.0f}, p99 {p99:.1f} ms); HAProxy {share['HAProxy']:.1f}, "
            f"no proxy {share['alone']:.1f}",
            share[way] >= TARGET and p99 < peer_p99,
        )


def _haproxy(stage: Stage, to: Door) -> Door:
    """HAProxy as such a proxy: plain HTTP in front, one process, TLS and the token behind."""
    port = free_port()
    config = f"""
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  http-request set-header Authorization "{to.headers["Authorization"]}"
  server one {to.address}:{to.tls_port} ssl ca-file {stage.cert} verify required
"""
    name = f"haproxy-{port}"
    stage.processes.start(name, [HAPROXY.find() or "haproxy", "-f", stage.write(f"{name}.cfg", config)])
    stage.processes.wait_for(name, partial(accepts, "127.0.0.1", port))
    return Door("HAProxy", 0, port, to.prefix)


def _median(rounds: list[Saturation]) -> tuple[float, float]:
    return median(r.rate for r in rounds), median(r.p99 for r in rounds)
