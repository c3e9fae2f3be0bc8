"""Both stores keep the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from portway.storage import MemoryStore, SqliteStore, Store

pytest.register_assert_rewrite("portway.testing.store")

from portway.testing.store import DurableStoreContract, StoreContract  # noqa: E402


class TestMemoryStore(StoreContract):
    def open_store(self) -> Store:
        return MemoryStore(watch_buffer=self.watch_buffer)


class TestSqliteStore(DurableStoreContract):
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.db"

    def open_store(self) -> Store:
        return SqliteStore.open(self.path, watch_buffer=self.watch_buffer)
