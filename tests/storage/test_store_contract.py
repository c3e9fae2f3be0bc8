"""All stores keep the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from portway.storage import MemoryStore, SqliteStore, Store
from portway.storage.etcd import EtcdStore
from portway.testing.etcd import Member

pytest.register_assert_rewrite("portway.testing.store")

from portway.testing.store import DurableStoreContract, StoreContract  # noqa: E402


class TestMemoryStore(StoreContract):
    async def open_store(self) -> Store:
        return MemoryStore(watch_buffer=self.watch_buffer)


class TestSqliteStore(DurableStoreContract):
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.db"

    async def open_store(self) -> Store:
        return SqliteStore.open(self.path, watch_buffer=self.watch_buffer)


class TestEtcdStore(DurableStoreContract):
    """On an etcd that nobody else writes to, so that every write takes the next number here too."""

    etcd: Member

    @pytest.fixture(autouse=True)
    def _place(self, etcd: Member) -> None:
        self.etcd = etcd

    async def open_store(self) -> Store:
        return await EtcdStore.open(self.etcd.settings(), watch_buffer=self.watch_buffer)
