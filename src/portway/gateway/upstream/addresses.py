"""Which addresses the door dials: the cluster's own pods, and global unicast otherwise.

The address that is checked is the address that is dialled; names are resolved before, never after (CVE-2020-8562).
Special addresses are refused as kube-apiserver refuses them for pods and nodes, and so are the well-known cloud
metadata services.
"""

import ipaddress

_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_BROADCAST = ipaddress.ip_address("255.255.255.255")


class AddressPolicy:
    """Decides on literal addresses. `cluster_cidrs` are the cluster's pod ranges, where even loopback addresses are
    pods.
    """

    def __init__(self, cluster_cidrs: tuple[str, ...] = ()) -> None:
        self._ranges = tuple(ipaddress.ip_network(c) for c in cluster_cidrs)

    @classmethod
    def lenient(cls) -> "AddressPolicy":
        """For addresses that the door itself does not dial: it is the cluster that looks."""
        return cls(("0.0.0.0/0", "::/0"))

    def allows(self, text: str) -> bool:
        """Whether a literal address may be dialled; anything that is not one address may not."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id is not None:
                return False
            address = _embedded(address) or address
        if any(address.version == r.version and address in r for r in self._ranges):
            return True
        return not (
            address.is_unspecified
            or address.is_loopback
            or address.is_multicast
            or address.is_link_local
            or address == _BROADCAST
            or address in _METADATA
        )


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: mapped, translated (RFC 6052) or tunnelled (RFC 3056)."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
