"""The thread that owns the file and commits writes in groups.

    event loop: submit(job) ──queue──► this thread: take all that wait, decide each, one transaction, one sync
    event loop: settle()    ◄──deliver── outcomes, in revision order, only after the sync

While one group is being synced the next one gathers, so the slower the disk, the larger the groups: nobody waits on a
timer. Compare-and-swap is decided here, against the state after everything committed or in this group; so an answer
(also "you lost") never rests on a write that could still fail.

A full disk fails the writes that have no room and nothing else. Any other error leaves the medium in doubt: from then
on every write is refused until the store is opened anew, for a second sync after a failed one proves nothing (on Linux
the kernel drops the dirty pages). `sqlite.py` is the other side of the queue.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from portway.storage.errors import FutureRevision, MediumFailed, StorageError, StoreFull, StoreUnavailable
from portway.storage.journal import Journal
from portway.storage.keyspace import Keyspace
from portway.storage.protocol import KeyValue
from portway.storage.writes import Change, Write

MAX_GROUP = 512
"""Writes in one transaction at most, so that the first of them need not wait long for the last."""

SWEEP_ROWS = 1000
"""Rows swept in one transaction: some milliseconds, which a write may have to wait."""


@dataclass(frozen=True, slots=True)
class Compact:
    """Note that history up to the revision is no longer kept."""

    revision: int


@dataclass(frozen=True, slots=True)
class Close:
    """Let go of the file and end the thread."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request, and the future of the one who waits for it."""

    request: Write | Compact | Close
    future: asyncio.Future[Change | None]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: an error, or the change it made (None for a compaction or the end)."""

    job: Job
    change: Change | None = None
    error: StorageError | None = None


class Writer:
    """The queue into the thread. Create, `start`, `submit`; the last job is `Close`, then `join`."""

    def __init__(self, journal: Journal, keyspace: Keyspace, deliver: Callable[[list[Outcome]], None]) -> None:
        """`deliver` is called on the writer's thread with each group's outcomes once they are on the medium."""
        self._journal = journal
        self._state = keyspace.state()
        self._revision = keyspace.revision
        self._deliver = deliver
        self._queue: SimpleQueue[Job | list[int]] = SimpleQueue()
        self._garbage: deque[int] = deque()
        self._may_sweep = True
        self.broken: Future[StoreUnavailable] = Future()
        """Done, with the reason, when the medium is in doubt and nothing is written any more."""
        self._thread = threading.Thread(target=self._run, name="portway-store", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have a job done. Its outcome is delivered."""
        self._queue.put(job)

    def sweep(self, revisions: list[int]) -> None:
        """Have rows deleted when there is time."""
        self._queue.put(revisions)

    def join(self) -> None:
        """Wait for the thread to end."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = self._gather(block=not (self._garbage and self._may_sweep))
            close = jobs.pop() if jobs and isinstance(jobs[-1].request, Close) else None
            if jobs:
                self._deliver(self._commit(jobs))
            if close is not None:
                self._deliver([self._close(close)])
                return
            self._sweep_some()

    def _gather(self, block: bool) -> list[Job]:
        """What waits, in order of arrival; if nothing does, either block for it or return at once."""
        jobs: list[Job] = []
        try:
            while len(jobs) < MAX_GROUP:
                item = self._queue.get(block=block and not jobs)
                if isinstance(item, list):
                    self._garbage.extend(item)
                    break
                jobs.append(item)
                if isinstance(item.request, Close):
                    break
        except Empty:
            pass
        return jobs

    def _commit(self, jobs: list[Job]) -> list[Outcome]:
        """Do the jobs in one transaction. When there is no room for all of them, in halves, so that small ones pass."""
        if self.broken.done():
            return [Outcome(job, error=self.broken.result()) for job in jobs]
        outcomes: list[Outcome] = []
        try:
            with self._journal.transaction():
                for job in jobs:
                    outcomes.append(self._do(job))  # noqa: PERF401 - after an error, those done so far are undone
        except Exception as error:  # whatever it was, the group is undone and its callers are told
            self._undo(outcomes)
            if isinstance(error, StoreFull) and len(jobs) > 1:
                half = len(jobs) // 2
                return self._commit(jobs[:half]) + self._commit(jobs[half:])
            failure = self._failure(error)
            return [Outcome(job, error=failure) for job in jobs]
        return outcomes

    def _do(self, job: Job) -> Outcome:
        """One job within the transaction: a lost compare-and-swap is an outcome, a refusing medium raises."""
        request = job.request
        if isinstance(request, Compact):
            if request.revision > self._revision:
                return Outcome(job, error=FutureRevision(self._revision))
            self._journal.compact(request.revision)
            return Outcome(job)
        if isinstance(request, Close):
            raise TypeError("a close is the last job")
        try:
            change = request.decide(self._state.get(request.key), self._revision + 1)
        except StorageError as error:
            return Outcome(job, error=error)
        self._journal.append(change)
        self._advance(request.key, change.after, change.event.revision)
        return Outcome(job, change)

    def _advance(self, key: str, kv: KeyValue | None, revision: int) -> None:
        if kv is None:
            self._state.pop(key, None)
        else:
            self._state[key] = kv
        self._revision = revision

    def _undo(self, outcomes: list[Outcome]) -> None:
        """The transaction was rolled back: so is what was believed within it."""
        for outcome in reversed(outcomes):
            if outcome.change is not None:
                event = outcome.change.event
                self._advance(event.kv.key, outcome.change.before, event.revision - 1)

    def _failure(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, StoreFull):
            return error
        if not isinstance(error, StoreUnavailable):
            error = MediumFailed(f"{self._journal.path}: writing failed ({error!r}): start again")
        self.broken.set_result(error)
        return error

    def _sweep_some(self) -> None:
        """Delete some rows, oldest first. Without room for that, try again after the next write."""
        if self.broken.done():
            self._garbage.clear()
        rows = [self._garbage.popleft() for _ in range(min(SWEEP_ROWS, len(self._garbage)))]
        if not rows:
            return
        try:
            with self._journal.transaction():
                self._journal.sweep(rows)
        except Exception as error:  # rolled back, like a group of writes
            self._garbage.extendleft(reversed(rows))
            self._failure(error)
            self._may_sweep = False
        else:
            self._may_sweep = True

    def _close(self, job: Job) -> Outcome:
        try:
            self._journal.close()
        except StoreUnavailable as error:
            return Outcome(job, error=error)
        return Outcome(job)
