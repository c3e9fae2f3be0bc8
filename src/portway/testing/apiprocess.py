"""An API server in a process of its own, which a test may kill: `python -m portway.testing.apiprocess STORE SOCKET`.

STORE is the path of a SQLite file, or etcd://host:port. The socket is made before the store is opened, and answers when
it is. The parent's side is `ApiProcess`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portway.client.api import ApiClient, ApiUnreachable, ClusterConfig
from portway.kube.errors import StatusError
from portway.node.orphan import PARENT_VARIABLE, die_with_parent

_READY_SECONDS = 30.0


@dataclass
class ApiProcess:
    """The process, and a client of it (in one event loop). `start` and `kill` it as often as wanted."""

    store: str
    socket: Path
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.client = ApiClient(ClusterConfig.local(str(self.socket), "system:admin"))

    async def start(self) -> None:
        """Returns when it answers."""
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "portway.testing.apiprocess", self.store, str(self.socket)]
        environment = {**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(command, env=environment)
        async with asyncio.timeout(_READY_SECONDS):
            while not await self._ready():
                assert self.process.poll() is None, "the API server ended before it began"
                await asyncio.sleep(0.02)

    async def _ready(self) -> bool:
        with suppress(ApiUnreachable, StatusError):
            await self.client.text("/readyz")
            return True
        return False

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    async def close(self) -> None:
        """Kill it and let go of the client."""
        self.kill()
        await self.client.close()


async def _serve(place: str, socket: str) -> None:
    import uvicorn

    from portway.apiserver.app import create_app
    from portway.storage import SqliteStore, Store
    from portway.storage.etcd import EtcdStore
    from portway.storage.etcdsettings import EtcdSettings, names_etcd, parse_endpoints
    from portway.testing.api import settings

    store: Store
    if names_etcd(place):
        endpoints, tls = parse_endpoints(place)
        store = await EtcdStore.open(EtcdSettings(endpoints=endpoints, tls=tls))
    else:
        store = SqliteStore.open(place)
    config = uvicorn.Config(create_app(store, settings()), uds=socket, lifespan="on", log_level="error", ws="none")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(_serve(sys.argv[1], sys.argv[2]))
