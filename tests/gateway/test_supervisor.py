"""The supervisor keeps real processes: started again when killed, ended in order, given up on when that is hopeless."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.gateway.supervisor import EX_CONFIG, Child, Supervisor

FOREVER = "import signal, sys, time; print(sys.stdin.read(), flush=True)\nwhile True: time.sleep(60)"
STUBBORN = (
    "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path({0!r}).touch()\n"
    "while True: time.sleep(60)"
)


def python(name: str, code: str, **more: object) -> Child:
    return Child(name, (sys.executable, "-c", code), **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_child_is_started_again_and_the_other_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        supervisor = Supervisor([python("one", FOREVER, input=b"told"), python("two", FOREVER)])
        running = asyncio.create_task(supervisor.run())
        await until(lambda: len(supervisor.processes()) == 2)
        before = supervisor.processes()
        os.kill(before["one"], signal.SIGKILL)
        await until(lambda: supervisor.processes()["one"] != before["one"])
        assert supervisor.processes()["two"] == before["two"]
        supervisor.stop()
        assert await running == 0
        assert not any(alive(pid) for pid in supervisor.processes().values())

    asyncio.run(run())
    said = capfd.readouterr()
    assert "portway: one ended with SIGKILL; starting it again" in said.err


def test_a_configuration_error_ends_everything() -> None:
    async def run() -> int:
        supervisor = Supervisor([python("other", FOREVER), python("bad", f"raise SystemExit({EX_CONFIG})")])
        return await asyncio.wait_for(supervisor.run(), 10)

    assert asyncio.run(run()) == 1


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"

    async def run() -> float:
        supervisor = Supervisor([python("stubborn", STUBBORN.format(str(deaf)), stop_timeout=0.3)])
        running = asyncio.create_task(supervisor.run())
        await until(deaf.exists)
        started = time.monotonic()
        supervisor.stop()
        await running
        return time.monotonic() - started

    assert asyncio.run(run()) < 5


def test_it_ends_whenever_it_is_told_to_also_while_a_child_is_being_spawned() -> None:
    """Spawning takes a few turns of the loop: it is told to stop after each number of them."""

    async def run(turns: int) -> int:
        supervisor = Supervisor([python("one", FOREVER), python("two", FOREVER)])
        running = asyncio.create_task(supervisor.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        supervisor.stop()
        code = await asyncio.wait_for(running, 20)
        assert not any(alive(pid) for pid in supervisor.processes().values())
        return code

    assert [asyncio.run(run(turns)) for turns in range(12)] == [0] * 12


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "program"

    async def run() -> int:
        supervisor = Supervisor([Child("late", (str(program),)), python("other", FOREVER)])
        running = asyncio.create_task(supervisor.run())
        await until(lambda: "other" in supervisor.processes())
        program.symlink_to("/bin/cat")
        await until(lambda: "late" in supervisor.processes())
        supervisor.stop()
        return await asyncio.wait_for(running, 20)

    assert asyncio.run(run()) == 0
    assert "portway: late cannot be started: [Errno 2] No such file" in capfd.readouterr().err


def test_signals_end_it_in_good_order(tmp_path: Path) -> None:
    marks = tmp_path / "order"
    marks.touch()
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    open({0!r}, 'a').write({1!r}); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); open({0!r}, 'a').write('+')\nwhile True: time.sleep(60)"
    )

    async def run() -> int:
        supervisor = Supervisor(
            [python("first", code.format(str(marks), "1")), python("second", code.format(str(marks), "2"))]
        )
        running = asyncio.create_task(supervisor.run())
        await until(lambda: marks.read_text() == "++")
        os.kill(os.getpid(), signal.SIGTERM)
        return await running

    assert asyncio.run(run()) == 0
    assert marks.read_text() == "++21"
