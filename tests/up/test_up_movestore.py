"""Moving a cluster: from SQLite to etcd and back nothing is lost or changed, and revisions never go back."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.storage import Compacted, KeyValue, SqliteStore
from portway.storage.etcd import EtcdStore
from portway.testing.etcd import Member, binaries, running
from portway.up import movestore
from portway.up.errors import UpError

pytestmark = pytest.mark.skipif(not binaries(), reason="no etcd here (apt-get install etcd-server)")


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Member]:
    with running(next(iter(binaries().values())), tmp_path / "etcd") as member:
        yield member


def make_file(path: Path, keys: int) -> list[KeyValue]:
    async def script() -> list[KeyValue]:
        store, rng = SqliteStore.open(path), random.Random(1)
        for number in range(keys):
            revision = await store.create(f"/registry/é/{number}", rng.randbytes(rng.choice([0, 10, 1000, 100_000])))
            if number % 3 == 0:
                await store.update(f"/registry/é/{number}", b"new", revision)
            elif number % 7 == 0:
                await store.delete(f"/registry/é/{number}")
        found = (await store.list("")).items
        await store.close()
        return found

    return asyncio.run(script())


def bare(items: list[KeyValue]) -> dict[str, bytes]:
    return {kv.key: kv.value for kv in items}


def test_there_and_back_again(etcd: Member, tmp_path: Path) -> None:
    source, again = tmp_path / "one.db", tmp_path / "two.db"
    items = make_file(source, 200)
    last = max(kv.mod_revision for kv in items)
    there = movestore.copy(source, etcd.settings())
    assert there.keys == len(items)
    assert there.revision > last

    async def look() -> list[KeyValue]:
        store = await EtcdStore.open(etcd.settings())
        found = (await store.list("")).items
        assert min(kv.create_revision for kv in found) > last, "a revision went back"
        await store.close()
        return found

    moved = asyncio.run(look())
    assert bare(moved) == bare(items)
    back = movestore.copy(etcd.settings(), again)
    assert (back.keys, back.digest) == (there.keys, there.digest)

    async def look_again() -> None:
        store = SqliteStore.open(again)
        assert (await store.list("")).items == moved, "revisions are taken along"
        assert store.current_revision() == back.revision
        with pytest.raises(Compacted):
            store.watch("", back.revision - 1)
        assert await store.create("/next", b"") == back.revision + 1
        await store.close()
        store = SqliteStore.open(again)
        assert len((await store.list("")).items) == len(moved) + 1
        await store.close()

    asyncio.run(look_again())


def test_the_command_says_what_it_did(etcd: Member, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make_file(data / "cluster.db", 20)
    command = [sys.executable, "-m", "portway", "store", "copy", "--from", str(data), "--to", f"etcd://{etcd.endpoint}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert "keys copied and compared (sha256 " in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.endswith("give another --etcd-prefix\n")


def test_what_would_lose_something_is_refused(etcd: Member, tmp_path: Path) -> None:
    source = tmp_path / "one.db"
    make_file(source, 10)
    with pytest.raises(UpError, match="there is no such file"):
        movestore.copy(tmp_path / "absent.db", etcd.settings())
    movestore.copy(source, etcd.settings())
    with pytest.raises(UpError, match="holds a cluster below /portway already"):
        movestore.copy(source, etcd.settings())
    with pytest.raises(UpError, match="only copied to where there is none"):
        movestore.copy(etcd.settings(), source)
    movestore.copy(source, etcd.settings("/other"))

    async def in_use() -> None:
        store = SqliteStore.open(source)
        with pytest.raises(UpError, match="another process is using"):
            await asyncio.to_thread(movestore.copy, source, etcd.settings("/third"))
        await store.close()

    asyncio.run(in_use())
