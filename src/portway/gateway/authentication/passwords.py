"""Basic authentication against an htpasswd file. Hashing a password takes a good fraction of a second by design, so it
happens in one thread beside the loop, for a bounded number of waiting requests, and a success is remembered.

What is remembered is a keyed BLAKE2 sum of the header under a key that this process made up: neither a password nor
anything that could be tried against a stolen list.
"""

import asyncio
import contextlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from weakref import WeakKeyDictionary

from portway.gateway.authentication.cache import RecentCache
from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.authentication.headers import basic_credentials
from portway.gateway.authentication.identity import Identity
from portway.kube import htpasswd
from portway.kube.errors import TooManyRequests, Unauthorized
from portway.kube.identity import User, with_authenticated

QUEUE = 16
"""Different credentials that may wait for verification in one worker; at 200 ms a hash the last of them waits 3 s."""

CACHED = 4096


@dataclass(frozen=True, slots=True)
class Account:
    """A line of the file."""

    hash: str
    groups: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Account(groups={self.groups!r})"


class Passwords:
    """Verifies `Authorization: Basic` headers. No file, or an empty one: nobody has a password, `enabled` is False."""

    def __init__(self, path: str) -> None:
        """ConfigurationError when the file can't be read or a line is malformed."""
        self._path = path
        self._accounts = self._read()
        self._key = os.urandom(32)
        self._known: RecentCache[bytes, Identity] = RecentCache(CACHED)
        # Also those that the cache has forgotten: a connection may still hold them.
        self._issued: WeakKeyDictionary[Identity, Account] = WeakKeyDictionary()
        self._waiting: dict[bytes, list[asyncio.Future[Identity]]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords", initializer=_step_back)

    @property
    def enabled(self) -> bool:
        return bool(self._accounts)

    def identify(self, authorization: bytes, rest: bytes) -> Identity | asyncio.Future[Identity]:
        """The caller of a known header at once, else a Future of it. Must be called on the event loop.

        `authorization`: the whole header; `rest`: what follows the scheme. Unauthorized (raised, or in the Future) for
        a wrong user or password; TooManyRequests when too many credentials wait already.
        """
        key = blake2b(authorization, key=self._key, digest_size=32).digest()
        known = self._known.get(key)
        if known is not None and known.alive():
            return known
        name, password = basic_credentials(rest)
        future: asyncio.Future[Identity] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(future)
            return future
        if len(self._waiting) >= QUEUE:
            raise TooManyRequests("too many passwords are being verified, please try again later", retry_after=1)
        self._waiting[key] = [future]
        self._verify(key, name, password)
        return future

    def reload(self) -> None:
        """Read the file again: users who are gone or changed end at once. On an error all stays as it was."""
        self._accounts = self._read()
        for identity, account in list(self._issued.items()):
            if self._accounts.get(identity.user.name) != account:
                identity.valid = False
        self._known.discard(lambda identity: not identity.valid)

    def close(self) -> None:
        """Drop what waits; a hash that is being computed is left to end by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _verify(self, key: bytes, name: str, password: bytes) -> None:
        loop = asyncio.get_running_loop()
        account = self._accounts.get(name)
        measured = account or self._decoy(name)
        if measured is None:
            self._settle(key, name, None, right=False)
            return
        job = self._thread.submit(htpasswd.verify, measured.hash, password.decode("utf-8", "surrogateescape"))

        def done(finished: Future[bool]) -> None:
            right = not finished.cancelled() and finished.exception() is None and finished.result()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._settle, key, name, account, right)

        job.add_done_callback(done)

    def _decoy(self, name: str) -> Account | None:
        """Whose hash an unknown user is measured by, so that timing doesn't tell which names exist.

        Hashes differ in cost: each unknown name has one of them for its own, the same in every worker.
        """
        hashes = sorted(account.hash for account in self._accounts.values())
        if not hashes:
            return None
        drawn = blake2b(name.encode(), key=blake2b("".join(hashes).encode(), digest_size=32).digest(), digest_size=8)
        return Account(hashes[int.from_bytes(drawn.digest(), "big") % len(hashes)], ())

    def _settle(self, key: bytes, name: str, account: Account | None, right: bool) -> None:
        waiting = self._waiting.pop(key, [])
        # The file may have been read again meanwhile: only what it says now counts.
        identity = None
        if right and account is not None and self._accounts.get(name) == account:
            user = with_authenticated(User(name=name, groups=account.groups))
            identity = Identity(user, "basic", ambient=True)
            self._issued[identity] = account
            self._known.put(key, identity)
        for future in waiting:
            if future.done():
                continue
            if identity is None:
                future.set_exception(Unauthorized())
                # A client that went away awaits nothing; asyncio need not complain that nobody took the refusal.
                future.exception()
            else:
                future.set_result(identity)

    def _read(self) -> dict[str, Account]:
        if not self._path:
            return {}
        try:
            return _accounts(Path(self._path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError.reading("password file", self._path, error) from error


def _accounts(text: str) -> dict[str, Account]:
    return {name: Account(entry.hash, tuple(entry.groups)) for name, entry in htpasswd.parse(text).items()}


def _step_back() -> None:
    """Verification yields the processor to the loop: on Linux a thread has a niceness of its own."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
