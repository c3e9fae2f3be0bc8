"""Pages of the Kubernetes documentation as tests: their kubectl lines, unmodified, and what must come of each.

    PAGE = Page(files={"svc.yaml": …}, pods=(RegisteredPod("web", {"app": "web"}, 8080),), lines=(
        Line("kubectl apply -f svc.yaml", "service/web created"),
        Line("kubectl exec web -- printenv", refused="error: unable to upgrade connection: …"),
    ))

A line runs in bash, with `kubectl` in its PATH and the page's files around it; pipes and variables are as on the page.
Where a page makes pods by what is out of scope here, it has pods registered by hand: objects with a status, and an HTTP
server on an address of the pods' range. The text of the documentation is not in here, only the commands.
"""

from __future__ import annotations

import errno
import http.server
import json
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portway.testing.cluster import wait_until
from portway.testing.kubectl import Kubectl, Result, tidy


@dataclass(frozen=True)
class Line:
    """One command. `shows` are regular expressions that its output must hold, in this order.

    `refused` is what it must complain of; several where kubectls of different ages say it differently.
    `shows` may name the {namespace}. A line is tried again until it shows
    what it must when it is `eventual`: the page says to wait there, or a controller has to act first.
    """

    command: str
    shows: str | Sequence[str] = ()
    refused: str | Sequence[str] = ()
    code: int = 1
    """Of a refused line."""
    eventual: bool = False
    since: tuple[int, int] = (0, 0)
    """The first kubectl that knows the command."""

    @property
    def patterns(self) -> Sequence[str]:
        """`shows` as a sequence."""
        return [self.shows] if isinstance(self.shows, str) else self.shows

    @property
    def complaints(self) -> Sequence[str]:
        """`refused` as a sequence."""
        return [self.refused] if isinstance(self.refused, str) else self.refused


@dataclass(frozen=True)
class RegisteredPod:
    """A pod that nobody started: its object, and a server that answers as the page's image does (with its name)."""

    name: str
    labels: Mapping[str, str]
    port: int


@dataclass(frozen=True)
class Page:
    """One page: what lies in its directory, the pods it has, and its lines in order."""

    lines: Sequence[Line]
    files: Mapping[str, Any] = field(default_factory=dict)
    """Name → text, or objects that are written as JSON."""
    pods: Sequence[RegisteredPod] = ()


class _Answer(http.server.BaseHTTPRequestHandler):
    """Answers with the pod's name, and with who asked as the source-ip page's image does."""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        body = f"{self.server.pod}\nclient_address={self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    pod = ""


@contextmanager
def registered(kubectl: Kubectl, pod: RegisteredPod) -> Iterator[str]:
    """The pod, ready, for the time of the block; gives its address."""
    server = _listening(pod.port)
    server.pod = pod.name
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=pod.name)
    thread.start()
    address = str(server.server_address[0])
    try:
        kubectl.ok("create", "-f", "-", stdin=_object(pod))
        kubectl.ok("patch", "pod", pod.name, "--subresource=status", "--type=merge", "-p", json.dumps(_status(address)))
        yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listening(port: int) -> _Server:
    """On one of the pods' addresses that nobody has yet, in this process or in another."""
    while True:
        try:
            return _Server((f"127.93.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}", port), _Answer)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


def _object(pod: RegisteredPod) -> dict[str, Any]:
    containers = [{"name": "web", "image": "registered/by-hand", "ports": [{"containerPort": pod.port}]}]
    spec = {"nodeName": "elsewhere", "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name, "labels": dict(pod.labels)}, "spec": spec}


def _status(address: str) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": "registered/by-hand",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
    }
    conditions = [{"type": "Ready", "status": "True"}]
    addresses = {"podIP": address, "podIPs": [{"ip": address}]}
    return {"status": {"phase": "Running", **addresses, "conditions": conditions, "containerStatuses": [container]}}


def run_page(page: Page, kubectl: Kubectl, directory: Path) -> None:
    """Runs a page's lines in order; an AssertionError names the line that didn't do what it must."""
    tools = directory / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(kubectl.binary)
    for name, content in page.files.items():
        (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with ExitStack() as stack:
        for pod in page.pods:
            stack.enter_context(registered(kubectl, pod))
        for line in page.lines:
            if kubectl.version >= line.since:
                _check(line, kubectl, directory)


def _check(line: Line, kubectl: Kubectl, directory: Path) -> None:
    def complaint() -> str:
        result = _run(line.command, kubectl, directory)
        if line.refused:
            same = (result.code, result.out) == (line.code, "") and result.err.strip() in line.complaints
            return "" if same else f"{line.command}\n{result}\nwanted code {line.code}, {line.refused!r}"
        if result.code != 0 or "<error>" in result.out:
            return f"{line.command}\n{result}"
        pattern = ".*".join(line.patterns).replace("{namespace}", kubectl.namespace)
        found = re.search(pattern, result.out, re.DOTALL | re.MULTILINE)
        return "" if found else f"{line.command}\n{result.out}\ndoes not show {line.patterns}"

    if line.eventual:
        wait_until(lambda: not complaint(), f"in vain: {complaint()}")
    said = complaint() if not line.eventual else ""
    assert not said, said


def _run(command: str, kubectl: Kubectl, directory: Path) -> Result:
    environment = kubectl.environment()
    environment["PATH"] = f"{directory / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=directory,
        check=False,
    )
    return tidy(done.returncode, done.stdout, done.stderr)
