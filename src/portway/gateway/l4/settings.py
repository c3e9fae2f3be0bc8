"""What the service proxy's process is told, in one frozen object that crosses the process boundary as JSON."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from portway.gateway.settings import Limits


@dataclass(frozen=True)
class ServiceProxySettings:
    """Where the embedded cluster's API is, and which of the machine's addresses are used.

    Attributes:
        api_socket: path of the API server's unix socket.
        node: the Node that this machine is.
        nodeport_addresses: CIDRs; node ports are served on the machine's addresses in them. () = on all.
        interface: what bears services' addresses; "" = only addresses that the machine has anyway.
        own_interface: whether it is made and removed as a whole.
        door: (address, port) of each of the door's own listeners, which no service gets while the door is away.
        api_door: which of these is the one with TLS, the only place on loopback where default/kubernetes may lead.
        cluster_cidrs: ranges of pods, where even loopback addresses are endpoints.
    """

    api_socket: str
    node: str
    nodeport_addresses: tuple[str, ...] = ()
    interface: str = ""
    own_interface: bool = False
    door: tuple[tuple[str, int], ...] = ()
    api_door: tuple[str, int] | None = None
    cluster_cidrs: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> str:
        """For the process's standard input."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ServiceProxySettings":
        """What to_json wrote; unknown keys are a TypeError."""
        value: dict[str, Any] = json.loads(text)
        changed: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
        door = tuple((address, port) for address, port in value["door"])
        return cls(**changed | {"door": door, "limits": Limits(**value["limits"])})
