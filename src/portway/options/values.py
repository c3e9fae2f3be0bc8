"""Text of one flag or configuration key → its value.

Each parser raises ValueError with words that fit behind "NAME: "; `settings.py` adds the name and where it came from.
Nothing here looks at the file system: a path that isn't there is found out by whoever opens it.
"""

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

_INTERFACE = re.compile(r"(?!\.{1,2}\Z)[!-.0-9;-~]{1,15}\Z")
_PORT_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})\Z")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def text(value: str) -> str:
    """Any text that isn't empty."""
    if not value:
        raise ValueError("must not be empty")
    return value


def path(value: str) -> Path:
    """A path, absolute, with `~` for the home directory."""
    if "\0" in text(value):
        raise ValueError("must not hold a null character")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f'"{value}" names a user without a home directory') from None


def output_path(value: str) -> str:
    """Where lines are written: "" = nowhere, "-" = standard output, otherwise a path."""
    return value if value in ("", "-") else str(path(value))


def boolean(value: str) -> bool:
    """`true` or `false`, as Go's flags take them, and YAML's other spellings."""
    lowered = value.lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError(f'"{value}" is neither true nor false')
    return lowered in _TRUE


def whole_number(value: str) -> int:
    """A number without a sign."""
    if not value.isascii() or not value.isdigit():
        raise ValueError(f'"{value}" is not a whole number')
    return int(value)


def positive_number(value: str) -> int:
    """A number of at least 1."""
    number = whole_number(value)
    if number == 0:
        raise ValueError("0 is too few: give 1 or more")
    return number


def seconds(value: str) -> float:
    """A number of seconds, as `10` or Go's `10s`, `1m`, `1.5h`."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise ValueError(f'"{value}" is not a duration such as 10s')
    return float(found[1]) * {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}[found[2] or ""]


def workers(value: str) -> int:
    """1 to 256 processes."""
    number = whole_number(value)
    if not 1 <= number <= 256:
        raise ValueError(f"{number} is not between 1 and 256")
    return number


def port(value: str) -> int:
    """A TCP port; 0 is left to the caller's meaning."""
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise ValueError(f'"{value}" is not a port number (0-65535)')
    return int(value)


def listening_port(value: str) -> int:
    """A TCP port that a client can be told: not 0."""
    number = port(value)
    if number == 0:
        raise ValueError("0 is not a port to listen on; give one between 1 and 65535")
    return number


def node_name(value: str) -> str:
    """A DNS subdomain, as the names of nodes are."""
    if len(value) > 253 or not all(_LABEL.fullmatch(part) for part in value.split(".")):
        raise ValueError(f'"{value}" is no name of a node: lower-case letters, digits, "-" and "."')
    return value


def address(value: str) -> str:
    """An IP address in its canonical form."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f'"{value}" is not an IP address, such as 127.0.0.1 or ::1') from None


def advertised_address(value: str) -> str:
    """An IP address by which others may be told to reach this machine: one that says where, also from elsewhere."""
    found = ipaddress.ip_address(address(value))
    if isinstance(found, ipaddress.IPv6Address) and (found.scope_id or found.ipv4_mapped):
        raise ValueError(f"{found} is not an address as others write it")
    if found.is_unspecified or found.is_multicast or found.is_link_local:
        raise ValueError(f"{found} is not the address of one machine that others can reach")
    return str(found)


def network(value: str) -> str:
    """A CIDR without host bits, such as 10.96.0.0/16, in its canonical form."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f'"{value}" is not a CIDR such as 10.96.0.0/16 ({error})') from None


def service_network(value: str) -> str:
    """A CIDR with room for services: at least 8 addresses, and IPv6 no larger than Kubernetes allocates from."""
    canonical = network(value)
    room = ipaddress.ip_network(canonical).max_prefixlen - ipaddress.ip_network(canonical).prefixlen
    if room < 3:
        raise ValueError(f"{canonical} is too small: a service range needs at least 8 addresses")
    return canonical


def service_networks(value: str) -> str:
    """One such CIDR, or two of different families with a comma: the first one's family is the default."""
    found = [service_network(part.strip()) for part in value.split(",")]
    if len(found) > 2 or len({ipaddress.ip_network(one).version for one in found}) < len(found):
        raise ValueError(f'"{value}" is more than one range of each family')
    return ",".join(found)


def port_range(value: str) -> tuple[int, int]:
    """`30000-32767` → (30000, 32767), both included."""
    match = _PORT_RANGE.match(value)
    if match is None:
        raise ValueError(f'"{value}" is not a range such as 30000-32767')
    low, high = int(match[1]), int(match[2])
    if not 1 <= low <= high <= 65535:
        raise ValueError(f"{value} does not lie within 1-65535 in ascending order")
    return low, high


def interface(value: str) -> str:
    """A network interface's name, as the kernel takes it: up to 15 characters."""
    if not _INTERFACE.match(value):
        raise ValueError(f'"{value}" is not the name of an interface, such as eth0 (15 characters at most)')
    return value


def https_url(value: str) -> str:
    """An absolute https URL."""
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError(f'"{value}" is not a URL') from None
    if parts.scheme != "https" or not parts.netloc:
        raise ValueError(f'"{value}" is not a URL such as https://keys.example/jwks')
    return value


def choice(*allowed: str) -> "Choice":
    """One of a few words."""
    return Choice(allowed)


class Choice:
    """A parser that takes one of `allowed` and names them all when it doesn't."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed

    def __call__(self, value: str) -> str:
        if value not in self.allowed:
            raise ValueError(f'"{value}" is not one of {", ".join(self.allowed)}')
        return value
