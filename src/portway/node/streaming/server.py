"""The streaming server: one request per connection, from the door; answered, or upgraded and kept until it ends.

It says 404 for pods that don't exist, 400 for what is no upgrade, and what a kubelet says for the rest. Everything that
a client can make large has a limit here or in `client.portforward`.
"""

import asyncio
import socket
from typing import Protocol
from urllib.parse import unquote_to_bytes

import httptools
import orjson

from portway.client.portforward.carrier import Carrier, WebSocketCarrier
from portway.kube.attributes import is_port_forward, parse
from portway.kube.errors import BadRequest, StatusError, method_not_allowed, no_route
from portway.node.streaming.channels import ChannelSession
from portway.node.streaming.handshake import Form, Granted, negotiate
from portway.node.streaming.portforward import PodStreams
from portway.node.streaming.relay import RunningPod

MAX_HEAD = 64 << 10
HEAD_SECONDS = 10.0
MAX_CONNECTIONS = 4096
Key = tuple[str, str]
_PHRASES = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


class Pods(Protocol):
    """What the server asks of the node."""

    async def find(self, namespace: str, name: str) -> RunningPod:
        """A pod that runs here. Raises StatusError in the API's or a kubelet's words."""
        ...


class Closable(Protocol):
    """A session that serves a pod."""

    def close(self) -> None:
        """End it, and all its streams."""


class StreamingServer:
    """All connections to this node's pods by way of the door."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        self.connections = 0
        self._sessions: dict[Key, set[Closable]] = {}

    async def run(self, listener: socket.socket) -> None:
        """Accept until cancelled; then every session ends. The socket stays its owner's."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Connection(self), sock=listener)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for key in list(self._sessions):
                self.pod_gone(*key)

    def pod_gone(self, namespace: str, name: str) -> None:
        """A pod was deleted: its sessions end, as with its sandbox."""
        for session in list(self._sessions.pop((namespace, name), ())):
            session.close()

    def opened(self, pod: RunningPod, session: Closable) -> None:
        """A session began."""
        self._sessions.setdefault((pod.namespace, pod.name), set()).add(session)

    def closed(self, pod: RunningPod, session: Closable) -> None:
        """It ended."""
        sessions = self._sessions.get((pod.namespace, pod.name))
        if sessions is not None:
            sessions.discard(session)
            if not sessions:
                del self._sessions[pod.namespace, pod.name]


class Connection(asyncio.Protocol):
    """One connection of the door's, until its request is answered or the connection belongs to a carrier."""

    def __init__(self, server: StreamingServer) -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, list[str]] = {}
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._server.connections += 1
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.abort)
        if self._server.connections > MAX_CONNECTIONS:
            self._answer(StatusError("too many port-forwards", code=503, reason="ServiceUnavailable"))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._gone()
        if self._task is not None:
            self._task.cancel()

    def _gone(self) -> None:
        self._server.connections -= 1
        self._timer.cancel()
        self._parser = None

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self._task is not None:
            return
        self._size += len(data)
        rest = b""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            rest = data[stop.args[0] :]
            self._whole(parser, rest)
        except httptools.HttpParserError as error:
            self._answer(BadRequest(f"malformed HTTP request: {error}"))
        else:
            if self._headed:
                self._whole(parser, b"")
            elif self._size > MAX_HEAD:
                self._answer(
                    StatusError("request headers are too large", code=431, reason="RequestHeaderFieldsTooLarge")
                )

    _headed = False

    def on_url(self, url: bytes) -> None:
        """llhttp: the target, maybe in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: a field."""
        self._headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        """llhttp: the head is whole. No request here has a body worth reading."""
        self._headed = True

    def _whole(self, parser: httptools.HttpRequestParser, rest: bytes) -> None:
        self._timer.cancel()
        self._transport.pause_reading()
        method = parser.get_method().decode("latin-1")
        work = self._handle(method, rest)
        self._task = asyncio.get_running_loop().create_task(work, name=f"port-forward: {method}")

    async def _handle(self, method: str, rest: bytes) -> None:
        raw, _, query = self._target.partition(b"?")
        try:
            pod = await self._pod(method, unquote_to_bytes(raw).decode("utf-8", "replace"), query.decode("latin-1"))
            granted = negotiate(method, query.decode("latin-1"), self._headers)
        except StatusError as error:
            self._answer(error)
            return
        except Exception:
            self._transport.abort()  # a bug of ours must not leave the client waiting
            raise
        self._upgrade(pod, granted, rest)

    async def _pod(self, method: str, path: str, query: str) -> RunningPod:
        # The very parse that the door authorised.
        attributes = parse(method, path, query)
        if not is_port_forward(attributes) or attributes.version != "v1" or not attributes.namespace:
            raise no_route()
        if method not in ("GET", "POST"):
            raise method_not_allowed()
        return await self._server.pods.find(attributes.namespace, attributes.parts[1])

    def _upgrade(self, pod: RunningPod, granted: Granted, rest: bytes) -> None:
        transport, server = self._transport, self._server
        if transport.is_closing():
            return
        transport.write(granted.head)
        self._gone()
        server.connections += 1
        if granted.form is Form.CHANNELS:
            channels = ChannelSession(pod, granted.ports, granted.text)
            self._keep(pod, channels, channels.messages)
            channels.messages.attach(transport)
            channels.start()
            if rest:
                channels.messages.data_received(rest)
            return
        streams = PodStreams(pod)
        session = streams.session
        carrier = WebSocketCarrier(session, client=False) if granted.form is Form.TUNNEL else Carrier(session)
        self._keep(pod, session, carrier)
        session.start(carrier)
        carrier.attach(transport, rest)

    def _keep(self, pod: RunningPod, session: Closable, carrier: Carrier) -> None:
        server = self._server
        server.opened(pod, session)

        def over() -> None:
            server.connections -= 1
            server.closed(pod, session)

        carrier.when_over(over)

    def _answer(self, error: StatusError) -> None:
        body = orjson.dumps(error.status())
        accepted = ""
        if error.code == 403:
            accepted = "X-Accepted-Stream-Protocol-Versions: portforward.k8s.io\r\n"
        head = (
            f"HTTP/1.1 {error.code} {_PHRASES.get(error.code, 'Error')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{accepted}Connection: close\r\n\r\n"
        )
        self._parser = None
        self._transport.write(head.encode("latin-1") + body)
        self._transport.close()
