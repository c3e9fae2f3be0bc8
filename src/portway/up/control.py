"""The control process: the API server on its unix socket, the controllers and the node agent, each a named task.

    python -m portway.up.control < settings.json

SIGTERM ends it in order (the pods first, then the controllers, then the API) with exit code 0; a second one at once.
SIGHUP reads the static tokens again. A task that fails ends the process with exit code 1, and the supervisor starts it
again; exit code 78 (EX_CONFIG) says that this would not help. The listening socket is the supervisor's, inherited: the
gateway workers' connections wait in its queue while this process starts, or starts again.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from portway.apiserver.app import create_app
from portway.apiserver.config import ApiServerConfig
from portway.client.api import ApiClient, ClusterConfig
from portway.controllers.addresspool import AddressPool
from portway.controllers.election import LeaderElection
from portway.controllers.manager import ControllerManager
from portway.controllers.settings import ControllerSettings
from portway.controllers.signing import Authority
from portway.kube.identity import User
from portway.kube.ingresshosts import IngressHosts
from portway.kube.serviceaccount import Signer, Verifier
from portway.kube.tokenfile import TokenFileError, parse_token_file
from portway.node.addresses import NoAddressesError
from portway.node.agent import NodeAgent, NodeSettings
from portway.node.demo import catalogue
from portway.node.orphan import die_with_parent
from portway.storage import MediumFailed, MemoryStore, SqliteStore, Store, StoreUnavailable
from portway.storage.etcdsettings import EtcdSettings
from portway.up import stores
from portway.up.controlsettings import ControlSettings

EX_CONFIG = 78
_STOP_SECONDS = 10.0
_COLLECTOR = 20_000, 20, 20
"""Thresholds of the garbage collector: objects and their JSON are no cycles, and there may be millions of them."""


class HopelessError(Exception):
    """Starting again would fail the same way; the message is one line with a way out."""


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers: signals are this process's business."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # what was loaded stays: looking through it for garbage would stop everything again and again

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Control:
    """The parts, put together. `run` in a fresh event loop."""

    def __init__(self, settings: ControlSettings) -> None:
        self._settings = settings
        self._tokens: dict[str, User] = {}
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM; HopelessError when the settings or the database cannot be used."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopped)
        loop.add_signal_handler(signal.SIGINT, self._stopped)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._tokens.update(_read_tokens(self._settings.tokens))
        clients = {
            name: self._client(name)
            for name in ("system:kube-controller-manager", f"system:node:{self._settings.node}")
        }
        manager, node = clients.values()
        agent = self._node_agent(node)
        if self._settings.etcd is not None:
            store = await _open_etcd(self._settings.etcd, self._settings.identity)
        else:
            store = _open_store(self._settings.database)
        try:
            async with self._api_server(store) as api, asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(agent.run(), name="node agent"),
                    tasks.create_task(self._controllers(manager), name="controllers"),
                    tasks.create_task(_must_not_end(api), name="watch over the API server"),
                    tasks.create_task(_must_not_fail(store), name="watch over the store"),
                ]
                await self._stop.wait()
                for task in work:
                    task.cancel()
        finally:
            for client in clients.values():
                await client.close()
            await store.close()

    def _stopped(self) -> None:
        if self._stop.is_set():
            os._exit(1)  # the second signal: at once; the kernel ends the pods with us
        self._stop.set()

    def _reload(self) -> None:
        try:
            fresh = _read_tokens(self._settings.tokens)
        except HopelessError as error:
            print(f"portway: reload: {error}; what was read before stays in force", file=sys.stderr, flush=True)
            return
        self._tokens.clear()
        self._tokens.update(fresh)

    def _client(self, user: str) -> ApiClient:
        return ApiClient(ClusterConfig.local(self._settings.socket_path, user), user_agent=f"portway ({user})")

    def _node_agent(self, client: ApiClient) -> NodeAgent:
        settings = NodeSettings(
            cluster_cidr=self._settings.cluster_cidr,
            seed=self._settings.seed,
            log_dir=Path(self._settings.log_dir),
            environment=self._settings.environment,
            workloads=catalogue.WORKLOADS if self._settings.demo else (),
            manifests=catalogue.MANIFESTS if self._settings.demo else (),
            # Another server on the same etcd may have them.
            withdrawn=((), "") if self._settings.demo or self._settings.etcd else catalogue.WITHDRAWN,
            name=self._settings.node,
        )
        try:
            return NodeAgent(client, settings, socket.socket(fileno=self._settings.streams_fd))
        except NoAddressesError as error:
            raise HopelessError(str(error)) from error

    async def _controllers(self, client: ApiClient) -> None:
        settings = ControllerSettings(
            root_ca=self._settings.root_ca,
            authority=_authority(*self._settings.authority),
            balancers=AddressPool(self._settings.load_balancer_addresses),
            ingress=IngressHosts(self._settings.ingress_own, self._settings.ingress_domains),
        )

        def work() -> Coroutine[Any, Any, None]:
            return ControllerManager(client, self._settings.controllers, settings=settings).run()

        if self._settings.etcd is None:
            await work()
        else:
            await LeaderElection(client, self._settings.node).run(work)

    @contextlib.asynccontextmanager
    async def _api_server(self, store: Store) -> AsyncIterator[asyncio.Task[None]]:
        """uvicorn on the inherited socket, as a task; stopped last, so that the others can still speak to it."""
        app = create_app(store, self._api_config())
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
            # Longer than the door keeps a connection: the side that sends the next request must be the one that closes.
            timeout_keep_alive=120,
            proxy_headers=False,
        )
        server = _Uvicorn(config)
        listener = socket.socket(fileno=self._settings.socket_fd)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="API server")
        try:
            yield task
        finally:
            app.drain()  # ends the watches, which would hold the shutdown up
            server.should_exit = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), _STOP_SECONDS)

    def _api_config(self) -> ApiServerConfig:
        settings = self._settings
        try:
            keys = [Path(file).read_bytes() for file in (settings.signing_key, *settings.key_files)]
            signer = Signer(keys[0], settings.issuer)
            verifier = Verifier(keys, settings.issuer, settings.audiences)
            return ApiServerConfig(
                signer=signer,
                verifier=verifier,
                service_cluster_ip_range=settings.service_cluster_ip_range,
                service_node_port_range=settings.service_node_port_range,
                cluster_cidrs=(settings.cluster_cidr,),
                api_audiences=settings.audiences,
                token_users=self._tokens,
                advertise_address=settings.advertise,
                shared_store=settings.etcd is not None,
                service_account_jwks_uri=settings.jwks_uri,
                compaction_seconds=settings.compaction_seconds,
                watch_history=settings.watch_history,
            )
        except (OSError, ValueError) as error:
            raise HopelessError(f"service account keys or ranges cannot be used: {error}") from error


def _authority(certificate: str, key: str) -> Authority:
    """What signs client certificates. Its key is read here and goes nowhere else."""
    try:
        return Authority(Path(certificate).read_bytes(), Path(key).read_bytes())
    except (OSError, ValueError) as error:
        raise HopelessError(f"the cluster's authority cannot be used: {error}") from error


async def _must_not_end(api: asyncio.Task[None]) -> None:
    """Fail when the API server ends by itself, so that the process does."""
    await asyncio.wait([api])
    await api
    raise RuntimeError("the API server ended")


async def _must_not_fail(store: Store) -> None:
    """Fail when the store takes no more writes, so that the process does, and the next one opens and verifies it."""
    raise await store.failed()


def _read_tokens(file: str) -> dict[str, User]:
    try:
        return parse_token_file(Path(file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, TokenFileError) as error:
        raise HopelessError(f"--token-auth-file: {error}") from error


def _open_store(database: str) -> Store:
    if not database:
        return MemoryStore()
    try:
        return SqliteStore.open(database)
    except MediumFailed:
        raise
    except StoreUnavailable as error:
        raise HopelessError(" ".join(str(error).split())) from error


async def _open_etcd(settings: EtcdSettings, identity: str) -> Store:
    """Raises HopelessError, or MediumFailed when the next process may have better luck."""
    try:
        store = await stores.open_etcd(settings)
        try:
            await stores.claim(store, identity)
        except BaseException:
            await store.close()
            raise
    except stores.OtherCluster as error:
        raise HopelessError(str(error)) from error
    except StoreUnavailable as error:
        # It was there when `portway up` began, or nothing would have been started.
        raise MediumFailed(str(error)) from error
    return store


async def _main(settings: ControlSettings) -> int:
    """The process's exit code."""
    try:
        await Control(settings).run()
    except HopelessError as error:
        print(f"portway: {error}", file=sys.stderr, flush=True)
        return EX_CONFIG
    except MediumFailed as error:
        print(f"portway: {error}", file=sys.stderr, flush=True)
        return 1
    except BaseExceptionGroup as group:
        hopeless = group.subgroup(HopelessError)
        for leaf in _leaves(hopeless or group):
            words = str(leaf) if isinstance(leaf, HopelessError | StoreUnavailable) else f"control: {leaf!r}"
            print(f"portway: {words}", file=sys.stderr, flush=True)
        return EX_CONFIG if hopeless else 1
    return 0


def _leaves(group: BaseExceptionGroup) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def main() -> None:
    """The process. It ends with the supervisor, however that ends."""
    die_with_parent(signal.SIGTERM)
    gc.set_threshold(*_COLLECTOR)
    logging.basicConfig(level=logging.WARNING, format="portway: %(message)s", stream=sys.stderr)
    settings = ControlSettings.from_json(sys.stdin.read())
    sys.exit(uvloop.run(_main(settings)))


if __name__ == "__main__":
    main()
