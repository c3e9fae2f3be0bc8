"""A door on real sockets for conversations: the test is the client and the backend, byte by byte, and asserts every
line between.

The door runs in a thread with a view that the test fills; no API server, no processes. Everything times out in seconds.
"""

import asyncio
import dataclasses
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import uvloop

from portway.client.api import ApiClient
from portway.client.view import ClusterView
from portway.gateway.assembly import Followed
from portway.gateway.authentication import Authenticators
from portway.gateway.filter import Filter
from portway.gateway.health import Health
from portway.gateway.hosts import Hosts
from portway.gateway.http1 import Downstream
from portway.gateway.localanswers import LocalAnswers
from portway.gateway.pipeline import Door
from portway.gateway.record import Recorder
from portway.gateway.settings import Authentication, ClusterSettings, GatewaySettings, Limits, Record
from portway.kube.errors import not_found

TIMEOUT = 20.0
TOKENS = """admin-token,admin,u1,system:masters
reader-token,reader,u2
named-token,carol,u3,named
nobody-token,nobody,u4
"""
_ADDRESSES = (f"127.90.{i // 250}.{i % 250 + 1}" for i in itertools.count())


class Wire:
    """One end of a TCP connection, blocking, with a deadline on everything."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """All of it, now."""
        self.sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Each byte in a segment of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            self.sock.sendall(data[i : i + 1])

    def until(self, mark: bytes) -> bytes:
        """Reads up to and including a mark."""
        while mark not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"ended after {self._buffer!r}")
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        """Reads so many bytes."""
        while len(self._buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"ended after {self._buffer!r}")
            self._buffer += data
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def rest(self) -> bytes:
        """Reads to the end of the stream; a reset counts as one."""
        try:
            while data := self.sock.recv(65536):
                self._buffer += data
        except ConnectionError:
            pass
        found, self._buffer = self._buffer, b""
        return found

    def is_open(self, seconds: float = 0.15) -> bool:
        """Whether the peer keeps the connection and says nothing for a moment."""
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        finally:
            self.sock.settimeout(TIMEOUT)
        self._buffer += data
        return False

    def head(self) -> tuple[str, dict[str, str]]:
        """A message's start line and fields (names lower-cased, repeated ones joined by a newline)."""
        start, *lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            key = name.lower()
            fields[key] = f"{fields[key]}\n{value.strip()}" if key in fields else value.strip()
        return start, fields

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """A final response with its body."""
        while True:
            start, fields = self.head()
            status = int(start.split(" ")[1])
            if status >= 200 or status == 101:
                break
        if status in (101, 204, 304):
            return status, fields, b""
        if "content-length" in fields:
            return status, fields, self.exactly(int(fields["content-length"]))
        if fields.get("transfer-encoding") == "chunked":
            return status, fields, self.chunks()
        return status, fields, self.rest()

    def chunks(self) -> bytes:
        """A chunked body; the trailer section is kept in `trailers`."""
        body = b""
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        self.trailers = b""
        while (line := self.until(b"\r\n")) != b"\r\n":
            self.trailers += line
        return body

    def half_close(self) -> None:
        """Sends the end of our direction."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        """Ends politely."""
        self.sock.close()


class Backend:
    """A pod's listening socket, or the API's (a path); the test accepts and answers by hand."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None) -> None:
        if address.startswith("/"):
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(address)
            self.listener.listen()
            self.address, self.port = address, 0
        else:
            self.listener = socket.create_server((address, 0))
            self.address, self.port = self.listener.getsockname()
        self.listener.settimeout(TIMEOUT)
        self.context = context
        self._accepted: list[Wire] = []

    def accept(self) -> Wire:
        """The next connection of the door."""
        sock, _ = self.listener.accept()
        if self.context is not None:
            sock = self.context.wrap_socket(sock, server_side=True)
        wire = Wire(sock)
        self._accepted.append(wire)
        return wire

    def is_dialled(self, seconds: float = 0.15) -> bool:
        """Whether a connection arrives within a moment (it is closed at once)."""
        self.listener.settimeout(seconds)
        try:
            sock, _ = self.listener.accept()
        except TimeoutError:
            return False
        finally:
            self.listener.settimeout(TIMEOUT)
        sock.close()
        return True

    def close(self) -> None:
        """Connections are refused from now on."""
        self.listener.close()

    def shutdown(self) -> None:
        """Closes everything."""
        self.close()
        for wire in self._accepted:
            wire.close()


class _Objects:
    """The API, as far as the door asks for single objects."""

    def __init__(self, objects: dict[str, dict[str, Any]]) -> None:
        self._objects = objects

    async def get(self, path: str) -> dict[str, Any]:
        """The object at a path."""
        try:
            return self._objects[path]
        except KeyError:
            *_, plural, name = path.split("/")
            raise not_found(plural, name) from None


class RunningDoor:
    """The door, and what a test needs to know of it."""

    def __init__(self, settings: GatewaySettings, answers: Callable[[ClusterView], LocalAnswers] | None = None) -> None:
        """`answers` makes what the door answers itself; health checks by default."""
        self.settings = settings
        self._answers = answers
        self.view: ClusterView
        self.objects: dict[str, dict[str, Any]] = {}
        """What the door gets when it asks the API for a path; everything else is not found."""
        self.port = 0
        self.door: Door
        self.loop: asyncio.AbstractEventLoop
        self._stack = ExitStack()
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="door")

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        assert self._ready.wait(TIMEOUT)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ends the thread."""
        self._stack.close()
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            uvloop.run(self._main())
        except Exception as error:
            self._failure = error
            self._ready.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        settings = self.settings
        followed = Followed(settings.clusters[0], cast("ApiClient", _Objects(self.objects)))
        self.view = followed.cluster.view
        recorder = Recorder(settings.record, 0)
        authenticators = Authenticators(settings.authentication, self.view)
        local = self._answers(self.view) if self._answers is not None else Health(self.view, recorder)
        self.door = Door(
            settings,
            followed.cluster,
            authenticators,
            recorder,
            local,
            hosts=Hosts(settings.host_bases) if settings.host_bases else None,
            filter=Filter(settings.filter) if settings.filter is not None else None,
        )
        server = await self.loop.create_server(lambda: Downstream(self.door, secure=False), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for down in list(self.door.crowd.connections):
            down.transport.abort()
        recorder.close()
        authenticators.close()

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """Runs something in the door's thread and returns what it returned."""

        async def work() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(TIMEOUT)

    def apply(self, plural: str, value: dict[str, Any], event: str = "ADDED") -> None:
        """An event of the cluster."""
        self.on_loop(lambda: self.view.apply(plural, event, value))

    def settle(self) -> None:
        """Returns when the door has read, and acted on, everything that was sent before on loopback."""
        for _ in range(3):
            self.on_loop(lambda: None)

    def sweep(self, later: float = 0.0) -> None:
        """The once-a-second work, as if it were `later` seconds from now."""
        door = self.door
        kept, clock = door.loop, door.loop.time

        def work() -> None:
            class Shifted:
                """The loop, with its clock ahead."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(kept, name)

                def time(self) -> float:
                    return float(clock()) + later

            door.loop = Shifted()  # type: ignore[assignment]
            door.sweep()
            door.loop = kept

        self.on_loop(work)

    def client(self) -> Wire:
        """A new connection to the door."""
        wire = Wire(socket.create_connection(("127.0.0.1", self.port), TIMEOUT))
        self._stack.callback(wire.close)
        return wire

    def backend(self, context: ssl.SSLContext | None = None) -> Backend:
        """A new pod's socket, not yet part of any service."""
        backend = Backend(next(_ADDRESSES), context)
        self._stack.callback(backend.shutdown)
        return backend

    def api(self) -> Backend:
        """The API server that the door passes requests on to."""
        backend = Backend(self.settings.clusters[0].api_socket)
        self._stack.callback(backend.shutdown)
        return backend

    def allow(self, user: str, *verbs: str, name: str = "", namespace: str = "demo", event: str = "ADDED") -> None:
        """A role for services/proxy, for services of one name or all, and its binding to a user."""
        meta = {"name": f"{user}-{name or 'all'}", "namespace": namespace, "uid": f"{user}-{name}"}
        rule = {"verbs": list(verbs or ("*",)), "apiGroups": [""], "resources": ["services/proxy"]}
        self.apply("roles", {"metadata": meta, "rules": [{**rule, "resourceNames": [name]} if name else rule]}, event)
        group = "rbac.authorization.k8s.io"
        subject = {"kind": "User", "name": user, "apiGroup": group}
        reference = {"kind": "Role", "name": meta["name"], "apiGroup": group}
        self.apply("rolebindings", {"metadata": meta, "subjects": [subject], "roleRef": reference}, event)

    def service(self, name: str, *backends: Backend, namespace: str = "demo", **spec: Any) -> None:
        """A service with one unnamed port in front of backends, or with the ports of `spec`."""
        ports = spec.pop("ports", [{"port": 80}])
        meta = {"name": name, "namespace": namespace, "uid": name, "annotations": spec.pop("annotations", {})}
        self.apply("services", {"metadata": meta, "spec": {"clusterIP": "10.96.0.9", "ports": ports, **spec}})
        self.endpoints(name, *backends, namespace=namespace, names=tuple(p.get("name", "") for p in ports))

    def endpoints(
        self,
        name: str,
        *backends: Backend,
        namespace: str = "demo",
        names: tuple[str, ...] = ("",),
        event: str = "ADDED",
    ) -> None:
        """The pods and EndpointSlices behind a service: each backend serves every named port."""
        for i, backend in enumerate(backends):
            pod = f"{name}-{i}"
            status = {"phase": "Running", "podIP": backend.address, "podIPs": [{"ip": backend.address}]}
            meta = {"name": pod, "namespace": namespace, "uid": pod}
            spec = {"containers": [{"name": "c", "ports": [{"containerPort": backend.port}]}]}
            self.apply("pods", {"metadata": meta, "spec": spec, "status": status})
            self._slice(f"{name}-{i}", name, namespace, backend, pod, names, event)
        if not backends:
            self._slice(f"{name}-none", name, namespace, None, "", names, event)

    def _slice(
        self,
        slice_name: str,
        name: str,
        namespace: str,
        backend: Backend | None,
        pod: str,
        names: tuple[str, ...],
        event: str,
    ) -> None:
        labels = {"kubernetes.io/service-name": name}
        meta = {"name": slice_name, "namespace": namespace, "uid": slice_name, "labels": labels}
        endpoints = []
        if backend is not None:
            ref = {"kind": "Pod", "name": pod, "namespace": namespace}
            endpoints = [{"addresses": [backend.address], "conditions": {"ready": True}, "targetRef": ref}]
        port = backend.port if backend is not None else 1
        ports = [{"name": n, "port": port, "protocol": "TCP"} for n in names]
        self.apply(
            "endpointslices", {"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}, event
        )

    def audit(self, count: int) -> list[str]:
        """The audit lines, once there are so many."""
        path = Path(self.settings.record.audit_log_path)
        until = time.monotonic() + TIMEOUT
        lines: list[str] = []
        while len(lines) < count and time.monotonic() < until:
            self.on_loop(self.door.recorder.flush)
            lines = path.read_text().splitlines() if path.exists() else []
            time.sleep(0.005)
        return lines


def get(path: str, token: str = "admin-token", **fields: str) -> bytes:
    """A GET through the proxy verb of service `web`, or of an absolute path."""
    return request("GET", path, token, None, **fields)


def request(method: str, path: str, token: str = "admin-token", body: bytes | None = None, **fields: str) -> bytes:
    """A request; underscores in field names become dashes. A relative path goes to service web's proxy."""
    target = path if path.startswith("/api") or path == "*" else f"/api/v1/namespaces/demo/services/web/proxy{path}"
    lines = [f"{method} {target} HTTP/1.1", "Host: door.example"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def running(
    tmp_path: Path,
    limits: Limits | None = None,
    basic: str = "",
    local: str = "",
    answers: Callable[[ClusterView], LocalAnswers] | None = None,
    **changes: Any,
) -> Iterator[RunningDoor]:
    """A door with the test users; `basic` is an htpasswd file's text; `local` is who everybody is. `changes` are fields
    of the gateway's settings, and of the cluster's: with a `kubeconfig` and `api_socket=""` it is a remote one.
    """
    tokens = tmp_path / "tokens.csv"
    tokens.write_text(TOKENS)
    authentication = Authentication(token_auth_file=str(tokens), local=local)
    if basic:
        (tmp_path / "htpasswd").write_text(basic)
        authentication = dataclasses.replace(authentication, basic_auth_file=str(tmp_path / "htpasswd"))
    cluster = ClusterSettings(api_socket=str(tmp_path / "api.sock"), cluster_cidrs=("127.64.0.0/10",))
    of_cluster = {field.name for field in dataclasses.fields(ClusterSettings)} & changes.keys()
    cluster = dataclasses.replace(cluster, **{name: changes.pop(name) for name in of_cluster})
    settings = GatewaySettings(
        clusters=(cluster,),
        limits=limits or Limits(),
        authentication=authentication,
        record=Record(audit_log_path=str(tmp_path / "audit.log")),
        **changes,
    )
    running_door = RunningDoor(settings, answers)
    running_door.start()
    try:
        yield running_door
    finally:
        running_door.stop()
