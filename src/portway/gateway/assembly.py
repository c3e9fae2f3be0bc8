"""From settings to the clusters behind a door: clients, views, routers, authorisers, put together for one worker."""

from collections.abc import Callable, Mapping

from portway.client.api import ApiClient, ClusterConfig
from portway.client.kubeconfig import Overrides, load
from portway.client.view import ClusterView
from portway.gateway.authorization import AlwaysAllow, Authorizer, RBACAuthorizer
from portway.gateway.cluster import Api, Cluster
from portway.gateway.locations import Locations
from portway.gateway.routing import Router
from portway.gateway.server import read_bundle
from portway.gateway.settings import ClusterSettings
from portway.gateway.upstream.addresses import AddressPolicy
from portway.gateway.upstream.api import EmbeddedApi, ImpersonatingApi, OwnApi
from portway.gateway.upstream.endpoint import Endpoints

REMOTE: Mapping[str, Callable[[ClusterConfig], Api]] = {"own": OwnApi, "impersonate": ImpersonatingApi}
"""What `ClusterSettings.identity` means."""
DOOR = "system:portway:gateway"
"""Who the door itself is to the embedded API."""


class Followed:
    """A cluster and what keeps its view up to date."""

    def __init__(self, settings: ClusterSettings, client: ApiClient | None = None) -> None:
        """ListenError for a kubelet authority that can't be used, KubeconfigError for a cluster that can't be found.

        `client`: another one than the settings say.
        """
        embedded = bool(settings.api_socket)
        config = ClusterConfig.local(settings.api_socket, DOOR) if embedded else _config(settings)
        self.client = client or ApiClient(config)
        self._retry_cap = 2.0 if embedded else 30.0
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
        api = EmbeddedApi(endpoints.get(settings.api_socket, 0)) if embedded else REMOTE[settings.identity](config)
        if not settings.append_server_path:
            api.prefix = b""
        authorizer = _authorizer(settings, view)
        streams = (endpoints.get(settings.streams_socket, 0),) if settings.streams_socket else ()
        through = settings.via == "through"
        self.cluster = Cluster(settings.name, view, locations, authorizer, api, through=through, streams=streams)

    async def start(self) -> None:
        """Begins to follow the cluster."""
        await self.cluster.view.start(self.client, retry_cap=self._retry_cap)

    async def stop(self) -> None:
        """Follows it no more."""
        await self.cluster.view.stop()
        await self.client.close()


def _config(settings: ClusterSettings) -> ClusterConfig:
    return load(settings.kubeconfig).resolve(Overrides(**settings.overrides))


def _authorizer(settings: ClusterSettings, view: ClusterView) -> Authorizer:
    return AlwaysAllow() if settings.authorization_mode == "AlwaysAllow" else RBACAuthorizer(view.rbac)
