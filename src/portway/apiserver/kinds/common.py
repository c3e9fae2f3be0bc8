"""What several kinds share: columns of Tables, walks over lists of a 422, small rules that upstream applies everywhere.

Only values; each kind's own rules are in its module.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from portway.apiserver.kinds.base import OWN_NAME, Column, Columns, Context
from portway.kube import names
from portway.kube.errors import Cause, forbidden_field, invalid_value, not_supported, required
from portway.kube.objects import Object, human_duration

MAX_CAUSES = 100
"""Causes of one 422 that are told; upstream tells all."""
IMMUTABLE = "field is immutable"
CREATED = "creationTimestamp"
_THE_END = 1e11
"""Unix seconds, in the year 5138."""

NAME = Column(
    "Name", format="name", description="Name must be unique within a namespace; it is how the object is addressed."
)
AGE = Column("Age", description="Time since the object was created.")


def age(obj: Object, now: float) -> str:
    """Returns the Age cell: time since creation as kubectl prints it."""
    return since(obj.get("metadata", {}).get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    """Returns the time from an RFC 3339 timestamp to `now` (Unix seconds) as kubectl prints it."""
    if not timestamp:
        return "<unknown>"
    return human_duration(now - datetime.datetime.fromisoformat(timestamp).timestamp())


def columns(
    cells: Callable[[Object, float], Iterable[Any]], *between: Column, after: tuple[Column, ...] = ()
) -> Columns:
    """Returns the usual Table: Name, the kind's columns, Age, then columns `after` it.

    `cells(object, now)` gives the cells of the kind's own columns in that order; Name and Age are added.
    """
    split = len(between)

    def all_cells(obj: Object, now: float) -> list[Any]:
        own = list(cells(obj, now))
        return [obj["metadata"].get("name", ""), *own[:split], age(obj, now), *own[split:]]

    def timeless(obj: Object) -> tuple[list[Any], list[Any]] | None:
        own = list(cells(obj, 0.0))
        # What is the same long before and long after the object doesn't look at the time.
        if own != list(cells(obj, _THE_END)):
            return None
        return [obj["metadata"].get("name", ""), *own[:split]], own[split:]

    return Columns((NAME, *between, AGE, *after), all_cells, timeless)


def wide(name: str, description: str = "") -> Column:
    """Returns a column that only `-o wide` shows."""
    return Column(name, description=description, priority=1)


def first(*causes: Iterable[Cause]) -> list[Cause]:
    """Returns the causes in their order, but no more than the first of very many.

    A few bytes of a body can be wrong in several ways, each of which takes hundreds to say, twice.
    """
    return list(islice(chain(*causes), MAX_CAUSES))


def items(obj: Mapping[str, Any], *path: str) -> list[Any]:
    """Returns the list at `path`, [] where anything on the way is missing or null."""
    value: Any = obj
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, list) else []


def part(obj: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """Returns the object at `path`, {} where anything on the way is missing or null."""
    value: Any = obj
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def each(values: Iterable[Any] | None, field: str) -> Iterator[tuple[str, Any]]:
    """Yields (field path, value) for the elements of a list: ("spec.ports[0]", …)."""
    for i, value in enumerate(values or ()):
        yield f"{field}[{i}]", value


def bad(field: str, value: Any, messages: Iterable[str]) -> Iterator[Cause]:
    """Yields an invalid_value for each of a check's messages."""
    for message in messages:
        yield invalid_value(field, value, message)


def one_of(field: str, value: Any, choices: Iterable[str]) -> Iterator[Cause]:
    """Yields a not_supported unless the value is one of the choices, which upstream lists sorted."""
    if value not in (supported := sorted(choices)):
        yield not_supported(field, value, supported)


def needed(field: str, value: Any, detail: str = "") -> Iterator[Cause]:
    """Yields a required when the value is empty."""
    if not value:
        yield required(field, detail)


def unchanged(field: str, new: Any, old: Any, detail: str = IMMUTABLE) -> Iterator[Cause]:
    """Yields an invalid_value when an immutable field changed."""
    if new != old:
        yield invalid_value(field, new, detail)


def label(field: str, value: str) -> Iterator[Cause]:
    """Yields what keeps a value from being a DNS-1123 label."""
    yield from bad(field, value, names.is_dns1123_label(value))


def subdomain(field: str, value: str) -> Iterator[Cause]:
    """Yields what keeps a value from being a DNS-1123 subdomain."""
    yield from bad(field, value, names.is_dns1123_subdomain(value))


def within(field: str, value: int, low: int, high: int) -> Iterator[Cause]:
    """Yields an invalid_value unless low <= value <= high."""
    if not low <= value <= high:
        yield invalid_value(field, value, f"must be between {low} and {high}, inclusive")


def not_negative(field: str, value: int | None) -> Iterator[Cause]:
    """Yields upstream's cause for a negative number."""
    if value is not None and value < 0:
        yield invalid_value(field, value, "must be greater than or equal to 0")


def port_number(field: str, value: Any) -> Iterator[Cause]:
    """Yields what keeps a number from being a port."""
    yield from bad(field, value, names.is_port_number(value))


def port_or_name(field: str, value: int | str) -> Iterator[Cause]:
    """Yields what keeps an IntOrString from being a port number or an IANA service name."""
    yield from bad(field, value, names.is_port_name(value) if isinstance(value, str) else names.is_port_number(value))


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(value: Any) -> IPAddress | None:
    """Returns an IP address, None when the text isn't one (zone identifiers are refused, as upstream does)."""
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def is_cidr(text: str) -> bool:
    """Whether the text is an address with a prefix length."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


@lru_cache(maxsize=16)
def networks(cidrs: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """The parsed ranges of a setting."""
    return tuple(ipaddress.ip_network(cidr) for cidr in cidrs)


NOT_AN_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def ip_address(field: str, value: Any) -> Iterator[Cause]:
    """Yields a cause unless the value is an IP address."""
    if address_of(value) is None:
        yield invalid_value(field, value, NOT_AN_IP)


def routable(field: str, value: str, cluster_cidrs: tuple[str, ...] = ()) -> Iterator[Cause]:
    """Yields what keeps an IP address from being an endpoint or an external IP (upstream's non-special IP).

    An address of the cluster's own pod ranges is none that upstream would call special, even on loopback.
    """
    address = address_of(value)
    if address is None:
        yield invalid_value(field, value, NOT_AN_IP)
        return
    if any(address in network for network in networks(cluster_cidrs)):
        return
    if address.is_unspecified:
        yield invalid_value(field, value, f"may not be unspecified ({value})")
    if address.is_loopback:
        yield invalid_value(field, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        yield invalid_value(field, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if _link_local_multicast(address):
        yield invalid_value(field, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


def door_cidrs(obj: Object, ctx: Context) -> tuple[str, ...]:
    """Returns the ranges whose addresses are none that upstream would call special, for `routable`.

    They are the pods' ranges. In default/kubernetes it is also where the door itself is, which may be on loopback: what
    the server writes there, and the address that it is known by. Nobody can make other loopback addresses endpoints.
    """
    config, metadata = ctx.services.config, obj["metadata"]
    if (metadata.get("namespace"), metadata.get("name", "").partition("-")[0]) != ("default", "kubernetes"):
        return config.cluster_cidrs
    if ctx.user.name == OWN_NAME:
        return (*config.cluster_cidrs, "127.0.0.0/8", "::1/128")
    door = address_of(config.advertise_address.rpartition(":")[0].strip("[]"))
    return (*config.cluster_cidrs, str(door)) if door else config.cluster_cidrs


def _link_local_multicast(address: IPAddress) -> bool:
    network = "224.0.0.0/24" if address.version == 4 else "ff02::/16"
    return address in ipaddress.ip_network(network)


def immutable_data(new: Object, old: Object, fields: Iterable[str]) -> Iterator[Cause]:
    """Yields the causes for a ConfigMap or Secret that was marked immutable and changed."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield forbidden_field("immutable", "field is immutable when `immutable` is set")
    for name in fields:
        if new.get(name) != old.get(name):
            yield forbidden_field(name, "field is immutable when `immutable` is set")


def allowed_labels(field: str, labels: Mapping[str, Any]) -> Iterator[Cause]:
    """Yields what is wrong with a map of labels, say a selector."""
    for key, value in labels.items():
        yield from bad(field, key, names.is_qualified_name(key))
        yield from bad(field, value, names.is_label_value(value))


_OPERATORS = {"In": True, "NotIn": True, "Exists": False, "DoesNotExist": False}
"""Operator of a label selector → whether it takes values."""


def label_selector(field: str, selector: Mapping[str, Any]) -> Iterator[Cause]:
    """Yields what is wrong with a LabelSelector object."""
    yield from allowed_labels(f"{field}.matchLabels", selector.get("matchLabels") or {})
    for where, expression in each(selector.get("matchExpressions"), f"{field}.matchExpressions"):
        operator, values = expression.get("operator", ""), expression.get("values") or []
        takes_values = _OPERATORS.get(operator)
        if takes_values is None:
            yield invalid_value(f"{where}.operator", operator, "not a valid selector operator")
        elif takes_values and not values:
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif values and not takes_values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield forbidden_field(f"{where}.values", text)
        yield from bad(f"{where}.key", expression.get("key", ""), names.is_qualified_name(expression.get("key", "")))
        for i, value in enumerate(values):
            yield from bad(f"{where}.values[{i}]", value, names.is_label_value(value))
