"""`portway gateway` in front of a cluster as a test sees it: the door's account there, callers' tokens, the process.

    with started(directory, "--demo", ...) as cluster:
        kubeconfig = door_account(cluster, directory)
        with gateway(directory, kubeconfig, "--via=direct") as door:
            assert door.request("GET", "/api/v1/pods", token(cluster, "ann"))[0] == 403

The account may do what a door needs and no more: it acts as others, asks reviews, and follows where services are.
"""

import asyncio
import base64
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portway.kube.serviceaccount import Signer
from portway.testing.cluster import Cluster, free_port, wait_until
from portway.testing.conversation import TIMEOUT, Wire
from portway.testing.demo import admin_token
from portway.testing.recording import quiet
from portway.testing.scripted import Handler, serving
from portway.up import certificates

HOME = "portway-door"
"""The namespace of the door's account."""
_CREDENTIAL_ID = ("credential-id", "node-name", "node-uid", "pod-name", "pod-uid")
RULES: list[dict[str, Any]] = [
    {
        "apiGroups": [""],
        "resources": ["users", "groups", "serviceaccounts"],
        "verbs": ["impersonate"],
    },
    {
        "apiGroups": ["authentication.k8s.io"],
        "resources": ["uids", *(f"userextras/authentication.kubernetes.io/{kind}" for kind in _CREDENTIAL_ID)],
        "verbs": ["impersonate"],
    },
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["services", "pods", "nodes", "namespaces"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
]
"""What a door needs for --authorization-mode=Webhook and --via=direct."""
FORWARDS = {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create", "get"]}
"""What it needs besides for --via=tunnel."""
ROLES = {
    "apiGroups": ["rbac.authorization.k8s.io"],
    "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
    "verbs": ["get", "list", "watch"],
}
"""What it needs besides for --authorization-mode=RBAC."""
_COLLECTIONS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Namespace": "/api/v1/namespaces",
}


def make(cluster: Cluster, path: str, name: str, **content: Any) -> None:
    """Creates an object; one that is there already stays."""
    status, body = cluster.request("POST", path, admin_token(cluster), {"metadata": {"name": name}, **content})
    assert status in (201, 409), body


def bind(cluster: Cluster, name: str, rules: list[dict[str, Any]], *subjects: dict[str, str]) -> None:
    """Grants rules everywhere."""
    make(cluster, _COLLECTIONS["ClusterRole"], name, rules=rules)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    make(cluster, _COLLECTIONS["ClusterRoleBinding"], name, roleRef=role, subjects=list(subjects))


def account(name: str, namespace: str = "default") -> dict[str, str]:
    """A service account as a binding's subject."""
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def user(name: str) -> dict[str, str]:
    """A user as a binding's subject."""
    return {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}


def group(name: str) -> dict[str, str]:
    """A group as a binding's subject."""
    return {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name}


def token(cluster: Cluster, name: str, namespace: str = "default", bound: dict[str, str] | None = None) -> str:
    """A token for a service account, which is made when it isn't there; `bound` is an object that it dies with."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    make(cluster, path, name)
    spec: dict[str, Any] = {"expirationSeconds": 3600} | ({"boundObjectRef": bound} if bound else {})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    status, body = cluster.request("POST", f"{path}/{name}/token", admin_token(cluster), request)
    assert status == 201, body
    made: str = json.loads(body)["status"]["token"]
    return made


def expired_token(cluster: Cluster, name: str, namespace: str = "default") -> str:
    """A token of a service account's that the cluster's own key signed, and whose time was over half an hour ago."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
    uid = json.loads(cluster.request("GET", path, admin_token(cluster))[1])["metadata"]["uid"]
    issuer = _issuer(token(cluster, name, namespace))
    key = (cluster.data_dir / "pki" / "sa.key").read_bytes()
    signer = Signer(key, issuer, clock=lambda: time.time() - 5400)
    return signer.sign(namespace=namespace, name=name, uid=uid, audiences=[issuer], expires_in=3600).token


def _issuer(made: str) -> str:
    payload = made.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    found: str = claims["iss"]
    return found


def pod_addresses(cluster: Cluster, *names: str) -> tuple[str, ...]:
    """Where pods of the namespace default are; waits until they are somewhere."""

    def address(name: str) -> str:
        found = cluster.request("GET", f"/api/v1/namespaces/default/pods/{name}", admin_token(cluster))
        return str(json.loads(found[1]).get("status", {}).get("podIP", "")) if found[0] == 200 else ""

    wait_until(lambda: all(map(address, names)), "the demo's pods have no addresses")
    return tuple(map(address, names))


def door_account(cluster: Cluster, directory: Path, *more: dict[str, Any], name: str = "door") -> Path:
    """A kubeconfig of a service account with RULES and `more`: what a gateway is given."""
    make(cluster, _COLLECTIONS["Namespace"], HOME)
    made = token(cluster, name, HOME)
    bind(cluster, f"portway:{name}", [*RULES, *more], account(name, HOME))
    return write_kubeconfig(directory / f"{name}.kubeconfig", cluster.server, made, cluster.data_dir / "pki" / "ca.crt")


def write_kubeconfig(path: Path, server: str, bearer: str, ca: Path) -> Path:
    """A kubeconfig for one server and token, for kubectl too."""
    cluster = {"server": server, "certificate-authority": str(ca)}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {"token": bearer} if bearer else {}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
                "current-context": "c",
            }
        )
    )
    return path


@contextmanager
def gateway(
    directory: Path,
    kubeconfig: Path,
    *flags: str,
    workers: int = 1,
    ready: Callable[[int], bool] | None = None,
    through: tuple[str, ...] = (),
) -> Iterator[Cluster]:
    """`portway gateway` with the demo's pod range; ready when this returns, drained and gone when the block ends.

    What it printed is in `output`; its authority, in `data_dir`, is `ca.crt`. `ready`: whether a status of /readyz
    will do; 200 by default. `through`: a command that runs it, as unshare(1).
    """
    directory.mkdir(exist_ok=True)
    port, output = free_port(), directory / "gateway.log"
    certificate, key = _certificate(directory)
    argv = [*through, sys.executable, "-m", "portway", "gateway", f"--kubeconfig={kubeconfig}", f"--secure-port={port}"]
    argv += [f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", "--bind-address=127.0.0.1"]
    argv += ["--cluster-cidr=127.64.0.0/10", f"--workers={workers}", *flags]
    with output.open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
    door = Cluster(f"https://127.0.0.1:{port}", kubeconfig, directory, process, output)
    enough = ready or (lambda status: status == 200)
    try:
        wait_until(lambda: process.poll() is not None or _answers(door, enough), f"not ready: {output.read_text()}")
        if process.poll() is not None:
            raise RuntimeError(f"portway gateway ended: {output.read_text()}")
        yield door
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _certificate(directory: Path) -> tuple[Path, Path]:
    authority = certificates.make_authority("door")
    pair = certificates.make_server_certificate(authority, ("127.0.0.1", "localhost", "*.default.localhost"))
    files = directory / "door.crt", directory / "door.key"
    files[0].write_bytes(pair.certificate)
    files[1].write_bytes(pair.key)
    (directory / "ca.crt").write_bytes(authority.certificate)
    return files


def _answers(door: Cluster, enough: Callable[[int], bool]) -> bool:
    try:
        return enough(readiness(door)[0])
    except (OSError, EOFError):
        return False


def readiness(door: Cluster) -> tuple[int, str]:
    """(status, text) of /readyz?verbose, asked by nobody in particular."""
    fields, body = ask(door, "GET", "/readyz?verbose")
    return int(fields[":status"]), body.decode()


def connect(door: Cluster, context: ssl.SSLContext | None = None) -> Wire:
    """A TLS connection to it; `context` may hold a client certificate."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = socket.create_connection(("127.0.0.1", int(door.server.rpartition(":")[2])), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as every HTTP client
    return Wire(context.wrap_socket(sock, server_hostname="localhost"))


def ask(
    door: Cluster,
    method: str,
    target: str,
    bearer: str = "",
    *,
    host: str = "",
    body: bytes = b"",
    context: ssl.SSLContext | None = None,
    lines: tuple[str, ...] = (),
) -> tuple[dict[str, str], bytes]:
    """One request on a connection of its own, its header `lines` as they are: (fields and ":status", body)."""
    wire = connect(door, context)
    try:
        wire.send(request_bytes(door, method, target, bearer, host=host, body=body, lines=lines))
        if method == "HEAD":
            start, fields = wire.head()
            return {**fields, ":status": start.split(" ")[1]}, b""
        status, fields, content = wire.response()
        return {**fields, ":status": str(status)}, content
    finally:
        wire.sock.close()


def request_bytes(
    door: Cluster,
    method: str,
    target: str,
    bearer: str = "",
    *,
    host: str = "",
    body: bytes = b"",
    lines: tuple[str, ...] = (),
) -> bytes:
    """A whole request."""
    fields = [f"{method} {target} HTTP/1.1", f"Host: {host or door.server.partition('://')[2]}", *lines]
    if bearer:
        fields.append(f"Authorization: Bearer {bearer}")
    if body or method in ("POST", "PUT", "PATCH"):
        fields.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(fields) + "\r\n\r\n").encode() + body


def upgrade_lines(protocol: str = "", kind: str = "websocket") -> tuple[str, ...]:
    """The header lines that ask for a WebSocket, or for another protocol."""
    lines = ["Connection: Upgrade", f"Upgrade: {kind}"]
    if kind == "websocket":
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    if protocol:
        lines.append(f"{'Sec-WebSocket-Protocol' if kind == 'websocket' else 'X-Stream-Protocol-Version'}: {protocol}")
    return tuple(lines)


def whoami(door: Cluster, bearer: str = "", **more: Any) -> dict[str, Any]:
    """Who the API server says the caller is; the answer of SelfSubjectReview, or the Status."""
    review = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()
    lines = (*more.pop("lines", ()), "Content-Type: application/json")
    _, body = ask(
        door,
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        bearer,
        body=review,
        lines=lines,
        **more,
    )
    found: dict[str, Any] = json.loads(body)
    user_info: dict[str, Any] = found["status"]["userInfo"] if isinstance(found.get("status"), dict) else found
    return user_info


@contextmanager
def served(api: Handler, tls: ssl.SSLContext) -> Iterator[str]:
    """A scripted API in a thread of its own; its URL."""
    loop, over, where = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    urls: list[str] = []

    async def run() -> None:
        async with serving(api, tls=tls) as url:
            urls.append(url)
            where.set()
            await over.wait()
        await quiet()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert where.wait(20)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)
        loop.close()
