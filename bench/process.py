"""Processes that a run starts, and ends by their id; ports; memory as /proc tells it."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class BenchError(Exception):
    """Something could not be measured; the message says what, for the table."""


def free_port(address: str = "127.0.0.1") -> int:
    """A port nobody listens on now."""
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


class Processes:
    """Everything started, ended in reverse order by close() at the latest. Output goes to NAME.log in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> int:
        """Starts `command` in its own session; its process id."""
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._running.append((name, process))
        return process.pid

    def wait_for(self, name: str, ready: Callable[[], bool], timeout: float = 20, pause: float = 0.05) -> None:
        """Until `ready()`, asked every `pause` seconds. BenchError with the end of the log when the process ends or the
        time is up.
        """
        process = dict(self._running)[name]
        deadline = time.monotonic() + timeout
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self._directory / f"{name}.log").read_text(errors="replace").strip().splitlines()
                raise BenchError(f"{name} did not start: {log[-1] if log else 'it said nothing'}")
            time.sleep(pause)

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL to its session after 10 s."""
        process = dict(self._running)[name]
        self._running.remove((name, process))
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def close(self) -> None:
        for name, _ in reversed(self._running.copy()):
            self.stop(name)


def _end_with_parent() -> None:
    """SIGTERM for a child whose bench has died, however it did (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def accepts(address: str, port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((address, port)) == 0


def descendants(pid: int) -> list[int]:
    """The ids of a process's children, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, queue = [], [pid]
    while queue:
        queue += (born := children.get(queue.pop(), []))
        found += born
    return found


def listeners(pids: Sequence[int], port: int) -> list[int]:
    """Those of `pids` that hold a listening TCP socket on `port`."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    return [pid for pid in pids if inodes & _links(pid)]


def _links(pid: int) -> set[str]:
    links = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.add(os.readlink(entry.path))
    return links


@dataclass(frozen=True)
class Memory:
    """Of several processes together, in MiB: `rss` counts shared pages for each, `pss` once."""

    rss: float
    pss: float
    processes: int


def memory(pids: Sequence[int]) -> Memory:
    """What `pids` hold now."""
    rss = pss = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
        rss += sizes["Rss"]
        pss += sizes["Pss"]
    return Memory(rss / 1024, pss / 1024, len(pids))
