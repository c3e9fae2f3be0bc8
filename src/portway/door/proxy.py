"""`portway proxy`: a door on this machine to a cluster that a kubeconfig names, for the person who started it.

One process. Nobody logs in: whoever reaches the listener is the kubeconfig's user, so it listens on loopback or a unix
socket, answers only the hosts it is meant for, and refuses what foreign pages make a browser send.
"""

import itertools
import logging
import re
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from portway.client.kubeconfig import KubeconfigError, Overrides, load
from portway.door.answers import Catalogue, FirstOf
from portway.door.errors import DoorError
from portway.door.rights import Rights
from portway.door.static import StaticFiles
from portway.gateway.assembly import Followed
from portway.gateway.filter import Filter, FilterRules
from portway.gateway.health import Health
from portway.gateway.hosts import Hosts
from portway.gateway.localanswers import LocalAnswers
from portway.gateway.process import prepare_process
from portway.gateway.server import ListenError, Listeners
from portway.gateway.settings import Authentication, ClusterSettings, GatewaySettings, Limits, Record
from portway.gateway.worker import Worker

DRAIN = 1.0
"""Seconds that what is under way has after Ctrl+C: a watch would go on for ever."""
BASE = "localhost"
"""Services are at NAME.NAMESPACE.localhost."""


@dataclass(frozen=True)
class ProxySettings:
    """What `portway proxy` was asked to do. Names are the flags'; those of kubectl proxy mean the same."""

    kubeconfig: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    contexts: tuple[str, ...] = ()
    """Further contexts whose clusters are served, at /clusters/NAME/."""
    address: str = "127.0.0.1"
    port: int = 8001
    unix_socket: str = ""
    api_prefix: str = "/"
    append_server_path: bool = True
    www: str = ""
    www_prefix: str = "/static/"
    filter: FilterRules | None = field(default_factory=FilterRules)
    """None with --disable-filter."""
    html_sandbox: bool = True
    via: str = "auto"
    explain: bool = False
    cluster_cidrs: tuple[str, ...] = ()
    access_log: str = "off"


def run(settings: ProxySettings) -> int:
    """Serves until Ctrl+C or SIGTERM; the exit code. Raises DoorError when it can't start."""
    logging.basicConfig(level=logging.WARNING, format="portway: %(message)s", stream=sys.stderr)
    logging.getLogger("portway.gateway.paths").setLevel(logging.INFO if settings.explain else logging.WARNING)
    context = _checked(settings)
    prepare_process()

    def answers(followed: Followed, _health: Health) -> LocalAnswers:
        rights = Rights(followed.client, lambda _user: ())  # whoever asks is the kubeconfig's user
        parts: list[LocalAnswers] = [Catalogue(followed.cluster.view, rights, Hosts((BASE,)), context, "http")]
        if settings.www:
            parts.append(StaticFiles(Path(settings.www), settings.www_prefix))
        return FirstOf(parts)

    async def serve() -> None:
        await Worker(_gateway(settings), 0, answers).run(_tell(settings))

    try:
        uvloop.run(serve())
    except* ListenError as errors:
        raise DoorError(str(errors.exceptions[0])) from None
    return 0


def _tell(settings: ProxySettings) -> Callable[[Listeners], None]:
    def tell(listeners: Listeners) -> None:
        (name,) = listeners.names()
        print(f"Starting to serve on {name}", flush=True)
        if not settings.unix_socket and sys.stdout.isatty():
            print(f"Services: http://localhost:{name.rpartition(':')[2]}/", flush=True)

    return tell


def _checked(settings: ProxySettings) -> str:
    """The context's name. Everything that can be wrong is found here."""
    try:
        kubeconfig = load(settings.kubeconfig)
        kubeconfig.resolve(Overrides(**settings.overrides))
        for name in settings.contexts:
            kubeconfig.resolve(Overrides(context=name))
    except KubeconfigError as error:
        raise DoorError(f"{error}; --kubeconfig or $KUBECONFIG names another file") from error
    if settings.www and not Path(settings.www).is_dir():
        raise DoorError(f"--www {settings.www} is not a directory")
    try:
        Filter(settings.filter or FilterRules())
    except re.error as error:
        raise DoorError(f'"{error.pattern!s}" is not a regular expression: {error}') from error
    try:
        socket.getaddrinfo(settings.address, settings.port, flags=socket.AI_NUMERICHOST)
    except OSError as error:
        raise DoorError(f'--address "{settings.address}" is not an IP address') from error
    return settings.overrides.get("context") or kubeconfig.current_context or "the cluster"


def _gateway(settings: ProxySettings) -> GatewaySettings:
    own = _cluster(settings, settings.overrides, "", "")
    return GatewaySettings(
        clusters=(own, *_further(settings)),
        secure_port=0,
        share_ports=False,
        limits=Limits(drain_timeout=DRAIN),
        insecure_address=settings.address,
        insecure_port=None if settings.unix_socket else settings.port,
        unix_socket=settings.unix_socket,
        html_sandbox=settings.html_sandbox,
        host_bases=(BASE,),
        api_prefix=settings.api_prefix,
        filter=settings.filter,
        authentication=Authentication(local="portway:local"),
        record=Record(access_log=settings.access_log),
    )


def _further(settings: ProxySettings) -> Iterator[ClusterSettings]:
    """A cluster for each further context, and for the own one again, by its name."""
    kubeconfig = load(settings.kubeconfig)
    taken: set[str] = set()
    own = settings.overrides.get("context") or kubeconfig.current_context
    for name in dict.fromkeys((own, *settings.contexts)) if settings.contexts else ():
        label = _label(name, taken)
        taken.add(label)
        yield _cluster(settings, {"context": name}, name, label)


def _label(context: str, taken: Collection[str]) -> str:
    """A DNS label for a context: what isn't a letter or digit becomes a dash, and a number tells doubles apart."""
    plain = re.sub(r"[^a-z0-9]+", "-", context.lower()).strip("-")[:56].strip("-") or "context"
    numbered = (f"{plain}-{number}" for number in itertools.count(2))
    return next(label for label in itertools.chain((plain,), numbered) if label not in taken)


def _cluster(settings: ProxySettings, overrides: dict[str, Any], name: str, label: str) -> ClusterSettings:
    return ClusterSettings(
        name=name,
        label=label,
        kubeconfig=settings.kubeconfig,
        overrides=overrides,
        identity="own",
        authorization_mode="AlwaysAllow",
        append_server_path=settings.append_server_path,
        via=settings.via,
        cluster_cidrs=settings.cluster_cidrs,
    )
