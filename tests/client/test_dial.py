"""Connections to an API server over real sockets: TCP, unix, TLS, and through each kind of proxy."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from portway.client.api import ApiClient, ClusterConfig
from portway.client.credentials import FileCredentials
from portway.client.dial import DialError, dial
from portway.client.protocol import ApiUnreachable
from portway.client.proxies import Proxy
from portway.client.tls import TlsContexts, TlsSettings
from portway.testing.authority import Authority
from portway.testing.proxies import FakeProxy, proxying
from portway.testing.scripted import ScriptedApi, listing, named, serving

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if request.param == "uvloop" else None) as runner:

        async def bounded(task: Awaitable[Any]) -> Any:
            async with asyncio.timeout(20):
                return await task

        yield lambda task: runner.run(bounded(task))


class Peer(asyncio.Protocol):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.made = 0
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def get(config: ClusterConfig, tls: ssl.SSLContext | None = None) -> tuple[bytes, asyncio.Transport, Peer]:
    """One request over a raw connection."""
    transport, peer = await dial(config, Peer, tls)
    assert peer.transport is transport
    transport.write(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await peer.lost.wait()
    return bytes(peer.data), transport, peer


def trusting(authority: Authority) -> ssl.SSLContext:
    return TlsSettings(authority_data=authority.pem).context()


def test_tcp_and_unix_sockets(run: Run, tmp_path: Path) -> None:
    async def both() -> None:
        async with serving(ScriptedApi(listing())) as server:
            answer, _, peer = await get(ClusterConfig(server))
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert peer.made == 1
        async with serving(ScriptedApi(listing()), path=tmp_path / "s"):
            answer, *_ = await get(ClusterConfig("http://any", unix_socket=str(tmp_path / "s")))
            assert answer.startswith(b"HTTP/1.1 200 OK")

    run(both())


def test_tls_offers_http_1_1_and_asks_for_the_right_name(run: Run) -> None:
    async def one() -> None:
        authority = Authority()
        context, names = authority.server_context(), []
        context.sni_callback = lambda _, name, __: names.append(name)
        api = ScriptedApi(*(listing() for _ in range(3)))
        async with serving(api, tls=context) as server:
            answer, transport, _ = await get(ClusterConfig(server), trusting(authority))
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            await get(ClusterConfig(server, server_name="api.example"), trusting(authority))
            await get(ClusterConfig(server.replace("127.0.0.1", "localhost")), trusting(authority))
            assert names == [None, "api.example", "localhost"]
            with pytest.raises(DialError, match=r"^127\.0\.0\.1:\d+: certificate verify failed: .*other\.example"):
                await dial(ClusterConfig(server, server_name="other.example"), Peer, trusting(authority))
            with pytest.raises(DialError, match=r"^127\.0\.0\.1:\d+: certificate verify failed: "):
                await dial(ClusterConfig(server), Peer, None)

    run(one())


PROXIES = ["http", "https", "socks5"]


@asynccontextmanager
async def behind(kind: str, tls: bool, **more: Any) -> AsyncIterator[tuple[ClusterConfig, ssl.SSLContext, FakeProxy]]:
    """A server that the configuration reaches through a proxy only: the host's name leads nowhere."""
    authority = Authority()
    async with AsyncExitStack() as stack:
        context = authority.server_context() if tls else None
        server = await stack.enter_async_context(serving(ScriptedApi(listing(), listing(named("a"))), tls=context))
        proxy = FakeProxy(int(server.rpartition(":")[2]), socks=kind == "socks5", **more)
        outer = authority.server_context() if kind == "https" else None
        port = await stack.enter_async_context(proxying(proxy, outer))
        config = ClusterConfig(
            f"http{'s' if tls else ''}://api.example:6443", proxy=Proxy(kind, "127.0.0.1", port, "", "")
        )
        yield config, trusting(authority), proxy


@pytest.mark.parametrize("kind", PROXIES)
def test_through_a_proxy_with_tls(run: Run, kind: str) -> None:
    async def one() -> None:
        async with behind(kind, tls=True) as (config, tls, proxy):
            answer, transport, peer = await get(config, tls)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert peer.made == 1
            assert proxy.targets == ["api.example:6443"]
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(one())


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_through_a_proxy_without_tls(run: Run, kind: str) -> None:
    async def one() -> None:
        async with behind(kind, tls=False) as (config, _, proxy):
            assert (await get(config))[0].startswith(b"HTTP/1.1 200 OK")
            assert proxy.targets == ["api.example:6443"]

    run(one())


@pytest.mark.parametrize("kind", PROXIES)
def test_the_client_goes_the_same_way(run: Run, kind: str) -> None:
    async def one() -> None:
        async with behind(kind, tls=True) as (config, tls, proxy):
            contexts = FileCredentials()
            contexts._credential = replace(contexts.cached(), tls=tls)
            client = ApiClient(replace(config, credentials=contexts))
            await client.get("/x")
            assert (await client.list("/y")).items == [named("a")]
            await client.close()
            assert proxy.targets == ["api.example:6443"]  # one connection for both

    run(one())


def test_what_a_proxy_says_against_it_is_said(run: Run) -> None:
    async def one() -> None:
        refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        async with behind("http", tls=True, answer=refusal) as (config, tls, _):
            config = replace(config, proxy=replace(config.proxy or Proxy("", "", 0), username="me", password="s3cret"))
            with pytest.raises(DialError) as caught:
                await dial(config, Peer, tls)
            assert str(caught.value) == (
                f"api.example:6443: the proxy answered 407 Proxy Authentication Required through {config.proxy}"
            )
            assert "s3cret" not in str(caught.value)
            client = ApiClient(config)
            with pytest.raises(ApiUnreachable, match=r"^https://api\.example:6443: the proxy answered 407"):
                await client.get("/x")
            await client.close()
        async with behind("http", tls=True, answer=b"HTTP/1.1 200 OK\r\n\r\nmore") as (config, tls, _):
            with pytest.raises(DialError, match="the proxy sent more than an answer"):
                await dial(config, Peer, tls)
        async with behind("http", tls=True, answer=b"x" * 20_000) as (config, tls, _):
            with pytest.raises(DialError, match="the proxy's answer is too long"):
                await dial(config, Peer, tls)

    run(one())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_says_nothing_is_not_waited_for_for_ever(run: Run, scheme: str) -> None:
    async def one() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            proxy = Proxy("http", "127.0.0.1", port) if scheme == "http" else None
            config = ClusterConfig(f"{scheme}://127.0.0.1:{port}", proxy=proxy)
            with pytest.raises(DialError, match=rf"^127\.0\.0\.1:{port}: no connection within 0\.1 s"):
                await dial(config, Peer, None, timeout=0.1)

    run(one())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ClusterConfig("http://127.0.0.1:1"), r"^127\.0\.0\.1:1: connection refused$"),
        (ClusterConfig("http://x", unix_socket="/no/socket"), "^/no/socket: no such file or directory$"),
        (ClusterConfig("http://no-such-host.invalid"), r"^no-such-host\.invalid:80: "),
        (ClusterConfig("http://" + "a" * 70 + ".example"), "^a+.example:80: "),
        (ClusterConfig("http://127.0.0.1:99999"), "^http://127.0.0.1:99999: "),
        (
            ClusterConfig("http://x", proxy=Proxy("http", "127.0.0.1", 1)),
            r"^x:80: connection refused through http://127\.0\.0\.1:1$",
        ),
    ],
)
def test_a_failure_is_one_line_that_names_the_place(run: Run, config: ClusterConfig, message: str) -> None:
    async def one() -> None:
        with pytest.raises(OSError, match=message) as caught:
            await dial(config, Peer, None)
        assert "\n" not in str(caught.value)

    run(one())


def test_tls_contexts_are_not_mixed_in_a_pool(run: Run, tmp_path: Path) -> None:
    """Another client certificate means another connection; the same one, the same connection."""

    async def one() -> None:
        authority = Authority()
        seen: list[str] = []

        class WhoAmI(ScriptedApi):
            async def handle(self, request: Any) -> Any:
                seen.append(dict(rdn[0] for rdn in request.get_extra_info("peercert")["subject"])["commonName"])
                return await listing()(request)

        def write(name: str) -> None:
            for file, pem in zip((tmp_path / "c", tmp_path / "k"), authority.issue(name), strict=True):
                file.write_bytes(pem)

        write("ann")
        now = [0.0]
        settings = TlsSettings(
            authority_data=authority.pem, certificate_file=str(tmp_path / "c"), key_file=str(tmp_path / "k")
        )
        credentials = FileCredentials(TlsContexts(settings, lambda: now[0]))
        async with serving(WhoAmI(), tls=authority.server_context()) as server:
            client = ApiClient(ClusterConfig(server, credentials=credentials))
            await client.get("/x")
            write("bob")
            await client.get("/x")
            now[0] = 10.0
            await client.get("/x")
            (tmp_path / "k").write_text("half of a key")
            now[0] = 20.0
            await client.get("/x")
            await client.close()
        assert seen == ["ann", "ann", "bob", "bob"]

    run(one())
