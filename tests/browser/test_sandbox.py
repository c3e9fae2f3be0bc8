"""A hostile page in a real browser, with the user's ambient password: what its scripts can do to the user's other
services.

Chromium runs headless on loopback; the page reports what it managed in its own title. Without the sandbox it manages
everything, which is how we know that the test would notice.
"""

import asyncio
import http.server
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portway.kube.htpasswd import hash_password
from portway.testing.browser import chromium
from portway.testing.conversation import Backend, RunningDoor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

PASSWORD = "correct-horse"
VICTIM = "/api/v1/namespaces/demo/services/victim/proxy/"
HOSTILE = f"""<!DOCTYPE html><html><head><title>waiting</title></head><body><script>
// The page's own address holds the password, and fetch refuses such addresses: name the host alone.
const found = [], victim = location.protocol + '//' + location.host + '{VICTIM}';
async function attempt(name, work) {{ try {{ found.push(name + '=' + await work()); }} catch (e) {{ found.push(name +
'=blocked'); }} }} (async () => {{
  await attempt('read', async () => (await (await fetch(victim, {{credentials: 'include'}})).text()));
  await attempt('write', async () => {{
    await fetch(victim, {{method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x'}}); return 'sent'; }});
  await attempt('cookie', async () => document.cookie || "none");
  await attempt('storage', async () => {{ localStorage.x = 1; return 'kept'; }});
  await attempt('socket', () => new Promise((yes, no) => {{
    const s = new WebSocket(victim.replace('http', 'ws')); s.onopen = () => yes('open'); s.onerror = no; }}));
  document.title = found.join("; ");
}})();
</script></body></html>"""


class Site(http.server.ThreadingHTTPServer):
    """A service that serves one text and counts who writes to it."""

    daemon_threads = True

    def __init__(self, backend: Backend, text: str) -> None:
        address = backend.listener.getsockname()
        backend.listener.close()
        self.text = text.encode()
        self.posts: list[str] = []
        self.upgrades = 0
        super().__init__(address, Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for a Site."""

    server: Site

    def do_GET(self) -> None:
        self.server.upgrades += "upgrade" in self.headers.get("Connection", "").lower()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", "session=secret; Path=/")
        self.send_header("Content-Length", str(len(self.server.text)))
        self.end_headers()
        self.wfile.write(self.server.text)

    def do_POST(self) -> None:
        self.server.posts.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


class Visit:
    """What a browser's visit to the hostile page led to."""

    def __init__(self, door: RunningDoor, directory: Path) -> None:
        hostile, victim = door.backend(), door.backend()
        door.service("hostile", hostile)
        door.service("victim", victim)
        with Site(hostile, HOSTILE) as page, Site(victim, "private") as self.victim:
            title = asyncio.run(self._title(f"http://mallory:{PASSWORD}@127.0.0.1:{door.port}", directory))
            page.shutdown()
            self.victim.shutdown()
        self.found = dict(pair.split("=", 1) for pair in title.split("; "))

    async def _title(self, door: str, directory: Path) -> str:
        async with chromium(directory) as browser:
            # Asked for a password at the root, a browser offers it everywhere below (RFC 7617 section 2.2).
            await browser.open(f"{door}/")
            await browser.until("document.title.includes('503')")
            await browser.open(f"{door}/api/v1/namespaces/demo/services/hostile/proxy/")
            await browser.until("document.title.includes('=')")
            return str(await browser.value("document.title"))


@pytest.fixture
def visit(make_door: Callable[..., RunningDoor], tmp_path: Path) -> Callable[..., Visit]:
    def go(**settings: Any) -> Visit:
        door = make_door(basic=f"mallory:{hash_password(PASSWORD, 4)}:system:masters\n", **settings)
        return Visit(door, tmp_path / "profile")

    return go


def test_a_sandboxed_page_has_no_power_over_the_users_other_services(visit: Callable[..., Visit]) -> None:
    seen = visit()
    assert seen.found == {
        "read": "blocked",
        "write": "sent",
        "cookie": "blocked",
        "storage": "blocked",
        "socket": "blocked",
    }
    assert seen.victim.posts == []
    assert seen.victim.upgrades == 0


def test_without_the_sandbox_it_has(visit: Callable[..., Visit]) -> None:
    seen = visit(html_sandbox=False)
    assert seen.found["read"] == "private"
    assert seen.found["storage"] == "kept"
    assert seen.victim.posts == ["/"]
    assert seen.victim.upgrades == 1
