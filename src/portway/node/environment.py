"""How a pod finds services: the environment variables of Kubernetes (pkg/kubelet/envvars).

One thing differs from a kubelet's: nothing on this machine routes cluster addresses, so host and port are those of the
pod behind the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reachable:
    """A service port as a process of this machine reaches it."""

    service: str
    host: str
    port: int
    port_name: str = ""


def service_variables(target: Reachable) -> Mapping[str, str]:
    """NAME_SERVICE_HOST and the rest of the family for one service; `my-app` is spelt MY_APP."""
    name = _variable(target.service)
    url = f"tcp://{target.host}:{target.port}"
    base = f"{name}_PORT_{target.port}_TCP"
    found = {
        f"{name}_SERVICE_HOST": target.host,
        f"{name}_SERVICE_PORT": str(target.port),
        f"{name}_PORT": url,
        base: url,
        f"{base}_PROTO": "tcp",
        f"{base}_PORT": str(target.port),
        f"{base}_ADDR": target.host,
    }
    if target.port_name:
        found[f"{name}_SERVICE_PORT_{_variable(target.port_name)}"] = str(target.port)
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
