"""Many SPDY streams over one carrier; either side. The client opens them, the node agent accepts them.

SPDY as spoken here has no flow control per stream: one whose protocol is slow stops the session once its buffer is
full, and with it the others. So buffers are generous, and the forwarder opens another session when one stands still.

A session asks for a sign of life now and then, as client-go does, and ends when nothing at all comes for a while: see
`Patience`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from portway.client.portforward.carrier import Carrier
from portway.client.portforward.transport import HIGH, SessionLostError, StreamTransport
from portway.kube import spdy
from portway.kube.spdy import Data, GoAway, Ping, RstStream, SynReply, SynStream

MAX_STREAMS = 2000
"""Streams that a peer may have open at the same time in one session: 1000 connections."""
MAX_WAITING = 8 << 20
"""Bytes that wait for all paused protocols of a session before it stands still."""
_FEW = MAX_WAITING // HIGH
CHUNK = 64 << 10
"""Payload of a DATA frame as we send it; a kubelet queues 50 frames per worker (spdystream's QUEUE_SIZE)."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session waits for what, in seconds.

    Attributes:
        tick: between two looks at the clock.
        ping: between two questions for a sign of life (client-go's PingPeriod).
        dead: without any sign of life until it is given up; `awake`: the same after the machine slept.
        fresh: since the last sign of life, while which it is believed to live.
        alive: for an answer of a session that is about to be used and not fresh.
        idle: without a stream until a client closes it.
        linger: for the peer to close a stream that we closed, before it is reset.
    """

    tick: float = 1.0
    ping: float = 10.0
    dead: float = 30.0
    awake: float = 3.0
    fresh: float = 2.0
    alive: float = 2.0
    idle: float = 60.0
    linger: float = 10.0


PATIENCE = Patience()
Acceptor = Callable[["Stream"], None]


class Stream(StreamTransport):
    """A stream of a session, as a transport. `headers` are those it was opened with."""

    def __init__(self, session: "Session", stream_id: int, headers: Mapping[str, str]) -> None:
        super().__init__(stream_id=stream_id, headers=headers)
        self.session = session
        self.stream_id = stream_id
        self._written_blocked = session.blocked
        self.headers = headers
        self.sent_fin = self.got_fin = False
        self.until = float("inf")
        """When it is reset although the peer has not closed it."""
        self.ended: Callable[[], None] | None = None
        """Called once nobody can send on it any more."""
        self._accepted = asyncio.Event()

    async def accepted(self) -> None:
        await self._accepted.wait()

    def settled(self) -> None:
        """It is accepted, or over."""
        self._accepted.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not (self.sent_fin or self._closing):
            self.session.send(self, bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def _send_eof(self) -> None:
        if not self.sent_fin:
            self.sent_fin = True
            self.session.send_fin(self)

    def _too_much(self) -> None:
        self.session.hold(self)

    def _enough(self) -> None:
        self.session.release(self)

    def _closed(self) -> None:
        if not self.got_fin:
            self.until = self._loop.time() + self.session.linger
        self.session.settle(self)

    def _aborted(self) -> None:
        self.session.reset(self, spdy.CANCEL)

    def received(self, data: bytes, fin: bool) -> None:
        """From the peer. Data for a stream that was closed is answered with a reset, as TCP does."""
        if data:
            if self._closing:
                self.session.reset(self, spdy.CANCEL)
                return
            self.feed(data)
        if fin and not self.got_fin:
            self.got_fin = True
            if not self._closing:
                self.feed_eof()
            self.session.settle(self)


class Session:
    """One SPDY connection; a `carrier.Listener`."""

    def __init__(self, *, client: bool, accept: Acceptor | None = None, patience: Patience = PATIENCE) -> None:
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._accept = accept
        self._when_over: list[Callable[[], None]] = []
        self._used = self._loop.time()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._encoder, self._decoder = spdy.Encoder(), spdy.Decoder()
        self._carrier: Carrier | None = None
        self._streams: dict[int, Stream] = {}
        self._held: set[Stream] = set()
        self._stopped = False
        self._next_id = 1 if client else 2
        self._last_seen = 0
        self._next_ping = 1 if client else 2
        self._heard = self._pinged = self._loop.time()
        self._clock = _boot_time()
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.error: Exception | None = None
        self.over = False
        self.leaving = False
        """The peer takes no new streams."""
        self.blocked = False
        """What was written is not being read."""

    def start(self, carrier: Carrier) -> None:
        """Run over a carrier that is about to be attached."""
        self._carrier = carrier
        self._timer = self._loop.call_later(self._patience.tick, self._tick)

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    @property
    def stands_still(self) -> bool:
        """A slow stream stops all others at the moment, in one direction at least."""
        return self.blocked or self._stopped

    @property
    def usable(self) -> bool:
        """Whether streams can be opened."""
        return not (self.over or self.leaving)

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> Stream:
        """Open a stream; `fin`: nothing will be written to it. Raises SessionLostError."""
        if not self.usable or self._next_id > spdy.MAX_STREAM_ID:
            raise SessionLostError(str(self.error or "the session is over"))
        stream = Stream(self, self._next_id, headers)
        self._next_id += 2
        self._streams[stream.stream_id] = stream
        self._write(self._encoder.encode(SynStream(stream.stream_id, tuple(headers.items()))))
        if fin:
            # Not SYN_STREAM's own flag: client-go half-closes with an empty frame, so that is what works everywhere.
            stream.sent_fin = True
            self.send_fin(stream)
        return stream

    def reply(self, stream: Stream) -> None:
        """Accept a stream that the peer opened."""
        self._write(self._encoder.encode(SynReply(stream.stream_id)))

    def when_over(self, told: Callable[[], None]) -> None:
        """Call `told` once the session has ended."""
        self._when_over.append(told)

    def leave(self) -> None:
        """Open no more streams; end with the last."""
        self.leaving = True
        if not self._streams:
            self._loop.call_soon(self.close)

    def close(self) -> None:
        """Say goodbye and end the session after what was written."""
        if not self.over and self._carrier is not None:
            self._write(self._encoder.encode(GoAway(self._last_seen)))
            self._flush()
            self._carrier.close()

    def abort(self, error: Exception | None = None) -> None:
        """End it at once."""
        if not self.over and self._carrier is not None:
            self._carrier.abort(error)

    async def alive(self) -> bool:
        """Whether the other side was heard just now, or answers soon."""
        fresh = self._patience.fresh
        if self.stands_still:
            return not self.over  # nobody can tell
        if self._loop.time() - self._heard < fresh and _boot_time() - self._clock < fresh + self._patience.tick:
            return not self.over
        self._news.clear()
        self._ping()
        try:
            async with asyncio.timeout(self._patience.alive):
                await self._news.wait()
        except TimeoutError:
            return False
        return not self.over

    @property
    def linger(self) -> float:
        """See Patience."""
        return self._patience.linger

    # For its streams

    def send(self, stream: Stream, data: bytes) -> None:
        """Send data of a stream, in frames of CHUNK."""
        if len(data) <= CHUNK:
            if data:
                self._write(spdy.data_head(stream.stream_id, len(data)), data)
            return
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            self._write(spdy.data_head(stream.stream_id, len(part)), part)

    def send_fin(self, stream: Stream) -> None:
        """Half-close a stream."""
        self._write(spdy.data_head(stream.stream_id, 0, fin=True))
        self.settle(stream)

    def reset(self, stream: Stream, status: int) -> None:
        """End a stream at once, both ways."""
        if self._forget(stream):
            self._write(self._encoder.encode(RstStream(stream.stream_id, status)))

    def settle(self, stream: Stream) -> None:
        """Forget a stream that both sides have closed."""
        if stream.sent_fin and stream.got_fin:
            self._forget(stream)

    def hold(self, stream: Stream) -> None:
        """Its protocol is too slow: stop reading."""
        self._held.add(stream)
        self._stop()

    def release(self, stream: Stream) -> None:
        """It caught up."""
        self._held.discard(stream)
        if self._stopped and not self._held and not self.over and self._carrier is not None:
            self._stopped = False
            self._heard = self._loop.time()
            self._carrier.resume_reading()

    def _stop(self) -> None:
        if not self._stopped and self._carrier is not None:
            self._stopped = True
            self._carrier.pause_reading()

    def _forget(self, stream: Stream) -> bool:
        known = self._streams.pop(stream.stream_id, None) is not None
        stream.settled()
        self.release(stream)
        if known and stream.ended is not None:
            ended, stream.ended = stream.ended, None
            ended()
        if self.leaving and not self._streams:
            self._loop.call_soon(self.close)
        return known

    def _write(self, *parts: bytes) -> None:
        """Sends them, together with what else is written in this turn of the loop."""
        if self._carrier is None:
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += parts
        self._unsent_bytes += sum(map(len, parts))
        if self._unsent_bytes >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._unsent and self._carrier is not None:
            parts, self._unsent, self._unsent_bytes = self._unsent, [], 0
            self._carrier.write(*parts)

    # For its carrier

    def received(self, data: bytes) -> None:
        """See carrier.Listener."""
        self._heard = self._loop.time()
        self._news.set()
        try:
            for frame in self._decoder.feed(data):
                self._handle(frame)
        except spdy.SpdyError as error:
            self._write(self._encoder.encode(GoAway(self._last_seen, 1)))
            self._flush()
            self.abort(error)
            return
        if self._held or self._stopped:
            return
        if len(self._streams) > _FEW and sum(stream.waiting for stream in self._streams.values()) > MAX_WAITING:
            for stream in self._streams.values():
                if stream.waiting:
                    self.hold(stream)

    def _handle(self, frame: spdy.Frame) -> None:
        match frame:
            case Data(stream_id, data, fin):
                stream = self._streams.get(stream_id)
                if stream is not None:
                    stream.received(data, fin)
            case SynStream():
                self._opened(frame)
            case SynReply(stream_id, _, fin):
                stream = self._streams.get(stream_id)
                if stream is not None:
                    stream.settled()
                    stream.received(b"", fin)
            case RstStream(stream_id, status):
                self._was_reset(stream_id, status)
            case Ping(ping_id):
                if bool(ping_id & 1) != self._client:
                    self._write(self._encoder.encode(frame))
            case GoAway():
                self.leave()
            case _:
                pass  # SETTINGS, HEADERS and WINDOW_UPDATE mean nothing here

    def _opened(self, frame: SynStream) -> None:
        stream_id = frame.stream_id
        if bool(stream_id & 1) == self._client or stream_id <= self._last_seen:
            self._write(self._encoder.encode(RstStream(stream_id, spdy.PROTOCOL_ERROR)))
            return
        self._last_seen = stream_id
        if self._accept is None or len(self._streams) >= MAX_STREAMS:
            self._write(self._encoder.encode(RstStream(stream_id, spdy.REFUSED_STREAM)))
            return
        stream = self._streams[stream_id] = Stream(self, stream_id, dict(frame.headers))
        if frame.fin:
            stream.received(b"", True)
        self._accept(stream)

    def _was_reset(self, stream_id: int, status: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            refused = "refused" if status == spdy.REFUSED_STREAM else "reset"
            stream.fail(ConnectionResetError(f"the stream was {refused} by the other side (status {status})"))
            self._forget(stream)

    def ended(self, error: Exception | None) -> None:
        """See carrier.Listener."""
        if self.over:
            return
        self.over = True
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
        lost = SessionLostError(f"the way to the pod broke off: {error or 'closed by the other side'}")
        lost.__cause__ = error
        streams, self._streams = list(self._streams.values()), {}
        self._held.clear()
        self._news.set()
        for stream in streams:
            stream.fail(lost)
            stream.settled()  # behind fail: who waits for it finds its protocol told
            if stream.ended is not None:
                stream.ended()
        for told in self._when_over:
            told()

    def pause_writing(self) -> None:
        """See carrier.Listener."""
        self.blocked = True
        for stream in list(self._streams.values()):
            stream.block(True)

    def resume_writing(self) -> None:
        """See carrier.Listener."""
        self.blocked = False
        for stream in list(self._streams.values()):
            stream.block(False)

    # Life

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._patience.tick, self._tick)
        now, clock = self._loop.time(), _boot_time()
        patience = self._patience
        slept = clock - self._clock > patience.tick + patience.awake
        self._clock = clock
        if self._stopped:
            self._heard = now  # we don't listen: silence means nothing
        if slept:
            self._heard = min(self._heard, now - patience.dead + patience.awake)
        if now - self._heard > patience.dead:
            self.abort(TimeoutError("the other side is silent"))
            return
        if slept or now - self._pinged >= patience.ping:
            self._pinged = now
            self._ping()
        if self._streams:
            self._used = now
        elif self._client and now - self._used > patience.idle:
            self.close()
            return
        for stream in [stream for stream in self._streams.values() if stream.until <= now]:
            self.reset(stream, spdy.CANCEL)

    def _ping(self) -> None:
        self._write(self._encoder.encode(Ping(self._next_ping)))
        self._next_ping = (self._next_ping + 2) & spdy.MAX_STREAM_ID


def _boot_time() -> float:
    """Seconds since boot, sleep included: monotonic time stands still while a laptop sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
