"""`portway proxy` as a process, in front of a cluster that a kubeconfig names."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 30.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class ProxyCommand:
    """One that listens. `name` is what it said it serves on: an address and port, or a socket's path."""

    process: subprocess.Popen[str]
    name: str

    @property
    def port(self) -> int:
        """The port it chose or was given."""
        return int(self.name.rpartition(":")[2])

    def get(self, path: str, host: str = "", method: str = "GET", **fields: str) -> tuple[int, dict[str, str], bytes]:
        """(status, fields, body); underscores in field names become dashes."""
        if self.name.startswith("/"):
            connection: http.client.HTTPConnection = _UnixConnection(self.name)
        else:
            address = self.name.rpartition(":")[0].strip("[]")
            connection = http.client.HTTPConnection(address, self.port, timeout=SECONDS)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"localhost:{self.port}" if self.name[0] != "/" else "localhost")
            for name, value in fields.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """(exit code, the rest of what it printed, and what it complained about) after a signal."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err


def command(kubeconfig: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts it, with pipes for what it prints."""
    return subprocess.Popen(
        [sys.executable, "-m", "portway", "proxy", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
    )


def refused(kubeconfig: Path, *flags: str) -> tuple[int, str]:
    """(exit code, complaint) of one that doesn't start; it prints nothing else."""
    with command(kubeconfig, *flags) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert out == ""
    return process.returncode, err


@contextmanager
def proxying(kubeconfig: Path, *flags: str) -> Iterator[ProxyCommand]:
    """One that listens, on a port of its choice if the flags don't say; gone when the block ends."""
    placed = any(flag.startswith(("--port", "-p", "--unix-socket", "-u")) for flag in flags)
    with command(kubeconfig, *flags, *([] if placed else ["--port=0"])) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("Starting to serve on "):
                complaint = process.communicate(timeout=SECONDS)[1]
                raise RuntimeError(f"portway proxy ended with {process.returncode}: {line}{complaint}")
            yield ProxyCommand(process, line.removeprefix("Starting to serve on ").removesuffix("\n"))
        finally:
            process.kill()
