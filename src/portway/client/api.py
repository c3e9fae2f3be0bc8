"""One Kubernetes API over HTTP: requests, lists in pages, watches. Errors come back as the API's own Status.

Where the API is and how to speak to it is a `ClusterConfig`; `kubeconfig` makes one as kubectl would. No caching and no
retries here: `informer` and the controllers decide when to ask again.
"""

import logging
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from portway.client.cluster import ClusterConfig
from portway.client.credentials import Credential, CredentialError, Headers
from portway.client.dial import DIAL_SECONDS, DialError, dial
from portway.client.protocol import ApiUnreachable, Page
from portway.client.status import status_error
from portway.kube.objects import Object

if TYPE_CHECKING:
    from aiohttp.tracing import Trace

__all__ = ["JSON_PATCH", "MERGE_PATCH", "STRATEGIC_MERGE_PATCH", "ApiClient", "ApiUnreachable", "ClusterConfig", "Page"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

REQUEST_SECONDS = 60.0
"""kube-apiserver's own deadline for a request that isn't a watch."""
WATCH_SECONDS = 600
"""A watch asks the server to end it after at most this long: clients spread anew over servers that come and go."""
WATCH_SILENCE_SECONDS = 150.0
"""Servers send a bookmark about every minute: a watch that is silent for longer than two of them is dead."""
MAX_EVENT_BYTES = 32 << 20
"""An API object is at most 3 MiB as sent (etcd's limit is below that); JSON may escape every byte of it."""

logger = logging.getLogger(__name__)

_JSON = "application/json"
_METADATA, _METADATA_LIST = (
    f"application/json;as={kind};v=v1;g=meta.k8s.io,application/json"
    for kind in ("PartialObjectMetadata", "PartialObjectMetadataList")
)
"""Metadata only, from a server that can; whole objects from others."""
_REQUEST = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=DIAL_SECONDS)
_WATCH = aiohttp.ClientTimeout(total=None, sock_connect=DIAL_SECONDS, sock_read=WATCH_SILENCE_SECONDS)


class ApiClient:
    """A `protocol.Client` over HTTP/1.1. Use it from one event loop and `close` it there."""

    def __init__(self, config: ClusterConfig, user_agent: str = "portway") -> None:
        self.config = config
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        return await self._document("GET", path, query)

    async def create(self, path: str, obj: Object, headers: Headers = ()) -> Object:
        """POST an object; `headers` go along, Impersonate-* for example."""
        return await self._document("POST", path, body=obj, more=headers)

    async def update(self, path: str, obj: Object) -> Object:
        return await self._document("PUT", path, body=obj)

    async def patch(self, path: str, patch: object, content_type: str = STRATEGIC_MERGE_PATCH) -> Object:
        """PATCH an object; `content_type` says which kind of patch it is."""
        return await self._document("PATCH", path, body=patch, content_type=content_type)

    async def delete(self, path: str, options: Object | None = None) -> Object:
        return await self._document("DELETE", path, body=options)

    async def text(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """What a GET answers, as text: /readyz and the like."""
        async with self._open("GET", path, query, {"Accept": "*/*"}) as response:
            return await response.text()

    async def list(self, path: str, *, label_selector: str = "", field_selector: str = "") -> Page:
        """A whole collection as one page."""
        items: list[Object] = []
        version = ""
        async for page in self.pages(path, label_selector=label_selector, field_selector=field_selector):
            items += page.items
            version = page.resource_version
        return Page(items, version)

    async def pages(
        self,
        path: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        query = _selection(label_selector, field_selector)
        if limit:
            query["limit"] = str(limit)
        while True:
            answer = await self._document("GET", path, query, accept=_METADATA_LIST if metadata_only else _JSON)
            metadata, items = answer.get("metadata"), answer.get("items") or []
            if not isinstance(metadata, dict) or not isinstance(items, list) or not all(map(_is_object, items)):
                raise ApiUnreachable("a list is malformed")
            yield Page(items, metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def watch(
        self,
        path: str,
        resource_version: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        query = _selection(label_selector, field_selector) | {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(WATCH_SECONDS // 2, WATCH_SECONDS)),
        }
        headers = {"Accept": _METADATA if metadata_only else _JSON}
        async with self._open("GET", path, query, headers, limits=_WATCH) as response:
            yield "BOOKMARK", {"metadata": {"resourceVersion": resource_version}}
            async for line in _lines(response):
                yield _event(line)

    async def _document(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        more: Headers = (),
        accept: str = _JSON,
    ) -> Object:
        headers = CIMultiDict([("Accept", accept), *more])
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = orjson.dumps(body)
        async with self._open(method, path, query, headers, data) as response:
            return _decoded(await response.read())

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        data: bytes | None = None,
        limits: aiohttp.ClientTimeout = _REQUEST,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with status 2xx. Foreign errors are turned into ours here and nowhere else.

        After a 401 it is asked once more, if there is another credential then.
        """
        url = URL(self.config.server.rstrip("/") + path + ("?" + urlencode(query) if query else ""), encoded=True)
        where = self.config.unix_socket or self.config.server
        try:
            credential = await self.config.credentials.current()
            async with AsyncExitStack() as stack:
                response = await stack.enter_async_context(
                    self._request(method, url, credential, headers, data, limits)
                )
                other = await self._other(credential) if response.status == 401 else None
                if other is not None:
                    await stack.aclose()
                    response = await stack.enter_async_context(self._request(method, url, other, headers, data, limits))
                if response.status >= 300:
                    raise status_error(response.status, response.headers, await response.read())
                yield response
        except CredentialError as error:
            raise ApiUnreachable(f"{where}: getting credentials: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnreachable(f"{where}: {_reason(error)}") from error

    def _request(
        self,
        method: str,
        url: URL,
        credential: Credential,
        headers: Mapping[str, str],
        data: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        # Connections are pooled by TLS context: another client certificate means another connection.
        return self._connected().request(
            method,
            url,
            data=data,
            headers=CIMultiDict([*headers.items(), *credential.headers]),
            allow_redirects=False,
            ssl=credential.tls or True,
            timeout=limits,
        )

    async def _other(self, refused: Credential) -> Credential | None:
        """What to try after a 401; None when there is nothing else."""
        self.config.credentials.refused(refused)
        try:
            credential = await self.config.credentials.current()
        except CredentialError as error:
            logger.warning("refreshing credentials: %s", error)
            return None
        return credential if credential != refused else None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            config = self.config
            headers = [*config.headers, ("User-Agent", self._user_agent)]
            if config.unix_socket is not None or config.disable_compression:
                headers.append(("Accept-Encoding", "identity"))
            self._session = aiohttp.ClientSession(
                connector=_Connector(config),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class _Connector(aiohttp.BaseConnector):
    """aiohttp's pool over `dial`, so that all connections to a cluster are made in one way."""

    def __init__(self, config: ClusterConfig) -> None:
        super().__init__(limit=0)
        self._config = config

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: "list[Trace]",  # noqa: ARG002 (nobody traces)
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002 (`dial` has its own)
    ) -> ResponseHandler:
        """The method by which aiohttp's own connectors differ; aiohttp-socks overrides it too."""
        context = req.ssl if isinstance(req.ssl, ssl.SSLContext) else None
        _, protocol = await dial(self._config, self._factory, context)
        return protocol


def _reason(error: Exception) -> str:
    """In a line; aiohttp wraps what `dial` raises."""
    dialled = error.__cause__ if isinstance(error.__cause__, DialError) else error
    return dialled.reason if isinstance(dialled, DialError) else " ".join(str(error).split()) or type(error).__name__


def _selection(label_selector: str, field_selector: str) -> dict[str, str]:
    query = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in query.items() if value}


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of a stream. One that isn't ended by a newline was cut: no half event is ever taken for a whole one."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                if line.strip():
                    yield line
        elif len(rest) > MAX_EVENT_BYTES:
            raise ApiUnreachable("a watch event is too long")
    if rest.strip():
        raise ApiUnreachable("the watch was cut in the middle of an event")


def _event(line: bytes) -> tuple[str, Object]:
    event = _decoded(line)
    kind, obj = event.get("type"), event.get("object")
    if kind == "ERROR" and isinstance(obj, dict):
        raise status_error(int(obj.get("code") or 500), {}, orjson.dumps(obj))
    whole = isinstance(obj, dict) and isinstance(obj.get("metadata"), dict) if kind == "BOOKMARK" else _is_object(obj)
    if not isinstance(kind, str) or not whole:
        raise ApiUnreachable("a watch event is malformed")
    return kind, cast(Object, obj)


def _is_object(obj: object) -> bool:
    """Whether it has what everybody relies on: a name."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)


def _decoded(body: bytes) -> Object:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiUnreachable("the answer is not JSON") from error
    if not isinstance(document, dict):
        raise ApiUnreachable("the answer is not a JSON object")
    return document
