"""A cluster's objects copied from one store to an empty other, and compared: SQLite to etcd and back.

Nothing may serve either end meanwhile. A SQLite file is locked by whoever has it open; that an etcd was changed by a
server is noticed at the end, and the copy is then not to be used. Revisions never go back: to a file they are taken
along as they are; in etcd they cannot be set, so it is brought past the source's first. Clients that were at an older
one are told 410 and list anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.storage import KeyValue, SqliteStore, StorageError, Store
from portway.storage.etcdsettings import EtcdSettings
from portway.up import stores
from portway.up.errors import UpError

Place = Path | EtcdSettings
"""A SQLite file, or an etcd."""
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds: how many keys, the SHA-256 over keys and values, at which revision."""

    keys: int
    digest: str
    revision: int


def copy(source: Place, target: Place, say: Callable[[str], None] = lambda _: None) -> Contents:
    """Copy everything and compare; what the target holds then. Raises UpError, in one line with the way out."""
    if isinstance(source, Path) and not source.is_file():
        raise UpError(f"{source}: there is no such file")
    if isinstance(target, Path) and target.exists():
        raise UpError(f"{target} exists: a cluster is only copied to where there is none; move it away first")
    try:
        return asyncio.run(_copy(source, target, say))
    except StorageError as error:
        raise UpError(str(error)) from error


async def _copy(source: Place, target: Place, say: Callable[[str], None]) -> Contents:
    async with _opened(source) as origin:
        page = await origin.list("")
        before = _contents(page.items, page.revision)
        say(f"{before.keys} keys at revision {before.revision}")
        if isinstance(target, Path):
            SqliteStore.adopt(target, page.revision, page.items)
        else:
            await _fill(target, page.revision, page.items)
        if await origin.latest_revision() > page.revision:
            raise UpError("the source was changed meanwhile: stop all servers on it, empty the target and try again")
    async with _opened(target) as copied:
        found = await copied.list("")
        after = _contents(found.items, found.revision)
    if (before.keys, before.digest) != (after.keys, after.digest):
        raise UpError("what was copied is not what the source holds: do not use it; empty the target and try again")
    return after


async def _fill(target: EtcdSettings, revision: int, items: list[KeyValue]) -> None:
    async with _opened(target) as store:
        if (await store.list("", limit=1)).items:
            raise UpError(f"etcd holds a cluster below {target.prefix} already: give another --etcd-prefix")
        await stores.advance(target, revision)
        waiting = iter(items)

        async def write() -> None:
            for kv in waiting:
                await store.create(kv.key, kv.value)

        try:
            await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
        except StorageError as error:
            way_out = f"etcdctl del --prefix {target.prefix}/"
            raise UpError(f"{error}; a part is copied, remove it ({way_out}) and try again") from error


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[Store]:
    store: Store = SqliteStore.open(place) if isinstance(place, Path) else await stores.open_etcd(place)
    try:
        yield store
    finally:
        await store.close()


def _contents(items: list[KeyValue], revision: int) -> Contents:
    digest = hashlib.sha256()
    for kv in items:
        for part in (kv.key.encode(), kv.value):
            digest.update(len(part).to_bytes(8, "big") + part)
    return Contents(len(items), digest.hexdigest(), revision)
