"""An embedded cluster of real processes for a test: started on free ports, waited for, and ended by its process id."""

import errno
import functools
import json
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START = 90.0
"""Seconds that a machine may need which has other things to do; usually it is two."""
LOOPBACK = ("--nodeport-addresses=127.0.0.0/8", "--service-interface=none")
"""What keeps services' own ports on loopback, and the machine's interfaces as they are."""


@dataclass(frozen=True)
class Cluster:
    """Where it is. `kubeconfig` is the administrator's; `output` is what `up` printed so far, a file."""

    server: str
    kubeconfig: Path
    data_dir: Path
    process: subprocess.Popen[bytes]
    output: Path

    def request(self, method: str, path: str, token: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """(status, body) of one request over TLS; JSON bodies."""
        data = None if body is None else json.dumps(body).encode()
        fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.server + path, data, fields, method=method)
        try:
            with urllib.request.urlopen(request, context=_no_verification(), timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def settle(self, path: str, token: str) -> None:
        """Waits until a path answers with something else than a refusal of the router (404, 503)."""
        wait_until(lambda: self.request("GET", path, token)[0] not in (404, 503), f"{path} did not become reachable")


@functools.cache
def _no_verification() -> ssl.SSLContext:
    """Without authorities, which take 40 ms to load: who waits for a cluster asks fifty times a second."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


PORTS = range(10000, 30000)
"""Below what the kernel hands out by itself (ip_local_port_range) and what node ports take: a port that was free stays
so until it is used, whatever other tests and their connections do meanwhile.
"""
_claims: list[socket.socket] = []


def free_port() -> int:
    """A TCP port of this machine's 127.0.0.1 that nobody listens on, and that no test is told again.

    It is claimed by an abstract Unix socket of its number, which this process holds until it ends: a program may take
    a second to listen on its port, and tests that run meanwhile ask for ports as well.
    """
    while True:
        port, claim = secrets.choice(PORTS), socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0portway-test-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _claims.append(claim)
            return port


def wait_until(condition: Any, failure: str, seconds: float = START) -> None:
    """Polls until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.02)


def accepts(address: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def self_signed(directory: Path, name: str) -> tuple[Path, Path]:
    """A certificate and key for tests, PEM files."""
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@contextmanager
def started(
    directory: Path,
    *flags: str,
    workers: int = 2,
    reach: tuple[str, ...] = LOOPBACK,
    through: tuple[str, ...] = (),
    address: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[Cluster]:
    """`portway up` with a data directory of its own; ready when this returns, drained and gone when the block ends.

    `reach`: flags that say which of the machine's addresses services are served on. Others than LOOPBACK are for
    network namespaces. `through`: a command that runs it, as setpriv(1). `address`, `port`: the door's.
    """
    port = port or free_port()
    data = directory / "data"
    output = directory / "up.log"
    argv = [*through, sys.executable, "-m", "portway", "up", "--data-dir", str(data)]
    argv += ["--bind-address", address, "--secure-port", str(port)]
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*argv, "--workers", str(workers), *reach, *flags], stdout=log, stderr=subprocess.STDOUT
        )
    host = f"[{address}]" if ":" in address else address
    cluster = Cluster(f"https://{host}:{port}", data / "admin.kubeconfig", data, process, output)
    try:
        wait_until(lambda: process.poll() is not None or _ready(cluster), f"not ready: {output.read_text()}")
        if process.poll() is not None:
            raise RuntimeError(f"portway up ended: {output.read_text()}")
        yield cluster
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(cluster: Cluster) -> bool:
    try:
        return cluster.request("GET", "/readyz", "")[0] == 200
    except OSError:
        return False
