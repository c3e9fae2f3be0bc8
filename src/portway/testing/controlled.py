"""An API server on a unix socket with the controllers at work, in this process: for tests of controllers.

async with controlled(tmp_path, store) as cluster:
    await cluster.client.create("/api/v1/namespaces/default/services", service)
    await cluster.until(lambda: ..., "what is waited for")
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from portway.apiserver import create_app
from portway.client.api import ApiClient, ClusterConfig
from portway.controllers.manager import ControllerManager
from portway.storage import Store
from portway.testing.api import settings

PATIENCE = 30.0
"""Seconds after which something that should have come true never will."""


class Controlled:
    """A running cluster: a client of it, and its controllers."""

    def __init__(self, client: ApiClient, manager: ControllerManager) -> None:
        self.client, self.manager = client, manager

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition on what the controllers know."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come true in time"
            await asyncio.sleep(0.002)


@asynccontextmanager
async def controlled(
    directory: Path, store: Store, manager: Callable[[ApiClient], ControllerManager] = ControllerManager, **changes: Any
) -> AsyncIterator[Controlled]:
    """Serves a store's cluster with controllers that `manager` makes; `changes` are the API server's settings."""
    socket = directory / "api.sock"
    app: Any = create_app(store, settings(**changes))
    config = uvicorn.Config(app, uds=str(socket), lifespan="on", log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="API server")
    client = ApiClient(ClusterConfig.local(str(socket), "system:admin"))
    controllers = manager(client)
    working: asyncio.Task[None] | None = None
    try:
        while not server.started:
            assert not serving.done(), "the server ended before it began"
            await asyncio.sleep(0.002)
        working = asyncio.create_task(controllers.run(), name="controllers")
        yield Controlled(client, controllers)
    finally:
        if working is not None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await client.close()
        server.should_exit = True
        await serving
        socket.unlink(missing_ok=True)
