"""An API with chosen controllers, and waiting for what they make of its objects: for tests of controllers.

async with managed_api(directory, "garbage-collector-controller") as client:
    await client.create("/api/v1/namespaces", {"metadata": {"name": "demo"}})
    await until_object(client, "/api/v1/namespaces/demo", lambda found: ..., "what is waited for")
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from portway.client.api import ApiClient
from portway.controllers.manager import ControllerManager
from portway.controllers.settings import ControllerSettings
from portway.kube.errors import NotFound
from portway.kube.objects import Object
from portway.storage import MemoryStore
from portway.testing.controlled import PATIENCE, controlled


@asynccontextmanager
async def managed_api(
    directory: Path, enabled: str = "*", settings: ControllerSettings | None = None
) -> AsyncIterator[ApiClient]:
    """Runs the controllers that `enabled` names on an API server of their own; gives a client of it."""

    def manager(client: ApiClient) -> ControllerManager:
        return ControllerManager(client, enabled, settings=settings or ControllerSettings())

    store = MemoryStore()
    try:
        async with controlled(directory, store, manager) as cluster:
            yield cluster.client
    finally:
        await store.close()


@asynccontextmanager
async def more_controllers(client: ApiClient, enabled: str) -> AsyncIterator[None]:
    """Runs further controllers on an API for the time of the block."""
    task = asyncio.create_task(ControllerManager(client, enabled).run(), name="more controllers")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def find(client: ApiClient, path: str) -> Object | None:
    """The object at a path, None when there is none."""
    try:
        return await client.get(path)
    except NotFound:
        return None


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Polls until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        await asyncio.sleep(0.005)


async def until_object(client: ApiClient, path: str, condition: Callable[[Object], bool], what: str) -> Object:
    """Polls until the object at a path is there and as it should be; returns it."""
    held: list[Object] = []

    async def so() -> bool:
        found = await find(client, path)
        held[:] = [found] if found is not None and condition(found) else []
        return bool(held)

    await until(so, what)
    return held[0]
