"""The etcd store beside the same transactions without it, and its opening: `python -m bench.etcdstore ETCD [KEYS]`.

In one run on one etcd, in turns: bare puts, the transactions that the store sends, and the store's creates (which also
wait until this process has seen the write). Then the store is opened on KEYS keys of 1 KB.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from statistics import median

from portway.storage.etcd import EtcdStore
from portway.storage.etcdclient import EtcdClient
from portway.storage.etcdlayout import Layout
from portway.storage.etcdmessages import message
from portway.storage.etcdsettings import EtcdSettings
from portway.storage.etcdwriter import TXN
from portway.storage.writes import Create
from portway.testing.etcd import running

ROUNDS = 5
VALUE = os.urandom(1000)
NUMBERS = count()

Write = Callable[[str], Awaitable[object]]


async def rate(write: Write, at_once: int, total: int) -> float:
    """Writes a second."""
    waiting = iter(range(total))

    async def work() -> None:
        for _ in waiting:
            await write(f"/registry/core/configmaps/default/{next(NUMBERS):08}")

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return total / (time.perf_counter() - began)


def writers(store: EtcdStore, client: EtcdClient, layout: Layout) -> dict[str, Write]:
    """What is compared."""

    def put(key: str) -> Awaitable[object]:
        request = message("PutRequest", key=layout.key(key + "-put"), value=VALUE)
        return client.call(TXN, message("TxnRequest", success=[message("RequestOp", request_put=request)]))

    def transaction(key: str) -> Awaitable[object]:
        return client.call(TXN, layout.transaction(Create(key, VALUE), 0, layout.token()))

    return {
        "bare puts": put,
        "the store's transactions": transaction,
        "the store": lambda key: store.create(key, VALUE),
    }


async def compare(settings: EtcdSettings, keys: int) -> None:
    """Prints the figures."""
    bare = EtcdSettings(endpoints=settings.endpoints, prefix="/bare")
    store, client = await EtcdStore.open(settings), EtcdClient(bare)
    for at_once, total in ((1, 500), (64, 6400)):
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, write in writers(store, client, Layout(bare.prefix)).items():
                found.setdefault(name, []).append(await rate(write, at_once, total))
        base = median(found["bare puts"])
        for name, rates in found.items():
            print(f"{at_once:3} at once, {name}: {median(rates):,.0f}/s, {median(rates) / base:.2f} of bare puts")
    missing = keys - len((await store.list("")).items)
    await rate(lambda key: store.create(key, VALUE), 64, max(missing, 0))
    await store.compact(store.current_revision())
    began = time.perf_counter()
    await store.latest_revision()
    print(f"a consistent read: {(time.perf_counter() - began) * 1e3:.2f} ms")
    await store.close()
    await client.close()
    began = time.perf_counter()
    store = await EtcdStore.open(settings)
    print(f"opening {len((await store.list('')).items):,} keys: {time.perf_counter() - began:.2f} s")
    await store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, running(Path(sys.argv[1]), Path(directory)) as member:
        asyncio.run(compare(member.settings(), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000))
