"""`kill -9` in mid-write, really: nothing acknowledged is lost, nothing is half-written, revisions only grow.

A child writes and prints what was acknowledged (`crash_writer.py`); we kill it at a random moment, copy the files it
left and examine the copy. The next child starts on the originals, so it has to recover them itself.

What this cannot show is a power cut: the kernel survives here. That each commit waits for a sync is checked in
`test_sqlite_file.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from portway.storage import Compacted, Event, KeyValue, SqliteStore

CHILD = Path(__file__).with_name("crash_writer.py")
WRITERS = 8


@dataclass
class Witness:
    """What the children have been told, and what was found in the file after the last kill."""

    acknowledged: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    events: dict[int, Event] = field(default_factory=dict)
    state: dict[str, KeyValue] = field(default_factory=dict)
    revision: int = 1
    compacted: int = 0

    def hear(self, output: bytes) -> None:
        """Take down a child's acknowledgements."""
        assert output == b"" or output.endswith(b"\n")
        for line in output.decode().splitlines():
            number, what, key, digest = line.split()
            revision = int(number)
            if what == "compact":
                self.compacted = max(self.compacted, revision)
                continue
            assert revision not in self.acknowledged, "a revision was used twice"
            assert revision > self.revision, "a revision that was seen before this child began was used again"
            self.acknowledged[revision] = (what, key, digest)

    async def examine(self, store: SqliteStore) -> None:
        """Compare what is in the file with all that is known."""
        assert store.current_revision() >= max(self.acknowledged, default=1)
        events = await self._replay(store)
        for event in events:
            if event.revision in self.events:
                assert event == self.events[event.revision], "history was rewritten"
            elif event.revision > self.revision:
                self._believe(event)
        assert set(range(self.revision + 1, store.current_revision() + 1)) <= {event.revision for event in events}
        unheard = set(range(self.revision + 1, store.current_revision() + 1)) - self.acknowledged.keys()
        assert len(unheard) <= WRITERS, "more unacknowledged writes than could be under way"
        self.revision = store.current_revision()
        assert (await store.list("")).items == [self.state[key] for key in sorted(self.state)]

    async def _replay(self, store: SqliteStore) -> list[Event]:
        """All events a watch from the oldest allowed revision gives: without holes."""
        oldest = 0
        try:
            store.watch("", 0)
        except Compacted as error:
            oldest = error.compact_revision
        assert oldest >= self.compacted, "an acknowledged compaction was lost"
        watch = store.watch("", oldest)
        expected = list(range(max(oldest, 1) + 1, store.current_revision() + 1))
        events = [await anext(watch) for _ in expected]
        assert [event.revision for event in events] == expected
        return events

    def _believe(self, event: Event) -> None:
        """A new event: whole, as acknowledged (if it was), and fitting what was before it."""
        kv, before = event.kv, self.state.get(event.kv.key)
        digest = seal(kv.value)
        what = "delete" if event.type == "DELETE" else "create" if event.created else "update"
        assert self.acknowledged.get(event.revision, (what, kv.key, digest)) == (what, kv.key, digest)
        assert event.previous == (before.value if before else None)
        assert kv.create_revision == (before.create_revision if before else kv.mod_revision)
        self.events[event.revision] = event
        if what == "delete":
            del self.state[kv.key]
        else:
            self.state[kv.key] = kv


def seal(value: bytes) -> str:
    """The digest a value begins with; the rest must have it."""
    assert hashlib.sha256(value[32:]).digest() == value[:32], "half-written"
    return value[:32].hex()


@dataclass(frozen=True)
class Kill:
    """When: after so many acknowledgements, or after so many seconds."""

    seed: int
    lines: int
    seconds: float


def write_until_killed(path: Path, kill: Kill) -> bytes:
    """Start a child, kill it in time; everything it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(CHILD), str(path), str(WRITERS), str(kill.seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        output, deadline = b"", time.monotonic() + kill.seconds
        try:
            while output.count(b"\n") < kill.lines and (left := deadline - time.monotonic()) > 0:
                if select.select([child.stdout], [], [], left)[0]:
                    chunk = os.read(child.stdout.fileno(), 65536)
                    if not chunk:
                        break
                    output += chunk
        finally:
            child.send_signal(signal.SIGKILL)
        output += child.stdout.read()
    assert child.returncode == -signal.SIGKILL, "the child ended by itself"
    return output


def kill_and_examine(directory: Path, kills: Iterable[Kill]) -> Witness:
    witness = Witness()
    for number, kill in enumerate(kills):
        witness.hear(write_until_killed(directory / "state.db", kill))
        copy = directory / f"copy{number}"
        copy.mkdir()
        for file in directory.glob("state.db*"):
            shutil.copy(file, copy)
        store = SqliteStore.open(copy / "state.db")

        async def examine(store: SqliteStore = store) -> None:
            try:
                await witness.examine(store)
            finally:
                await store.close()

        asyncio.run(examine())
        shutil.rmtree(copy)
    return witness


def test_three_kills_lose_nothing(tmp_path: Path) -> None:
    kills = [Kill(seed, lines, 15.0) for seed, lines in enumerate((150, 40, 300))]
    assert len(kill_and_examine(tmp_path, kills).acknowledged) > 300


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    """Half of them by time, so that some fall into the opening and the recovery."""
    rng = random.Random(time.time_ns())
    lines = [rng.choice([1, 20, 200, 1000]) for _ in range(100)]
    kills = [Kill(rng.getrandbits(30), count, rng.choice([rng.uniform(0.0, 0.6), 20.0])) for count in lines]
    assert len(kill_and_examine(tmp_path, kills).acknowledged) > 1000
