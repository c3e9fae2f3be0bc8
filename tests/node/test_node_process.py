"""Real processes: started, probed, stopped, and never orphans."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.node.probe import Probe, status_is_success, succeeds
from portway.node.process import Process

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_exit_codes_are_a_kubelets(tmp_path: Path, code: str, expected: int) -> None:
    async def run() -> int:
        return await (await Process.start(python(code), ENVIRONMENT, tmp_path / "log")).wait()

    assert asyncio.run(run()) == expected


def test_last_words_are_this_processes_own(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def run(text: str) -> str:
        process = await Process.start(python(f"print({text!r})"), ENVIRONMENT, log)
        await process.wait()
        return process.last_words()

    assert asyncio.run(run("first")) == "first"
    assert asyncio.run(run("second")) == "second"
    assert asyncio.run(run("x" * 5000)) == "x" * 2047
    assert log.read_text().startswith("first\nsecond\n")


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"

    async def run() -> tuple[int, float]:
        process = await Process.start(python(stubborn), ENVIRONMENT, tmp_path / "log")
        while "deaf" not in process.last_words():
            await asyncio.sleep(0.01)
        started = time.monotonic()
        await process.stop(0.2)
        return await process.wait(), time.monotonic() - started

    code, took = asyncio.run(run())
    assert code == 137
    assert took < 5


def test_it_gets_exactly_the_environment_it_was_given(tmp_path: Path) -> None:
    async def run() -> str:
        show = "import os; print(sorted(name for name in os.environ if name != 'LC_CTYPE'))"
        process = await Process.start(python(show), {"PATH": "/bin", "A": "1"}, tmp_path / "log")
        await process.wait()
        return process.last_words()

    assert asyncio.run(run()) == "['A', 'PATH', 'PORTWAY_PARENT_PID']"


def test_kill_9_of_the_parent_leaves_no_orphan(tmp_path: Path) -> None:
    child = (
        "import time\nfrom portway.node.orphan import die_with_parent\n"
        "die_with_parent()\nprint('on', flush=True)\ntime.sleep(60)"
    )
    command, log = (sys.executable, "-c", child), str(tmp_path / "log")
    parent = f"""
import asyncio, os
from pathlib import Path
from portway.node.process import Process
async def main():
    process = await Process.start({command!r}, os.environ, Path({log!r}))
    while "on" not in process.last_words():
        await asyncio.sleep(0.01)
    print(process.pid, flush=True)
    await process.wait()
asyncio.run(main())
"""
    with subprocess.Popen(python(parent), stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        assert alive(pid)
        started.kill()
    assert wait_until_gone(pid)


def test_one_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "from portway.node.orphan import die_with_parent; die_with_parent(); print('still here')"
    done = subprocess.run(
        python(code), env=ENVIRONMENT | {"PORTWAY_PARENT_PID": "1"}, capture_output=True, timeout=20, check=True
    )
    assert done.stdout == b""


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that answers every request so; its port."""
    code = (
        "import socket\n"
        "listener = socket.create_server(('127.0.0.1', 0)); print(listener.getsockname()[1], flush=True)\n"
        "while True:\n"
        "    peer, _ = listener.accept()\n"
        f"    data = peer.recv(4096); data and peer.sendall({answer!r}); peer.close()\n"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 503 no\r\n\r\n", False),
        (b"SSH-2.0-x\r\n", False),
        (b"", False),
    ],
)
def test_an_http_probe_takes_200_to_399(answer: bytes, ready: bool) -> None:
    with answering(answer) as port:
        assert asyncio.run(succeeds(Probe("127.0.0.1", port, "/healthz"))) is ready
        assert asyncio.run(succeeds(Probe("127.0.0.1", port))) is True


def test_a_probe_of_nothing_fails() -> None:
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert asyncio.run(succeeds(Probe("127.0.0.1", unused.getsockname()[1]))) is False


@pytest.mark.parametrize("start", [b"", b"HTTP/2 x", b"HTTP/1.1 abc"])
def test_what_is_not_http_is_a_value_error(start: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        status_is_success(start)
