"""From settings to the clusters behind a door: clients, views, routers, authorisers, put together for one worker."""

from portway.client.api import ApiClient, ClusterConfig
from portway.client.view import ClusterView
from portway.gateway.authorization import RBACAuthorizer
from portway.gateway.cluster import Cluster
from portway.gateway.locations import Locations
from portway.gateway.routing import Router
from portway.gateway.server import read_bundle
from portway.gateway.settings import ClusterSettings
from portway.gateway.upstream.addresses import AddressPolicy
from portway.gateway.upstream.api import EmbeddedApi
from portway.gateway.upstream.endpoint import Endpoints

DOOR = "system:portway:gateway"
"""Who the door itself is to the embedded API."""


class Followed:
    """A cluster and what keeps its view up to date."""

    def __init__(self, settings: ClusterSettings, client: ApiClient | None = None) -> None:
        """ListenError for a kubelet authority that can't be used. `client`: another one than the settings say."""
        self.client = client or ApiClient(ClusterConfig.local(settings.api_socket, DOOR))
        view = ClusterView()
        policy = AddressPolicy(settings.cluster_cidrs)
        router = Router(
            view,
            policy,
            endpoints_without_pods=settings.endpoints_without_pods,
            external_names=settings.external_names,
        )
        endpoints = Endpoints()
        locations = Locations(view, self.client, router, policy, endpoints, read_bundle(settings.kubelet_ca_file))
        api = EmbeddedApi(endpoints.get(settings.api_socket, 0))
        streams = (endpoints.get(settings.streams_socket, 0),) if settings.streams_socket else ()
        self.cluster = Cluster(settings.name, view, locations, RBACAuthorizer(view.rbac), api, streams)

    async def start(self) -> None:
        """Begins to follow the cluster."""
        await self.cluster.view.start(self.client, retry_cap=2.0)

    async def stop(self) -> None:
        """Follows it no more."""
        await self.cluster.view.stop()
        await self.client.close()
