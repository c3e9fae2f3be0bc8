"""Keeps child processes running: starts them, starts them again when they die, passes signals on, ends them in good
order.

It knows nothing of what they do. A child that exits with 78 (EX_CONFIG) would only fail again: then everything stops.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EX_CONFIG = 78
FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0
STEADY = 10.0
"""Seconds after which a child that dies is started again at once."""


@dataclass(frozen=True)
class Child:
    """A process to keep. `input` is written to its standard input; `stop_timeout` seconds after SIGTERM it is
    killed.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    input: bytes = b""
    pass_fds: tuple[int, ...] = ()
    stop_timeout: float = 35.0


class Supervisor:
    """Runs its children; at the end it stops all but the first together, and then the first, which served them."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._code = 0

    def processes(self) -> dict[str, int]:
        """Name to process id of what runs now."""
        return {name: process.pid for name, process in self._running.items()}

    def stop(self, code: int = 0) -> None:
        """Asks for the end; `run` returns when it is reached."""
        self._code = self._code or code
        self._stopping.set()

    def signal(self, number: int) -> None:
        """Passes a signal on to every child."""
        for process in self._running.values():
            if process.returncode is None:
                process.send_signal(number)

    async def run(self) -> int:
        """Serves until SIGTERM, SIGINT or a child's hopeless exit; the exit code. A second signal kills at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._interrupted)
        loop.add_signal_handler(signal.SIGHUP, self.signal, signal.SIGHUP)
        keepers = [asyncio.create_task(self._keep(child), name=child.name) for child in self._children]
        await self._stopping.wait()
        first, *others = self._children
        await asyncio.gather(*(self._end(child) for child in others))
        await self._end(first)
        await asyncio.gather(*keepers)
        return self._code

    def _interrupted(self) -> None:
        if self._stopping.is_set():
            self.signal(signal.SIGKILL)
        self._stopping.set()

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            started = loop.time()
            try:
                code = await self._run(child)
            except OSError as error:  # no memory, no process ids: that may pass
                print(f"portway: {child.name} cannot be started: {error}", file=sys.stderr, flush=True)
                code = os.EX_OSERR
            if self._stopping.is_set():
                return
            if code == EX_CONFIG:
                self.stop(1)
                return
            delay = FIRST_DELAY if loop.time() - started > STEADY else min(delay * 2, LONGEST_DELAY)
            print(
                f"portway: {child.name} ended with {_described(code)}; starting it again", file=sys.stderr, flush=True
            )
            try:
                await asyncio.wait_for(self._stopping.wait(), delay)
            except TimeoutError:
                continue

    async def _run(self, child: Child) -> int:
        process = await asyncio.create_subprocess_exec(
            *child.argv,
            stdin=asyncio.subprocess.PIPE,
            env=child.env,
            pass_fds=child.pass_fds,
            # Ctrl+C reaches the whole foreground group: only the supervisor decides what it means.
            start_new_session=True,
            # A reload must not kill a child that has not got to its handlers yet.
            preexec_fn=_ignore_reload,
        )
        self._running[child.name] = process
        if self._stopping.is_set():
            # `_end` came while it was being spawned and saw nothing to end; it has nothing to finish yet.
            process.kill()
        elif process.stdin is not None:
            process.stdin.write(child.input)
            process.stdin.close()
        return await process.wait()

    async def _end(self, child: Child) -> None:
        process = self._running.get(child.name)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), child.stop_timeout)
        except TimeoutError:
            process.kill()


def _ignore_reload() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _described(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
