"""Which host names an Ingress may have at the door. Pure.

Whoever may write an Ingress in some namespace is not thereby allowed to stand where the cluster's API is called: a host
that is the door's own would take over the API's paths, and with them what clients send there. So the names that the
door is called by are never an Ingress's, nor is anything that may mean this machine or the cluster's inside.
"""

import re
from dataclasses import dataclass
from typing import Final

_RESERVED: Final = ("localhost", "svc", "cluster.local")
"""This machine, to browsers (RFC 6761), and the names that services have inside of a cluster."""
_NUMBER: Final = re.compile(r"[0-9]+\Z|0[xX][0-9a-fA-F]*\Z")
"""A last label that makes browsers read the whole name as an IPv4 address (WHATWG URL, "ends in a number")."""


@dataclass(frozen=True)
class IngressHosts:
    """What the operator lets Ingresses have.

    `own`: names that the door is called by, in lower case; `*.example.com` is what a wildcard certificate says.
    `domains`: where hosts must be, the domains themselves included; () = anywhere. Who names domains has thought of the
    wildcards in the certificate: those reserve nothing then.
    """

    own: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    def problem(self, host: str) -> str:
        """Why a rule with this host is not served; "" when it may be. A wildcard host is judged by what is below it.

        No host means all that are in the domains and nobody's. Without domains that would be every name that the door
        is called by and doesn't know of, so nobody may have it then.
        """
        if not host:
            return "" if self.domains else "what no rule names is the door's own where no --ingress-domains are given"
        name = host.removeprefix("*.")
        if "." not in name and not host.startswith("*."):
            return f'"{host}" may be a name of the door: it has one label only'
        if _NUMBER.match(name.rpartition(".")[2]):
            return f'"{host}" may be read as an address'
        if any(name == one or name.endswith(f".{one}") for one in _RESERVED):
            return f'"{host}" is a name of this machine or of the cluster'
        if (host == name and host in self.own) or (not self.domains and _parent(host) in self.own):
            return f'"{host}" is a name of the door'
        if self.domains and not any(name == one or name.endswith(f".{one}") for one in self.domains):
            return f'"{host}" is in none of the domains {", ".join(self.domains)}'
        return ""


def _parent(host: str) -> str:
    """The wildcard that a certificate would cover this name with."""
    return f"*.{host.partition('.')[2]}"
