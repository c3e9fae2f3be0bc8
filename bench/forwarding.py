"""`python -m bench.forwarding`: `portway forward` beside `kubectl port-forward`, to one pod of an embedded cluster.

Part of `make bench`, as checks without a target. Three figures each: megabytes a second of one stream and of fifty, and
connections a second (connect, one byte there and back, close; eight at a time). The pod's program is a process of its
own.
"""

import contextlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Check
from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import is_ready, pod
from portway.testing.kubectl import binaries, label

SECONDS = 4.0
MANY = 50
OURS = "portway forward"
_FLOOD = b"f" * (1 << 18)


def program(address: str, ready: "multiprocessing.Queue[int]") -> None:
    """The pod's: "f" is answered with bytes without end, everything else with itself."""
    with socket.create_server((address, 0), backlog=512) as server:
        ready.put(server.getsockname()[1])
        while True:
            threading.Thread(target=_serve, args=(server.accept()[0],), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    with connection:
        try:
            first = connection.recv(1)
            while first == b"f":
                connection.sendall(_FLOOD)
            connection.sendall(first)
            connection.recv(1)
        except OSError:
            pass


def throughput(port: int, streams: int) -> float:
    """Megabytes a second over so many connections."""
    received = [0] * streams
    until = time.monotonic() + SECONDS

    def read(index: int) -> None:
        buffer = bytearray(1 << 18)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
            sock.sendall(b"f")
            while time.monotonic() < until and (size := sock.recv_into(buffer)):
                received[index] += size

    began = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(read, range(streams)))
    return sum(received) / (time.monotonic() - began) / 1e6


def rate(port: int) -> float:
    """Connections a second."""
    until = time.monotonic() + SECONDS

    def connect(_: int) -> int:
        count = 0
        while time.monotonic() < until:
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                sock.sendall(b"x")
                count += len(sock.recv(1))
        return count

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(connect, range(8))) / SECONDS


@contextmanager
def forwarder(cluster: Cluster, *argv: str) -> Iterator[int]:
    """A forwarding program and its local port."""
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    command = [*argv, "--address", "127.0.0.1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        found = re.search(r":(\d+) ->", running.stdout.readline())
        drain = threading.Thread(target=lambda: list(running.stdout or ()), daemon=True)
        drain.start()
        try:
            yield int(found[1]) if found else 0
        finally:
            running.kill()


def measured() -> Iterator[tuple[str, tuple[float, float, float]]]:
    """(program, its figures): ours first, then the oldest and newest kubectls."""
    with tempfile.TemporaryDirectory() as directory, started(Path(directory), "--demo", workers=1) as cluster:
        wait_until(lambda: "spec" in pod(cluster, "hello-0") and is_ready(pod(cluster, "hello-0")), "no pod")
        ready: multiprocessing.Queue[int] = multiprocessing.Queue()
        address = pod(cluster, "hello-0")["status"]["podIP"]
        server = multiprocessing.Process(target=program, args=(address, ready), daemon=True)
        server.start()
        remote = ready.get(timeout=10)
        ours = (sys.executable, "-m", "portway", "forward", "pod/hello-0", f":{remote}")
        theirs = {label(one): (str(one), "port-forward", "pod/hello-0", f":{remote}") for one in binaries()}
        wanted = {name: argv for name, argv in theirs.items() if name.endswith((".27", ".33")) or ".venv" in name}
        for name, argv in {OURS: ours, **wanted}.items():
            row = []
            for measure in (lambda port: throughput(port, 1), lambda port: throughput(port, MANY), rate):
                with forwarder(cluster, *argv) as port:  # a fresh one: kubectl may stand still after a client's abort
                    row.append(measure(port))
            yield name, (row[0], row[1], row[2])
        server.kill()


def checks() -> Iterator[Check]:
    """Ours beside each kubectl."""
    figures = dict(measured())
    ours = figures.pop(OURS)
    for name, theirs in figures.items():
        shares = ", ".join(f"{mine / other:.2f}" if other else "-" for mine, other in zip(ours, theirs, strict=True))
        what = f"portway forward: MB/s of one stream, of {MANY}, connections/s, of {name}'s ({_row(theirs)})"
        yield Check(what, "", f"{shares} ({_row(ours)})", None)


def _row(figures: tuple[float, float, float]) -> str:
    return ", ".join(f"{figure:.0f}" for figure in figures)


def main() -> None:
    """Measure and print."""
    print(f"{'':24}{'1 stream MB/s':>16}{f'{MANY} streams MB/s':>18}{'connections/s':>16}")
    for name, row in measured():
        print(f"{name:24}{row[0]:16.0f}{row[1]:18.0f}{row[2]:16.0f}", flush=True)


if __name__ == "__main__":
    main()
