"""One process of a pod: started with its own session and log file, stopped politely and then for certain.

A session of its own, so that Ctrl+C in the terminal reaches the supervisor alone, which lets requests finish before the
pods go. The child asks the kernel to end it with this process (`orphan.py`); this module tells it who that is.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from portway.node.orphan import PARENT_VARIABLE

TAIL_BYTES = 2048
"""How much of the log says why a process ended (a kubelet's FallbackToLogsOnError takes as much)."""


class Process:
    """A running process; make one with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self._process = process
        self._log = log
        self._log_start = log_start

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "Process":
        """Start `command` with exactly this environment; its output is appended to `log`. OSError when it cannot be."""
        with log.open("ab") as output:
            begin = output.tell()
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**environment, PARENT_VARIABLE: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(process, log, begin)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """The exit code; 128 + N for one that signal N ended, as a shell and a kubelet say it."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL when it still runs after `grace` seconds; returns once it is gone."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                self._process.kill()
        await self._process.wait()

    def last_words(self) -> str:
        """The end of what this process, not an earlier one, wrote."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()
