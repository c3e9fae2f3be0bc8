"""A child process that writes until it is killed: `crash_writer.py FILE WRITERS SEED`.

The writers create, update and delete keys of their own; one more task compacts up to where the file was at opening.
Each acknowledgement goes to standard output as one line, after the store has returned:

    REVISION create|update|delete|compact KEY DIGEST
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys

from portway.storage import SqliteStore

DIGEST_BYTES = 32


def sealed(body: bytes) -> bytes:
    """A value that shows when a part of it is missing: it begins with the digest of the rest."""
    return hashlib.sha256(body).digest() + body


def acknowledge(revision: int, what: str, key: str = "-", value: bytes = b"") -> None:
    """One line in one write: a pipe keeps it whole."""
    os.write(1, f"{revision} {what} {key} {value[:DIGEST_BYTES].hex() or '-'}\n".encode())


async def write(store: SqliteStore, name: str, rng: random.Random) -> None:
    """Random writes to ten keys, for ever."""
    while True:
        key = f"/{name}/{rng.randrange(10)}"
        value = sealed(rng.randbytes(rng.choice([10, 1000, 30_000])))
        current = await store.get(key)
        if current is None:
            acknowledge(await store.create(key, value), "create", key, value)
        elif rng.random() < 0.7:
            acknowledge(await store.update(key, value, current.mod_revision), "update", key, value)
        else:
            gone = await store.delete(key, current.mod_revision)
            acknowledge(gone.mod_revision, "delete", key, gone.value)


async def compact(store: SqliteStore, limit: int) -> None:
    """Compact in small steps up to the limit."""
    for revision in range(max(1, limit - 200), limit + 1, 7):
        await store.compact(revision)
        acknowledge(revision, "compact")


async def main(path: str, writers: int, seed: int) -> None:
    store = SqliteStore.open(path)
    writing = [write(store, f"writer{number}", random.Random(f"{seed} {number}")) for number in range(writers)]
    await asyncio.gather(*writing, compact(store, store.current_revision()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
