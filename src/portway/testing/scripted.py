"""An API server that follows a script, on a real socket: it answers each request with the next step, however badly.

    api = ScriptedApi(listing(named("web"), version=7), failure(429, "TooManyRequests", **{"Retry-After": "1"}))
    async with serving(api) as server:            # http://127.0.0.1:PORT; with `tls` https; with `path` a unix socket
        client = ApiClient(ClusterConfig(server))

Steps: `listing`, `failure`, `text`, `stream` (a watch), `cut`, `slowly`. A script that is over hangs, as a silent watch
does. `accepts` says which requests are let in; the others are answered 401 and take no step.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiohttp import web

Object = dict[str, Any]
Step = Callable[[web.Request], Awaitable[web.StreamResponse]]
OVER = web.AppKey("over", asyncio.Event)
"""Set when the test is over: what hangs may end."""
PATIENCE = 10.0


def named(name: str, version: int = 1, namespace: str = "demo", **more: Any) -> Object:
    """An object with its metadata."""
    metadata = {"namespace": namespace, "name": name, "resourceVersion": str(version), "uid": f"u-{name}"}
    return {"metadata": metadata, **more}


def listing(*items: Object, version: int = 1, after: str = "") -> Step:
    """A list, or one page of it when `after` says where the next begins."""

    async def reply(_: web.Request) -> web.StreamResponse:
        metadata = {"resourceVersion": str(version)} | ({"continue": after} if after else {})
        return web.json_response({"kind": "List", "metadata": metadata, "items": items})

    return reply


def failure(code: int, reason: str = "", message: str = "no", **headers: str) -> Step:
    """A Status."""

    async def reply(_: web.Request) -> web.StreamResponse:
        status = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}
        return web.json_response(status, status=code, headers=headers)

    return reply


def text(code: int, body: str, **headers: str) -> Step:
    """What a proxy in between might say."""

    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=body, headers=headers)

    return reply


def event(kind: str, obj: Object) -> bytes:
    """One line of a watch."""
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def expired() -> bytes:
    """The line of a watch whose past is gone."""
    return event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})


def stream(*chunks: bytes, end: str = "hang") -> Step:
    """A watch that sends the chunks and then hangs, ends cleanly ("close"), or breaks off ("cut")."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if end == "cut":
            assert request.transport is not None
            request.transport.abort()
        if end == "hang":
            await request.app[OVER].wait()
        return response

    return reply


def cut(body: bytes = b'{"items": [', missing: int = 100) -> Step:
    """An answer that ends before it is whole."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body) + missing)})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    return reply


def slowly(step: Step, go: asyncio.Event) -> Step:
    """The same, once `go` is set."""

    async def reply(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return await step(request)

    return reply


class Handler(Protocol):
    """What can be served."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        ...


class ScriptedApi:
    """Answers requests with the script's steps, in order; hangs when the script is over. Remembers what was asked."""

    def __init__(self, *steps: Step, accepts: Callable[[web.Request], bool] = lambda _: True) -> None:
        self.steps = list(steps)
        self.accepts = accepts
        self.refusals = 0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """(method, raw path, query)"""
        self.times: list[float] = []
        self.waits: list[float] = []
        """For whoever follows this API: the delays of its backoff."""
        """Monotonic seconds."""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The handler for every request."""
        if not self.accepts(request):
            self.refusals += 1
            return await failure(401, "Unauthorized", "Unauthorized")(request)
        self.requests.append((request.method, request.raw_path.partition("?")[0], dict(request.query)))
        self.times.append(time.monotonic())
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.read())
        step = self.steps.pop(0) if self.steps else stream()
        return await step(request)


class Collections:
    """An API that keeps collections, by path. What is `forbidden` may be neither listed nor watched, but single objects
    may be read. Watches tell what is `put` and `drop`ped after they began.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = {}
        self.forbidden: set[str] = set()
        self.asked: list[str] = []
        """Paths, with ?watch or ?one where it wasn't a plain list."""
        self.version = 1
        self._watches: list[tuple[str, asyncio.Queue[bytes]]] = []
        self._events: list[tuple[int, str, bytes]] = []

    def put(self, path: str, name: str, **more: Any) -> None:
        """Create or change an object of a collection, /api/v1/namespaces/NS/services."""
        self.version += 1
        namespace = path.split("/")[-2] if "/namespaces/" in path else ""
        obj = named(name, self.version, namespace, **more)
        self.objects.setdefault(path, {})[name] = obj
        self._tell(path, event("MODIFIED", obj))

    def drop(self, path: str, name: str) -> None:
        """Delete an object."""
        self.version += 1
        obj = self.objects[path].pop(name)
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._tell(path, event("DELETED", obj))

    def forget(self, path: str, name: str) -> None:
        """Delete an object without an event: only a list tells."""
        self.version += 1
        del self.objects[path][name]

    def watches(self) -> int:
        """How many there are now."""
        return len(self._watches)

    def end_watches(self, last: bytes = b"") -> None:
        """End all watches, with a last line."""
        for _, queue in self._watches:
            queue.put_nowait(last)
            queue.put_nowait(b"")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The handler for every request."""
        path, field = request.path, request.query.get("fieldSelector", "")
        kind = "?watch" if "watch" in request.query else "?one" if field or "labelSelector" in request.query else ""
        self.asked.append(path + kind)
        if path in self.forbidden:
            return await failure(403, "Forbidden", f"{path} is forbidden")(request)
        if kind == "?watch":
            return await self._watch(request)
        items = self._within(path)
        collection, _, name = path.rpartition("/")
        if collection in self.objects:
            found = self.objects[collection].get(name)
            return await failure(404, "NotFound")(request) if found is None else web.json_response(found)
        if field:
            items = [obj for obj in items if obj["metadata"]["name"] == field.removeprefix("metadata.name=")]
        return await listing(*items, version=self.version)(request)

    def _within(self, path: str) -> list[Object]:
        return [obj for where, objects in self.objects.items() if _is_in(where, path) for obj in objects.values()]

    def _tell(self, path: str, line: bytes) -> None:
        self._events.append((self.version, path, line))
        for watched, queue in self._watches:
            if _is_in(path, watched):
                queue.put_nowait(line)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        entry = request.path, asyncio.Queue[bytes]()
        for version, path, line in self._events:
            if version > int(request.query.get("resourceVersion") or 0) and _is_in(path, request.path):
                entry[1].put_nowait(line)
        self._watches.append(entry)
        over = asyncio.ensure_future(request.app[OVER].wait())
        try:
            while not over.done():
                news = asyncio.ensure_future(entry[1].get())
                await asyncio.wait((news, over), return_when=asyncio.FIRST_COMPLETED)
                if news.done():
                    line = news.result()
                    if line:
                        await response.write(line)
                    elif entry[1].empty():
                        break
                else:
                    news.cancel()
        finally:
            over.cancel()
            self._watches.remove(entry)
        return response


def _is_in(path: str, collection: str) -> bool:
    """Whether a namespace's collection is (part of) a collection."""
    root, _, plural = collection.rpartition("/")
    return path == collection or (path.startswith(f"{root}/namespaces/") and path.endswith(f"/{plural}"))


@asynccontextmanager
async def serving(
    api: Handler, *, path: Path | None = None, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[str]:
    """Serve on loopback, or on the unix socket `path`; the server's URL."""
    application = web.Application(client_max_size=64 << 20)
    application[OVER] = asyncio.Event()
    application.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    site = (
        web.UnixSite(runner, str(path))
        if path is not None
        else web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls, reuse_address=True)
    )
    await site.start()
    try:
        yield "http://localhost" if path else f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        application[OVER].set()
        await runner.cleanup()


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is true; AssertionError when it isn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.002)
