"""Which store a cluster is kept in, opened; and that an etcd is this cluster's.

    check        before anything is started: is it there, may we in?  (`run.py`)
    open_etcd    the store                                             (`control.py`, `movestore.py`)
    claim        a cluster belongs to the authority that made it

grpc is loaded only when there is an etcd.
"""

from __future__ import annotations

import asyncio
import json
import os

from portway.storage import KeyExists, Store, StoreUnavailable
from portway.storage.etcdsettings import EtcdSettings, names_etcd, parse_endpoints
from portway.up.errors import UpError

_AT_ONCE = 32
_CLUSTER = "/portway/cluster"
"""Beside the objects, which are below /registry/: what servers on one store must agree on."""


class OtherCluster(Exception):  # noqa: N818 (it says what is the case)
    """The etcd holds the cluster of another authority."""


def check(settings: EtcdSettings) -> None:
    """Raises UpError when the etcd cannot be used; it says the way out."""
    try:
        asyncio.run(_check(settings))
    except StoreUnavailable as error:
        raise UpError(str(error)) from error


async def _check(settings: EtcdSettings) -> None:
    _need_extra()
    from portway.storage.etcdclient import EtcdClient
    from portway.storage.etcdlayout import Layout
    from portway.storage.etcdload import last_write

    client = EtcdClient(settings)
    try:
        await last_write(client, Layout(settings.prefix))
    finally:
        await client.close()


async def open_etcd(settings: EtcdSettings) -> Store:
    """The store; raises StoreUnavailable."""
    _need_extra()
    from portway.storage.etcd import EtcdStore

    return await EtcdStore.open(settings)


async def advance(settings: EtcdSettings, revision: int) -> None:
    """Bring an etcd's revision to `revision` at least: by as many writes as that takes, some thousand a second."""
    from portway.storage.etcdclient import EtcdClient
    from portway.storage.etcdlayout import Layout
    from portway.storage.etcdload import last_write
    from portway.storage.etcdwriter import TXN

    client, layout = EtcdClient(settings), Layout(settings.prefix)
    try:
        _, now = await last_write(client, layout)
        missing = iter(range(now, revision))

        async def write() -> None:
            for _ in missing:
                await client.call(TXN, layout.nothing())

        await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
    finally:
        await client.close()


def etcd_settings(address: str, given: dict[str, str]) -> EtcdSettings | None:
    """The etcd at an address, with what flags say besides (`EtcdSettings`' names); None when it is no etcd's.

    Raises ValueError in one line.
    """
    if not names_etcd(address):
        return None
    endpoints, tls = parse_endpoints(address)
    return EtcdSettings(endpoints=endpoints, tls=tls, **given)


def _need_extra() -> None:
    # grpc's own log goes past `logging` to standard error; what it says comes with the errors too.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import portway.storage.etcd  # noqa: F401
    except ImportError as error:
        raise StoreUnavailable("an etcd as the store needs more packages: pip install 'portway[etcd]'") from error


async def claim(store: Store, identity: str) -> None:
    """Note that the cluster is `identity`'s, if it is nobody's yet. Raises OtherCluster, StoreUnavailable."""
    value = json.dumps({"certificateAuthority": identity}).encode()
    try:
        await store.create(_CLUSTER, value)
    except KeyExists as exists:
        if exists.current.value != value:
            raise OtherCluster(
                "the cluster in etcd was made with another authority than DATA-DIR/pki/ca.crt: copy pki/ from the data "
                "directory of its first server, or keep this cluster below another --etcd-prefix"
            ) from None
