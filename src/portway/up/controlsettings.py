"""What the control process is told. Apart from `control.py`, so that who starts it needn't load what it loads."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from portway.storage.etcdsettings import EtcdSettings


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Settings of one control process; they cross the process boundary as JSON on its standard input.

    Attributes:
        socket_fd: the inherited listening socket; socket_path is where the controllers and the node agent find it.
        streams_fd: the inherited listening socket of the node agent's streams (port-forward).
        database: path of the SQLite file; "" = memory, or the etcd that `etcd` names.
        identity: names the cluster's authority: what servers on one etcd must have in common.
        node: name of this machine's node.
        tokens: the joined static tokens.
        signing_key: private key of service account tokens; key_files: further ones that are believed.
        authority: certificate and key of the cluster's authority, which signs client certificates; files.
        jwks_uri: where verifiers of tokens find the keys; "" = at the door.
        root_ca: what verifies the door, PEM, for pods; "" = nothing but public authorities do.
        advertise: "host:port" of the door, as the cluster's clients are told.
        compaction_seconds, watch_history: as in ApiServerConfig.
        controllers: kube-controller-manager's --controllers, comma-separated.
        load_balancer_addresses: CIDRs and ranges for services of type LoadBalancer.
        ingress_own, ingress_domains: the fields of IngressHosts.
        seed: names the cluster among those of this machine.
        environment: what pods inherit.
    """

    socket_fd: int
    streams_fd: int
    socket_path: str
    database: str
    etcd: EtcdSettings | None
    identity: str
    node: str
    tokens: str
    signing_key: str
    key_files: tuple[str, ...]
    issuer: str
    audiences: tuple[str, ...]
    authority: tuple[str, str]
    jwks_uri: str
    root_ca: str
    service_cluster_ip_range: str
    service_node_port_range: tuple[int, int]
    advertise: str
    compaction_seconds: float
    watch_history: int
    controllers: str
    load_balancer_addresses: tuple[str, ...]
    ingress_own: tuple[str, ...]
    ingress_domains: tuple[str, ...]
    cluster_cidr: str
    seed: str
    log_dir: str
    demo: bool
    environment: dict[str, str]

    def to_json(self) -> bytes:
        """For the process's standard input."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, content: str) -> "ControlSettings":
        """What to_json wrote."""
        value: dict[str, Any] = json.loads(content)
        etcd = value.pop("etcd")
        found = EtcdSettings(**{key: _frozen(one) for key, one in etcd.items()}) if etcd else None
        return cls(etcd=found, **{key: _frozen(one) for key, one in value.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
