"""What controllers are given besides the API: the cluster's certificates and addresses."""

from dataclasses import dataclass

from portway.controllers.addresspool import AddressPool
from portway.controllers.signing import Authority
from portway.kube.ingresshosts import IngressHosts


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of the controllers of one cluster; a controller that lacks what it needs is not run.

    Attributes:
        root_ca: what verifies the door, PEM; "" = nothing that could be told to pods.
        authority: signs what is approved; None = requests are kept, and signed by nobody here.
        balancers: the addresses for Services of type LoadBalancer; None = they stay pending.
        ingress: the hosts that Ingresses may have; None = the door serves no Ingresses.
    """

    root_ca: str = ""
    authority: Authority | None = None
    balancers: AddressPool | None = None
    ingress: IngressHosts | None = None
