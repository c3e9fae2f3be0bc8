"""A node port of the embedded cluster beside no proxy at all and beside HAProxy in TCP mode: three figures each.

Requests a second over kept-alive connections, connections a second (one request each, which the server ends), and the
speed of 1 GiB on one connection. Nobody reads what passes: it is bytes for all of them.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial

from bench import cluster
from bench.figures import HAPROXY, PORTWAY, Check, ratio
from bench.load import download, saturate
from bench.peers import Door
from bench.portway import Portway
from bench.process import BenchError, accepts, free_port
from bench.programs import HAPROXY as PROGRAM
from bench.stage import FILE_SIZE, Stage

NODE_PORT = 30080
DIRECT = "direct"
Measured = Mapping[str, list[float]]


def measure(stage: Stage, small: Portway, rounds: int, seconds: float) -> Iterator[Check]:
    """A check for each figure; the doors in turns."""
    doors = {DIRECT: Door(DIRECT, 0, stage.port, address=stage.address), PORTWAY: _node_port(stage, small)}
    doors[HAPROXY] = _haproxy(stage)
    for what, unit, once in (
        ("requests over kept-alive connections", "req/s", partial(_requests, seconds=seconds)),
        ("connections", "connections/s", partial(_connections, seconds=seconds)),
        ("1 GiB on one connection", "GB/s", _body),
    ):
        found: dict[str, list[float]] = {name: [] for name in doors}
        for door in doors.values():
            once(door)
        for _ in range(rounds):
            for name, door in doors.items():
                found[name].append(once(door))
        yield _check(what, unit, found)


def _check(what: str, unit: str, found: Measured) -> Check:
    shares = {name: ratio(found[PORTWAY], found[name]) or 0.0 for name in (DIRECT, HAPROXY)}
    form = ",.2f" if unit == "GB/s" else ",.0f"
    medians = {name: format(sorted(rounds)[len(rounds) // 2], form) for name, rounds in found.items()}
    told = f"{medians[PORTWAY]} {unit}; {shares[DIRECT]:.2f} of direct ({medians[DIRECT]})"
    return Check(f"node port: {what}", "", f"{told}, {shares[HAPROXY]:.2f} of HAProxy ({medians[HAPROXY]})", None)


def _requests(door: Door, seconds: float) -> float:
    return saturate(door, seconds, tls=False).rate


def _connections(door: Door, seconds: float) -> float:
    return saturate(dataclasses.replace(door, headers={"Connection": "close"}), seconds, tls=False).rate


def _body(door: Door) -> float:
    return download(door, FILE_SIZE, tls=False)


def _node_port(stage: Stage, small: Portway) -> Door:
    small.apply(cluster.node_port("wire", NODE_PORT, stage.address, stage.port))
    stage.processes.wait_for(small.name.lower(), partial(accepts, "127.0.0.1", NODE_PORT))
    return Door(PORTWAY, 0, NODE_PORT)


def _haproxy(stage: Stage) -> Door:
    """In TCP mode with two threads."""
    path = PROGRAM.find()
    if path is None:
        raise BenchError(f"not installed: {PROGRAM.install}")
    port = free_port()
    config = f"""
global
  nbthread 2
  maxconn 4096
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server one {stage.address}:{stage.port}
"""
    stage.processes.start("haproxy-tcp", [path, "-f", stage.write("haproxy-tcp.cfg", config)])
    stage.processes.wait_for("haproxy-tcp", partial(accepts, "127.0.0.1", port))
    return Door(HAPROXY, 0, port)
