"""A network of one's own for a test: two namespaces with a wire between them. Needs root, and leaves nothing.

What is made inside `entered` (sockets, processes) belongs to that namespace, wherever it is used afterwards.
"""

import contextlib
import ctypes
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.testing.cluster import Cluster

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

SERVER4, CLIENT4 = "192.0.2.1", "192.0.2.2"
SERVER6, CLIENT6 = "2001:db8::1", "2001:db8::2"


def possible() -> bool:
    """Whether such a network can be made here."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0


@dataclass(frozen=True)
class Network:
    """Names of the namespaces; the server's addresses on the wire are SERVER4 and SERVER6."""

    server: str
    client: str


@contextmanager
def network() -> Iterator[Network]:
    """A server and a client that reach each other; each routes what it doesn't know to the other."""
    made = Network(f"pw-{os.getpid()}-server", f"pw-{os.getpid()}-client")
    with contextlib.ExitStack() as stack:
        for name in (made.server, made.client):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", made.server, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", made.client)
        for name, v4, v6 in ((made.server, SERVER4, SERVER6), (made.client, CLIENT4, CLIENT6)):
            ip("-n", name, "address", "add", f"{v4}/24", "dev", "wire")
            ip("-n", name, "address", "add", f"{v6}/64", "dev", "wire", "nodad")
            ip("-n", name, "link", "set", "wire", "up")
        ip("-n", made.client, "route", "add", "default", "via", SERVER4)
        ip("-n", made.client, "route", "add", "default", "via", SERVER6)
        yield made


def ip(*argv: str) -> str:
    """What ip(8) prints."""
    return subprocess.run(["ip", *argv], check=True, capture_output=True, text=True, timeout=10).stdout


def addresses(namespace: str) -> set[str]:
    """Addresses of a namespace's interfaces, but for link-local ones; IPv4 ones by routes of their own too."""
    lines = ip("-n", namespace, "-o", "address", "show").splitlines()
    found = {f"{line.split()[1]} {line.split()[3]}" for line in lines if "scope link" not in line}
    routes = ip("-n", namespace, "-o", "route", "show", "table", "local").splitlines()
    words = [line.split() for line in routes if line.startswith("local ") and " proto kernel " not in line]
    return found | {f"{one[one.index('dev') + 1]} {one[1]}/32" for one in words}


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """This thread, and the processes and threads that it starts, are in a namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    inside = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        _enter(inside)
        yield
    finally:
        _enter(before)
        os.close(before)
        os.close(inside)


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def api_version(made: Network, cluster: Cluster, address: str, port: int, name: str = "") -> str:
    """What a client on the other machine is answered by a cluster's API, the whole response; "" for nobody.

    It verifies the door with the cluster's authority, as a pod does that calls it `name`, by default its address.
    """
    authority = ssl.create_default_context(cafile=str(cluster.data_dir / "pki" / "ca.crt"))
    try:
        with entered(made.client):
            sock = socket.create_connection((address, port), 10)
    except OSError:
        return ""
    with authority.wrap_socket(sock, server_hostname=name or address) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.read().decode()
