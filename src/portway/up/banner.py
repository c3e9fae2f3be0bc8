"""What a person reads once the cluster serves: links that work, who to be, what to try, and how to stop it."""

import asyncio
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from portway import __version__
from portway.kube.objects import Object
from portway.node.demo import catalogue
from portway.up import ask, links
from portway.up.bootstrap import DEMO_USER, Credentials
from portway.up.datadir import DataDir
from portway.up.settings import PLAIN_ADDRESS, UpSettings

_POLL = 0.05
_PATIENCE = 20.0
"""Seconds after which it is told as it is, ready or not."""
_SERVICES = "/api/v1/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue"
_AS_ADMIN = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
_SEARCH = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_search?q=user:kimchy&pretty=true"


@dataclass(frozen=True, slots=True)
class Row:
    """A service in the list."""

    title: str
    url: str
    ready: bool


class Banner:
    """Waits until there is something to click, then prints once."""

    def __init__(self, settings: UpSettings, credentials: Credentials, directory: DataDir) -> None:
        self._settings = settings
        self._credentials = credentials
        self._directory = directory
        self._deadline = 0.0

    async def when_ready(self) -> None:
        """Print when the listeners accept and the demo's services answer, or patience ends."""
        self._deadline = asyncio.get_running_loop().time() + _PATIENCE
        while not await self._accepts() and not self._late():
            await asyncio.sleep(_POLL)
        rows = await self._rows()
        while self._settings.demo and not self._late() and not self._complete(rows):
            await asyncio.sleep(_POLL)
            rows = await self._rows()
        text = render(self._settings, self._credentials, rows, _since_start(), colour=sys.stdout.isatty())
        print(text, flush=True)

    def _complete(self, rows: Sequence[Row]) -> bool:
        """Whether each of the demo's services is there and answers."""
        wanted = [one.object for one in catalogue.MANIFESTS if one.object["kind"] == "Service"]
        return len(rows) >= len(wanted) and all(row.ready for row in rows)

    def _late(self) -> bool:
        return asyncio.get_running_loop().time() > self._deadline

    async def _accepts(self) -> bool:
        """Whether a worker listens: workers only do once they know the cluster."""
        try:
            host = self._settings.reachable_address.strip("[]")
            _, writer = await asyncio.open_connection(host, self._settings.secure_port)
        except OSError:
            return False
        writer.transport.abort()
        return True

    async def _rows(self) -> list[Row]:
        found = await ask.over_unix(self._directory.api_socket, _SERVICES, _AS_ADMIN) or {}
        services: Sequence[Object] = found.get("items") or []
        return list(await asyncio.gather(*(self._row(service) for service in services)))

    async def _row(self, service: Object) -> Row:
        server = self._settings.plain_server or self._settings.server
        url = links.first_link(server, service).rstrip() + "/"
        if not self._settings.plain_server or not url.startswith(server):
            return Row(links.title(service), url, True)
        token = self._credentials.tokens.read_text("utf-8").partition(",")[0]
        headers = {"Authorization": f"Bearer {token}"}
        status = await ask.over_tcp(PLAIN_ADDRESS, self._settings.plain_port, url[len(server) :], headers)
        return Row(links.title(service), url, 200 <= status < 400)


def render(settings: UpSettings, credentials: Credentials, rows: Sequence[Row], seconds: float, *, colour: bool) -> str:
    """The text; with `colour` for a terminal."""
    bold, dim, end = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if colour else ("", "", "")
    lines = ["", f"{bold}Portway {__version__}{end} serves {settings.server} {dim}(ready in {seconds:.1f} s){end}", ""]
    if rows:
        width = max(len(row.title) for row in rows)
        lines.append("Services:")
        for row in rows:
            note = "" if row.ready else f"  {dim}(still starting){end}"
            lines.append(f"  {row.title:<{width}}  {row.url}{note}")
        lines.append("")
    if credentials.demo_password:
        lines += [
            "Your browser will ask for",
            f"  user      {bold}{DEMO_USER}{end}",
            f"  password  {bold}{credentials.demo_password}{end}",
            "",
        ]
    lines += ["For kubectl, in another terminal:", f"  export KUBECONFIG={shlex.quote(str(credentials.kubeconfig))}"]
    lines.append("  kubectl cluster-info")
    lines.append(f"  kubectl get --raw '{_SEARCH}'" if settings.demo else "  kubectl get services --all-namespaces")
    return "\n".join([*lines, "", f"{dim}Ctrl+C stops it.{end}"])


def _since_start() -> float:
    """Seconds since this process was started, by the kernel's account (proc(5): field 22 of stat, in clock ticks)."""
    import os

    with open("/proc/self/stat", "rb") as stat:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
