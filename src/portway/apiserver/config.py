"""The API server's settings: one frozen object per process, made by whoever composes the cluster."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.kube.identity import User
    from portway.kube.serviceaccount import Signer, Verifier


@dataclass(frozen=True, slots=True)
class ApiServerConfig:
    """Settings of one API server.

    `advertise_address` is the door's "host:port" (an endpoint of default/kubernetes, and what /api tells clients).
    `service_account_jwks_uri` is where verifiers of tokens find the keys, "" = at that address.
    `shared_store`: other servers may be on the same store, so that each says by a lease that its door is there.
    `service_cluster_ip_range` is a CIDR, or two of different families with a comma.
    `cluster_cidrs` are the pods' own ranges. `token_users` are the static tokens that TokenReview knows.
    `watch_history` is the number of changes of a kind that are kept for watchers: one that lags further behind is
    cut. `bookmark_seconds` is the pause between a watch's bookmarks, `min_request_timeout` the least number of
    seconds that a watch without a timeout of its own goes on, `compaction_seconds` how long the store keeps its
    history (0: it is never compacted).
    """

    signer: Signer
    verifier: Verifier
    service_cluster_ip_range: str = "10.96.0.0/16"
    service_node_port_range: tuple[int, int] = (30000, 32767)
    cluster_cidrs: tuple[str, ...] = ()
    api_audiences: tuple[str, ...] = ("https://kubernetes.default.svc",)
    token_users: Mapping[str, User] = field(default_factory=dict)
    advertise_address: str = "127.0.0.1:6443"
    service_account_jwks_uri: str = ""
    shared_store: bool = False
    git_version: str = "v1.36.2+portway"
    max_body_bytes: int = 3 * 1024 * 1024
    watch_history: int = 10_000
    bookmark_seconds: float = 60.0
    min_request_timeout: int = 1800
    compaction_seconds: float = 300.0

    @property
    def service_cidrs(self) -> tuple[str, ...]:
        """The ranges of cluster addresses, one of each family at most, the default family's first."""
        return tuple(cidr.strip() for cidr in self.service_cluster_ip_range.split(","))

    def __post_init__(self) -> None:
        """Raises ValueError, naming the setting, when one cannot work."""
        networks = [ipaddress.ip_network(cidr) for cidr in self.service_cidrs]
        for network in networks:
            if network.num_addresses < 4:
                raise ValueError(f"service_cluster_ip_range {network} has no room for services")
        if len({network.version for network in networks}) < len(networks):
            raise ValueError(f"service_cluster_ip_range {self.service_cluster_ip_range} has two of one family")
        low, high = self.service_node_port_range
        if not 0 < low <= high < 65536:
            raise ValueError(f"service_node_port_range {low}-{high} is not a range of ports")
        if not self.advertise_address.rpartition(":")[2].isdigit():
            raise ValueError(f"advertise_address {self.advertise_address!r} is not host:port")
