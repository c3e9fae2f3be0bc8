"""`portway forward` on a cluster of real processes: what dies is waited for, and only Ctrl+C ends it."""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import PORTWAY, child, is_ready, pod, portway
from portway.testing.demo import running as alive

pytestmark = pytest.mark.slow


def runs(cluster: Cluster, name: str) -> bool:
    found = pod(cluster, name)
    return found.get("kind") == "Pod" and is_ready(found)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster to break things in."""
    with started(tmp_path, "--demo", workers=1) as made:
        wait_until(lambda: runs(made, "hello-0") and runs(made, "hello-1"), "hello does not run")
        yield made


class Forward:
    """A running command with `-o json`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def wait(self, event: str) -> dict[str, Any]:
        """Reads up to the next event of a kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError(f"it ended: {self.events}")


@contextlib.contextmanager
def forward(cluster: Cluster, *argv: str) -> Iterator[Forward]:
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    command = [*PORTWAY, "forward", *argv, "-o", "json", "--address", "127.0.0.1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Forward(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def fetch(port: int) -> tuple[str, float]:
    """The answer, and how long it took, in seconds."""
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return answer.read().decode(), time.monotonic() - began


def kill(pid: int) -> None:
    """And see it die: what is under way at that moment is lost, and is not what is tested."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive({pid}), f"{pid} does not die")


def kill_pod(cluster: Cluster, name: str) -> None:
    container = pod(cluster, name)["status"]["containerStatuses"][0]["containerID"]
    kill(int(container.removeprefix("process://")))


def test_what_dies_is_waited_for(own: Cluster) -> None:
    with forward(own, "svc/hello", ":80") as running:
        port = running.wait("listening")["local"]
        assert {fetch(port)[0] for _ in range(4)} == {"hello from hello-0\n", "hello from hello-1\n"}

        kill_pod(own, "hello-0")
        answer, seconds = fetch(port)
        print(f"next connection after a pod's death: {seconds:.3f} s")
        assert (answer, seconds < 1.0) == ("hello from hello-1\n", True)

        kill(child(own, "portway.up.control"))
        answer, seconds = fetch(port)
        print(f"next connection after the API server's death, pods and all: {seconds:.3f} s")
        assert answer.startswith("hello from hello-")

        kill(child(own, "portway.gateway.worker"))
        answer, seconds = fetch(port)
        print(f"next connection after the door's death: {seconds:.3f} s")
        assert answer.startswith("hello from hello-")
        assert running.process.poll() is None


def test_several_targets_at_once(own: Cluster) -> None:
    with forward(own, "svc/hello", ":80", "pod/hello-1", ":web", "-l", "app=hello", ":8080") as running:
        ports = [running.wait("listening") for _ in range(3)]
        assert [one["target"] for one in ports] == ["svc/hello", "pod/hello-1", "app=hello"]
        assert all(fetch(one["local"])[0].startswith("hello from") for one in ports)
        assert fetch(ports[1]["local"])[0] == "hello from hello-1\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("svc/hello", "81"), "portway: service hello does not have a service port 81; it has 80 (http)\n"),
        (("svc/nope", "80"), 'portway: services "nope" not found\n'),
        (("deploy/web", "80"), 'portway: deployments.apps "web" not found\n'),
        (("sts/web", "80"), "portway: sts/web: this cluster's API has no statefulsets\n"),
        (("pod/hello-0", "nix"), 'portway: Pod "hello-0" does not have a named port "nix"\n'),
    ],
)
def test_what_can_never_work(own: Cluster, words: tuple[str, ...], complaint: str) -> None:
    done = portway(own, "forward", *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", complaint)
