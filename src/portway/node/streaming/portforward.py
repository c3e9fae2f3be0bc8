"""SPDY streams in pairs → connections to a pod. A pair is an error and a data stream with the same request id.

Source: k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go.
"""

import asyncio

from portway.client.portforward.session import Session, Stream
from portway.kube import spdy
from portway.kube.errors import BadRequest
from portway.node.streaming.handshake import port_number
from portway.node.streaming.relay import RunningPod, connect

PAIR_SECONDS = 30.0
"""How long one of a pair waits for the other (kubelet's DefaultStreamCreationTimeout)."""


class _Pair:
    """One connection; says how it went on the error stream, then ends both, in the kubelet's order."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.error: Stream | None = None
        self.data: Stream | None = None
        self.timer: asyncio.TimerHandle | None = None

    def failed(self, message: str) -> None:
        """See relay.Ends."""
        if self.error is not None:
            self.error.write(message.encode())
        self.finished()
        if self.data is not None:
            self.data.close()

    def finished(self) -> None:
        """See relay.Ends."""
        if self.error is not None:
            self.error.close()


class PodStreams:
    """Accepts the streams of one session."""

    def __init__(self, pod: RunningPod) -> None:
        self._pod = pod
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.session = Session(client=False, accept=self._accept)
        self.session.when_over(self._over)

    def _accept(self, stream: Stream) -> None:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        try:
            number = port_number(port)
        except BadRequest:
            number = 0
        request = stream.headers.get("requestid") or self._by_position(stream, kind)
        pair = self._pairs.get(request) or _Pair(number)
        if not number or kind not in ("error", "data") or getattr(pair, kind) is not None or pair.port != number:
            self.session.reset(stream, spdy.CANCEL)
            return
        self.session.reply(stream)
        setattr(pair, kind, stream)
        if kind == "error":
            stream.begin(_Deaf())
        if pair.error is None or pair.data is None:
            self._pairs[request] = pair
            loop = asyncio.get_running_loop()
            pair.timer = loop.call_later(PAIR_SECONDS, self._alone, request)
            return
        self._pairs.pop(request, None)
        if pair.timer is not None:
            pair.timer.cancel()
        self._own(pair, pair.data)

    def _by_position(self, stream: Stream, kind: str) -> str:
        """Clients before 1.2 sent no request id: the error stream comes first, the data stream follows at once."""
        return str(stream.stream_id if kind == "error" else stream.stream_id - 2)

    def _own(self, pair: _Pair, data: Stream) -> None:
        task = asyncio.get_running_loop().create_task(
            connect(self._pod, pair.port, data, pair), name=f"port-forward to {self._pod.name}:{pair.port}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _alone(self, request: str) -> None:
        pair = self._pairs.pop(request, None)
        if pair is not None:
            pair.failed("timed out waiting for streams")

    def _over(self) -> None:
        for pair in self._pairs.values():
            if pair.timer is not None:
                pair.timer.cancel()
        self._pairs.clear()
        for task in self._tasks:
            task.cancel()


class _Deaf(asyncio.Protocol):
    """Nobody sends anything on an error stream; its end does not end it."""

    def eof_received(self) -> bool:
        return True
