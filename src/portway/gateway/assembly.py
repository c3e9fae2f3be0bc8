"""From settings to the clusters behind a door: clients, views, routers, authorisers, put together for one worker."""

import asyncio
import logging
from collections.abc import Mapping
from time import time

from portway.client.api import ApiClient, ClusterConfig
from portway.client.kubeconfig import KubeconfigError, Overrides, load
from portway.client.portforward.forwarder import PortForwarder
from portway.client.state import RBAC_KINDS
from portway.client.view import ROUTED, ClusterView
from portway.gateway.authorization import AlwaysAllow, Authorizer, RBACAuthorizer
from portway.gateway.cluster import Cluster
from portway.gateway.locations import Locations
from portway.gateway.paths import AUTO, Paths
from portway.gateway.routing import Router
from portway.gateway.server import read_bundle
from portway.gateway.settings import ClusterSettings
from portway.gateway.upstream.addresses import AddressPolicy
from portway.gateway.upstream.api import EmbeddedApi, ImpersonatingApi, OwnApi
from portway.gateway.upstream.endpoint import Endpoints
from portway.gateway.upstream.reach import DIRECT, Direct, Reach, Through, Tunnel

logger = logging.getLogger(__name__)

REMOTE: Mapping[str, type[OwnApi | ImpersonatingApi]] = {"own": OwnApi, "impersonate": ImpersonatingApi}
"""What `ClusterSettings.identity` means."""
MODES = ("RBAC", "Webhook", "AlwaysAllow")
DOOR = "system:portway:gateway"
"""Who the door itself is to the embedded API."""


class Followed:
    """A cluster and what keeps its view up to date."""

    def __init__(self, settings: ClusterSettings, client: ApiClient | None = None) -> None:
        """ListenError for a kubelet authority that can't be used, KubeconfigError for a cluster that can't be found.

        `client`: another one than the settings say.
        """
        embedded = self._embedded = bool(settings.api_socket)
        config = ClusterConfig.local(settings.api_socket, DOOR) if embedded else cluster_config(settings)
        self.client = client or ApiClient(config)
        self._retry_cap = 2.0 if embedded else 30.0
        decides = settings.authorization_mode == "RBAC"
        # Only the embedded API's door verifies service accounts' tokens itself, for which it must know what they name.
        kinds = None if embedded and decides else (*ROUTED, *RBAC_KINDS) if decides else ROUTED
        view = ClusterView(settings.namespaces, kinds)
        policy = AddressPolicy(settings.cluster_cidrs)
        endpoints = Endpoints()
        self._forwarder = PortForwarder(config)
        ways = Direct(endpoints, policy), Tunnel(endpoints, self._forwarder), Through()
        router = Router(
            view,
            policy if settings.via == DIRECT else AddressPolicy.lenient(),
            endpoints_without_pods=settings.endpoints_without_pods,
            external_names=settings.external_names,
        )
        locations = Locations(
            view, self.client, router, policy, _reach(settings.via, ways), read_bundle(settings.kubelet_ca_file)
        )
        api = (
            EmbeddedApi(endpoints.get(settings.api_socket, 0))
            if embedded
            else REMOTE[settings.identity](config, lambda: self.client.get("/api"))
        )
        if not settings.append_server_path:
            api.prefix = b""
        streams = (endpoints.get(settings.streams_socket, 0),) if settings.streams_socket else ()
        authorizer = _authorizer(settings, view)
        self.cluster = Cluster(settings.name, view, locations, authorizer, api, endpoints, streams, settings.label)
        self.paths = Paths(view, locations, policy, ways, self._forwarder) if settings.via == AUTO else None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to follow the cluster."""
        await self.cluster.view.start(self.client, retry_cap=self._retry_cap)
        self._looking = asyncio.create_task(self._look(), name="look at the cluster")

    async def _look(self) -> None:
        """Finds out what may be seen of the cluster, and how its services are best reached."""
        view = self.cluster.view
        await view.wait_synced()
        if not view.followed and any(plural in ROUTED for plural, _ in view.forbidden):
            await view.stop()
            view.followed = (self.client.config.namespace,)
            await view.start(self.client, retry_cap=self._retry_cap)
            logger.info("only the namespace %s is followed: the whole cluster may not be listed", *view.followed)
        if self.paths is not None:
            await self.paths.run()

    def sweep(self, grace: float) -> None:
        """Once a second: roles that could not be followed for longer than `grace` seconds decide nothing any more.

        The embedded API's are believed as long as it takes to bring it back: nobody else can have changed them.
        """
        authorizer, view = self.cluster.authorizer, self.cluster.view
        if not isinstance(authorizer, RBACAuthorizer) or self._embedded:
            return
        hidden = [plural for plural, _ in view.forbidden if plural in RBAC_KINDS]
        if hidden:
            authorizer.suspended = f"{', '.join(hidden)} may not be read"
        elif not view.connected and time() - view.last_contact > grace:
            authorizer.suspended = f"roles could not be followed for {time() - view.last_contact:.0f} s"
        else:
            authorizer.suspended = ""

    async def stop(self) -> None:
        """Follows it no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self.cluster.view.stop()
        await self._forwarder.close()
        await self.client.close()


def _reach(via: str, ways: tuple[Direct, Tunnel, Through]) -> Reach:
    """The way of that name; while none is chosen, the one that always leads there."""
    return next((way for way in ways if way.name == via), ways[-1])


def cluster_config(settings: ClusterSettings) -> ClusterConfig:
    """Where a cluster is and who the door is there. KubeconfigError, also for who can't impersonate callers."""
    config = load(settings.kubeconfig).resolve(Overrides(**settings.overrides))
    if settings.identity == "impersonate" and config.headers:
        # One request can name one user: the API server would take the kubeconfig's for every caller's.
        raise KubeconfigError("the kubeconfig's user acts as another one (as): whoever impersonates callers can't")
    return config


def _authorizer(settings: ClusterSettings, view: ClusterView) -> Authorizer:
    if settings.authorization_mode not in MODES:
        raise ValueError(f'the authorization mode "{settings.authorization_mode}" is not one of {", ".join(MODES)}')
    return AlwaysAllow() if settings.authorization_mode == "AlwaysAllow" else RBACAuthorizer(view.rbac)
