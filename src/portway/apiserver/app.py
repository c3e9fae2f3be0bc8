"""The ASGI application: lifespan, one request → one answer, errors → Status.

    create_app → Application.__call__ → Request → discovery, openapi, probes, or router → handler → send

The socket is the caller's (uvicorn on a unix socket that only the door may open). What happens behind the handlers is
`registry`'s and `cache`'s affair.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from portway.apiserver import bootstrap as default_bootstrap
from portway.apiserver import probes, render
from portway.apiserver.background import Background
from portway.apiserver.compression import compressed
from portway.apiserver.config import ApiServerConfig
from portway.apiserver.discovery import Discovery
from portway.apiserver.handlers import HANDLERS, virtual
from portway.apiserver.handlers.common import warning
from portway.apiserver.http import ClientGone, Receive, Request, Response, Scope, Send, Stream, send
from portway.apiserver.kinds import KINDS
from portway.apiserver.kinds.base import Bootstrap, Kind, VirtualResource
from portway.apiserver.kinds.workloads import WORKLOADS
from portway.apiserver.negotiation import Representation, negotiate_refusal
from portway.apiserver.openapi import OpenApi
from portway.apiserver.openid import IssuerDiscovery
from portway.apiserver.reviews import VIRTUAL
from portway.apiserver.routing import VirtualKey, VirtualRoute
from portway.apiserver.server import Server
from portway.kube.attributes import parse
from portway.kube.errors import (
    InternalError,
    RequestEntityTooLarge,
    ServiceUnavailable,
    StatusError,
    method_not_allowed,
    no_route,
)
from portway.storage import StorageError, Store, ValueTooLarge

_NO_CACHE = (b"cache-control", b"no-cache, private")
_log = logging.getLogger(__name__)


class Application:
    """The API server as an ASGI 3 application. `server` is its inside, for whoever composes a cluster."""

    def __init__(self, server: Server, bootstrap: Bootstrap | None) -> None:
        self.server = server
        self._background = Background(server, bootstrap)
        offered = [kind for kind in server.kinds if kind.offered]
        self._discovery = Discovery(offered, server.virtual, server.config.advertise_address)
        self._openapi = OpenApi(offered, server.virtual, server.config.git_version)
        self._issuer = IssuerDiscovery(
            server.config.signer.issuer,
            server.config.verifier.jwks(),
            address=server.config.advertise_address,
            keys_uri=server.config.service_account_jwks_uri,
        )

    async def __call__(self, scope: Scope, receive: Receive, send_: Send) -> None:
        """Serves one ASGI scope: lifespan or http."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send_)
        elif scope["type"] == "http":
            await self._http(scope, receive, send_)
        else:
            raise RuntimeError(f"no {scope['type']} here")

    async def startup(self) -> None:
        """Loads the state and starts the background tasks. What lifespan does, for those who run without it."""
        await self._background.start()

    def drain(self) -> None:
        """Ends the watches at once, so that an HTTP server that waits for its connections need not wait for them."""
        self.server.drain()

    async def shutdown(self) -> None:
        """Ends the watches and stops the background tasks. The store stays open: it is its owner's to close."""
        self.drain()
        await self._background.stop()

    async def _lifespan(self, receive: Receive, send_: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.startup()
                except (StatusError, StorageError) as error:
                    await send_({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send_({"type": "lifespan.startup.complete"})
            else:
                await self.shutdown()
                await send_({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send_: Send) -> None:
        method = scope["method"]
        request: Request | None = None
        try:
            request = Request(scope, receive, self.server.config.max_body_bytes)
            answer = await self._answer(request)
        except ClientGone:
            return
        except StatusError as error:
            answer = refusal(error, request)
        except ValueTooLarge as error:
            answer = refusal(RequestEntityTooLarge(f"Request entity too large: {error}"), request)
        except StorageError as error:
            answer = refusal(ServiceUnavailable(f"the store refuses: {error}"), request)
        except Exception:
            _log.exception("%s %s failed", method, scope["path"])
            answer = refusal(InternalError("Internal error occurred: see the server's log", details={}), request)
        if isinstance(answer, Response) and request is not None:
            answer = await compressed(answer, request.headers(b"accept-encoding"))
        if not any(name == b"cache-control" for name, _ in answer.headers):
            answer.headers.append(_NO_CACHE)
        # A peer that stops reading is cut off; what it was sent before is all it gets.
        with suppress(TimeoutError):
            await send(answer, method, send_)

    async def _answer(self, request: Request) -> Response | Stream:
        if not request.path.startswith("/") or request.path.startswith("//"):
            raise no_route()  # `*`, and what upstream's routes, which begin with one slash, don't match
        attributes = parse(request.method, request.path, request.query)
        if not attributes.resource_request:
            return self._document(request)
        route = self.server.router.route(request.method, attributes)
        if isinstance(route, VirtualRoute):
            return await virtual(self.server, request, route)
        answer = await HANDLERS[route.verb](self.server, request, route)
        if route.kind.deprecation:
            answer.headers.append(warning(route.kind.deprecation))
        return answer

    def _document(self, request: Request) -> Response:
        """Answers a path that names no resource."""
        path = request.path.rstrip("/")
        top = path.split("/")[1] if path else ""
        known = self._readable(top, path, request)
        if known is None:
            return probes.paths(200 if not path else 404, self._discovery.group_versions(), self._issuer.paths)
        return known

    def _readable(self, top: str, path: str, request: Request) -> Response | None:
        if top in ("api", "apis"):
            self._only_get(request)
            return self._discovery.answer(path, request)
        if top == "openapi":
            self._only_get(request)
            return self._openapi.answer(path, request)
        if path == "/version":
            self._only_get(request)
            return probes.version(self.server)
        if issued := self._issuer.answer(path):
            self._only_get(request)
            return issued
        return probes.probe(self.server, path, request)

    def _only_get(self, request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()


def refusal(error: StatusError, request: Request | None = None) -> Response:
    """Returns the answer to a request that an error ended: its Status, with the headers that go with it.

    It is in the form that the client asked for, JSON where there is none (or no request that could tell).
    """
    wanted = Representation() if request is None else _wanted(request)
    answer = render.answer(error.code, error.status(), wanted)
    if error.retry_after is not None:
        answer.headers.append((b"retry-after", str(error.retry_after).encode()))
    return answer


def _wanted(request: Request) -> Representation:
    return negotiate_refusal(request.headers(b"accept"), request.params.get("pretty"), request.header(b"user-agent"))


def create_app(
    store: Store,
    config: ApiServerConfig,
    *,
    kinds: Sequence[Kind] | None = None,
    virtual_resources: Mapping[VirtualKey, VirtualResource] | None = None,
    bootstrap: Bootstrap | None = None,
) -> Application:
    """Returns the API server over `store`, with all kinds, reviews and bootstrap objects unless given others."""
    return Application(
        Server(
            store,
            config,
            (*KINDS, *WORKLOADS) if kinds is None else kinds,
            VIRTUAL if virtual_resources is None else virtual_resources,
        ),
        default_bootstrap if bootstrap is None else bootstrap,
    )
