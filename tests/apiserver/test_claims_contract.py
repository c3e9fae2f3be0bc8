"""All claims keep the contract: those in memory, and the stored ones on every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.apiserver.allocator import Claims
from portway.apiserver.claims import StoredClaims
from portway.storage import MemoryStore, SqliteStore, Store
from portway.storage.etcd import EtcdStore
from portway.testing.api import InProcessApi
from portway.testing.claims import CIDR, ClaimsContract, MemoryClaims
from portway.testing.etcd import binaries, running


class TestMemoryClaims(ClaimsContract):
    @asynccontextmanager
    async def views(self) -> AsyncIterator[tuple[Claims, Claims]]:
        claims = MemoryClaims(CIDR)
        yield claims, claims

    async def settled(self, claims: Claims) -> None:
        """It is one process."""


class StoredClaimsContract(ClaimsContract):
    """Of two servers."""

    @asynccontextmanager
    async def stores(self) -> AsyncIterator[tuple[Store, Store]]:
        store = MemoryStore()
        yield store, store

    @asynccontextmanager
    async def views(self) -> AsyncIterator[tuple[Claims, Claims]]:
        async with self.stores() as (first, second):
            one, other = (InProcessApi(store, service_cluster_ip_range=CIDR) for store in (first, second))
            async with one, other:
                yield one.app.server.claims, other.app.server.claims

    async def settled(self, claims: Claims) -> None:
        assert isinstance(claims, StoredClaims)
        await claims.seen()


class TestStoredClaims(StoredClaimsContract):
    """In a store in memory."""


class TestStoredClaimsOnSqlite(StoredClaimsContract):
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.db"

    @asynccontextmanager
    async def stores(self) -> AsyncIterator[tuple[Store, Store]]:
        store = SqliteStore.open(self.path)
        try:
            yield store, store
        finally:
            await store.close()


@pytest.mark.skipif(not binaries(), reason="no etcd here (apt-get install etcd-server)")
class TestStoredClaimsOnEtcd(StoredClaimsContract):
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def stores(self) -> AsyncIterator[tuple[Store, Store]]:
        with running(next(iter(binaries().values())), self.path / "etcd") as etcd:
            opened = [await EtcdStore.open(etcd.settings()) for _ in range(2)]
            try:
                yield opened[0], opened[1]
            finally:
                for store in opened:
                    await store.close()
