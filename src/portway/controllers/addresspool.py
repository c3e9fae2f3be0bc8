"""The addresses that load balancers may have: CIDRs and ranges, and the first of them that nobody has. Pure."""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from portway.controllers.pods import family

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AddressBlock:
    """The addresses from `first` to `last`, both included, of one family."""

    first: Address
    last: Address

    def __contains__(self, address: Address) -> bool:
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)

    def overlaps(self, cidr: str) -> bool:
        """Whether an address of the block lies in a network."""
        network = ipaddress.ip_network(cidr)
        return (
            network.version == self.first.version
            and int(network[0]) <= int(self.last)
            and int(self.first) <= int(network[-1])
        )


def parse(text: str) -> AddressBlock:
    """Reads "192.0.2.64/28" (all its addresses), "192.0.2.10-192.0.2.20" or one address; raises ValueError."""
    try:
        first, dash, last = text.partition("-")
        if dash:
            block = AddressBlock(ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip()))
        else:
            network = ipaddress.ip_network(text.strip())
            block = AddressBlock(network[0], network[-1])
    except ValueError as error:
        raise ValueError(f'"{text}" is neither a CIDR nor a range such as 192.0.2.10-192.0.2.20 ({error})') from None
    if block.first.version != block.last.version or int(block.first) > int(block.last):
        raise ValueError(f'"{text}" is not a range of one family in ascending order')
    return block


class AddressPool:
    """Blocks in the order in which they are to be used. It keeps no account of what is taken: the services say that."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._blocks = [parse(text) for text in texts]

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __contains__(self, address: str) -> bool:
        return bool(family(address)) and any(ipaddress.ip_address(address) in block for block in self._blocks)

    def has_family(self, wanted: str) -> bool:
        """Whether there are addresses of a family ("IPv4", "IPv6") at all."""
        return any(f"IPv{block.first.version}" == wanted for block in self._blocks)

    def first_free(self, wanted: str, taken: Callable[[str], bool]) -> str | None:
        """The first address of a family that isn't taken; None when there is none."""
        for block in self._blocks:
            if f"IPv{block.first.version}" != wanted:
                continue
            for step in range(int(block.last) - int(block.first) + 1):
                if not taken(address := str(block.first + step)):
                    return address
        return None
