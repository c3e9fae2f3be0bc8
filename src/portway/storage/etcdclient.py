"""Calls to etcd: endpoints with failover, TLS, authentication, a deadline on every call. Sockets are grpc's.

One endpoint is used until it fails, then the next. A call is repeated for as long as that can do no harm and etcd has
been failing for less than `PATIENCE` seconds; from then on a call gets a moment, so that who waits for an etcd that is
gone is told soon. Members without a leader refuse rather than hang (`hasleader`, as etcd's own
client asks for).

What the calls mean is for `etcdwrites.py`, `etcdmirror.py` and `etcd.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from portway.storage.errors import OutcomeUnknown, StoreUnavailable
from portway.storage.etcderrors import AUTH_IS_OFF, Fate, explained, fate_of, words_of
from portway.storage.etcdmessages import CLASSES, METHODS, message
from portway.storage.etcdsettings import EtcdSettings

PATIENCE = 5.0
"""Seconds: how long a failing etcd is tried again before callers are told. An election takes one or two."""
_ATTEMPT_SECONDS = 2.0
"""How long one member may take to answer. etcd's own limit for a proposal is 5 s and more, when it is in trouble."""
_MOMENT = 0.5
_PAUSE = 0.1
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # this is how long an attempt may take, not the pause before it
    ("grpc.max_reconnect_backoff_ms", 200),
    # A member that vanished without a word is noticed; etcd allows a ping every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


class EtcdClient:
    """One etcd, by any of its members. `close` it."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises `StoreUnavailable` when a file cannot be read. Within the event loop that will use it."""
        self.address = settings.address
        self._settings = settings
        self._credentials = _credentials(settings) if settings.tls else None
        self._password = _read(settings.password_file, "--etcd-password-file").split(b"\n")[0].strip().decode()
        self._channels: dict[str, Any] = {}
        self._methods: dict[tuple[str, str], Any] = {}
        self._place = 0
        self._token = ""
        self._login = asyncio.Lock()
        self._failing_since: float | None = None

    async def call(self, method: str, request: Any, *, harmless: bool = True) -> Any:
        """The answer. `harmless`: it may be sent again when it isn't known whether etcd has done it.

        Raises `OutcomeUnknown` for one that may not, otherwise `StoreUnavailable`, `StoreFull`, `ValueTooLarge`, or the
        `grpc` error of a revision that is compacted or yet to come, which only the caller can explain.
        """
        began, tries = time.monotonic(), 0
        while True:
            place = self._place
            tries += 1
            try:
                answer = await self._attempt(self._settings.endpoints[place], method, request)
            except grpc.aio.AioRpcError as error:
                await self._after(error, (place, tries, began), harmless)
            else:
                self._failing_since = None
                return answer

    async def _after(self, error: Any, attempt: tuple[int, int, float], harmless: bool) -> None:
        """Return when the call may be sent again; otherwise raise. `attempt`: where, the how manyeth, begun when."""
        place, tries, began = attempt
        fate = fate_of(error)
        if fate is Fate.LOGIN and tries <= 2 and self._settings.username:
            self._token = ""
            return
        if error.code() is grpc.StatusCode.OUT_OF_RANGE:
            raise error
        if fate in (Fate.REFUSED, Fate.LOGIN):
            raise explained(error, self.address) from error
        self._failed(place)
        if fate is Fate.UNKNOWN and not harmless:
            raise OutcomeUnknown(f"etcd at {self.address}: the connection was lost during a write") from error
        if not self._worth_waiting(tries, began):
            raise explained(error, self.address) from error
        if tries % len(self._settings.endpoints) == 0:
            await asyncio.sleep(_PAUSE)

    def _worth_waiting(self, tries: int, began: float) -> bool:
        now = time.monotonic()
        patient = now - (self._failing_since or now) < PATIENCE or now - began < _MOMENT
        return patient or tries < len(self._settings.endpoints)

    def _failed(self, place: int) -> None:
        """The next call goes to the next endpoint, unless somebody has moved on already."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._place == place:
            self._place = (place + 1) % len(self._settings.endpoints)

    async def _attempt(self, endpoint: str, method: str, request: Any) -> Any:
        metadata = await self._metadata(endpoint)
        return await self._method(endpoint, method)(request, timeout=_ATTEMPT_SECONDS, metadata=metadata)

    async def _metadata(self, endpoint: str) -> tuple[tuple[str, str], ...]:
        found: tuple[tuple[str, str], ...] = (("hasleader", "true"),)
        if self._settings.username:
            async with self._login:
                if not self._token:
                    self._token = await self._authenticate(endpoint)
            if self._token != _NO_AUTH:
                found = (*found, ("token", self._token))
        return found

    async def _authenticate(self, endpoint: str) -> str:
        request = message("AuthenticateRequest", name=self._settings.username, password=self._password)
        try:
            answer = await self._method(endpoint, "/etcdserverpb.Auth/Authenticate")(request, timeout=_ATTEMPT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if words_of(error) == AUTH_IS_OFF:
                return _NO_AUTH
            raise
        return str(answer.token)

    def _method(self, endpoint: str, method: str) -> Any:
        found = self._methods.get((endpoint, method))
        if found is None:
            into, out = (CLASSES[name] for name in METHODS[method])
            make = self._channel(endpoint)
            make = make.stream_stream if method.endswith("/Watch") else make.unary_unary
            found = make(method, request_serializer=into.SerializeToString, response_deserializer=out.FromString)
            self._methods[endpoint, method] = found
        return found

    def _channel(self, endpoint: str) -> Any:
        if endpoint not in self._channels:
            self._channels[endpoint] = (
                grpc.aio.secure_channel(endpoint, self._credentials, options=_OPTIONS)
                if self._credentials is not None
                else grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
            )
        return self._channels[endpoint]

    @asynccontextmanager
    async def watch(self, **wanted: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """The answers to one watch request (WatchCreateRequest's fields), for as long as the connection holds.

        Raises `StoreUnavailable` when it is lost, also out of the iteration; the next watch asks the next endpoint.
        """
        place = self._place
        stream = None
        try:
            metadata = await self._metadata(self._settings.endpoints[place])
            stream = self._method(self._settings.endpoints[place], "/etcdserverpb.Watch/Watch")(metadata=metadata)
            await stream.write(message("WatchRequest", create_request=message("WatchCreateRequest", **wanted)))
            yield stream
        except grpc.aio.AioRpcError as error:
            if fate_of(error) is Fate.LOGIN:
                self._token = ""
            self._failed(place)
            raise explained(error, self.address) from error
        finally:
            if stream is not None:
                stream.cancel()

    async def close(self) -> None:
        """Let go of all connections."""
        for channel in self._channels.values():
            await channel.close()


_NO_AUTH = "-"
"""In place of a token: the etcd asks for none."""


def _credentials(settings: EtcdSettings) -> Any:
    return grpc.ssl_channel_credentials(
        root_certificates=_read(settings.ca_file, "--etcd-cafile") or None,
        private_key=_read(settings.key_file, "--etcd-keyfile") or None,
        certificate_chain=_read(settings.cert_file, "--etcd-certfile") or None,
    )


def _read(file: str, flag: str) -> bytes:
    if not file:
        return b""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise StoreUnavailable(f"{flag} {file}: {error.strerror}") from error
