"""ServiceCIDRs and IPAddresses: where cluster addresses come from, and whose each is.

Who takes addresses out of the ranges is `portway.apiserver.allocator`; who keeps a range while it is in use is a
controller. Source: pkg/apis/networking/validation, pkg/registry/networking, pkg/printers, KEP-1880, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.kube import names
from portway.kube.errors import Cause, invalid_value, required
from portway.kube.objects import Object

_NOT_A_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_ONE_A_FAMILY = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


class ServiceCidrStrategy(Strategy):
    """What is particular to ServiceCIDRs."""

    def defaults(self, obj: Object) -> None:
        """The spec and the status are always there."""
        obj.setdefault("spec", {})
        obj.setdefault("status", {})

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """Drops the status: it is the controller's."""
        obj.pop("status", None)

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """One range, or one of each family."""
        return common.first(_range_causes(obj["spec"]))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The ranges stay: addresses have been taken out of them. One of the other family may be added."""
        after, before = new["spec"].get("cidrs") or [], old["spec"].get("cidrs") or []
        if ctx.subresource == "status":
            return []
        if len(before) == 1 and len(after) == 2 and after[0] == before[0]:
            return common.first(_range_causes(new["spec"]))
        return common.first(common.unchanged("spec.cidrs", after, before))


def _range_causes(spec: dict[str, Any]) -> Iterator[Cause]:
    cidrs = spec.get("cidrs") or []
    if not cidrs:
        yield required("spec.cidrs", "at least one CIDR required")
    elif len(cidrs) > 2:
        yield invalid_value("spec.cidrs", spec, "may only hold up to 2 values")
    elif len(cidrs) == 2 and {_version(cidr) for cidr in cidrs} != {4, 6}:
        yield invalid_value("spec.cidrs", spec, _ONE_A_FAMILY)
    else:
        for field, cidr in common.each(cidrs, "spec.cidrs"):
            yield from _cidr_causes(field, cidr)


def _version(cidr: str) -> int:
    """The family of a range, 0 when the text is none (zone identifiers are refused, as upstream does)."""
    return ipaddress.ip_network(cidr, strict=False).version if common.is_cidr(cidr) and "%" not in cidr else 0


def _cidr_causes(field: str, cidr: str) -> Iterator[Cause]:
    if not _version(cidr):
        yield invalid_value(field, cidr, _NOT_A_CIDR)
        return
    address = cidr.partition("/")[0]
    canonical = ipaddress.ip_network(cidr, strict=False)
    if str(ipaddress.ip_address(address)) != str(canonical.network_address):
        yield invalid_value(field, cidr, "must not have bits set beyond the prefix length")
    elif cidr != str(canonical):
        yield invalid_value(field, cidr, f'must be in canonical form ("{canonical}")')


class IPAddressStrategy(Strategy):
    """What is particular to IPAddresses: the name is the address, so that there is one of each."""

    def name_errors(self, name: str) -> list[str]:
        """Addresses, in the one form in which an address can be written canonically."""
        address = common.address_of(name)
        if address is None:
            return [common.NOT_AN_IP]
        return [] if str(address) == name else [f'must be in canonical form ("{address}")']

    def defaults(self, obj: Object) -> None:
        """The spec is always there."""
        obj.setdefault("spec", {})

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """It says whose it is."""
        return common.first(_parent_causes(obj["spec"].get("parentRef")))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """It stays whose it is."""
        pair = [one["spec"].get("parentRef") for one in (new, old)]
        return common.first(common.unchanged("spec.parentRef", *pair))


def _parent_causes(parent: dict[str, Any] | None) -> Iterator[Cause]:
    where = "spec.parentRef"
    if parent is None:
        yield required(where)
        return
    if parent.get("group"):
        yield from common.subdomain(f"{where}.group", parent["group"])
    for part in ("resource", "name"):
        yield from common.needed(f"{where}.{part}", parent.get(part))
        yield from _segment(f"{where}.{part}", parent.get(part, ""))
    yield from _segment(f"{where}.namespace", parent.get("namespace", ""))


def _segment(field: str, value: str) -> Iterator[Cause]:
    yield from common.bad(field, value, names.is_path_segment_name(value))


def _range_cells(obj: Object, _now: float) -> Iterable[Any]:
    return (",".join((obj.get("spec") or {}).get("cidrs") or ()),)


def _parent_cells(obj: Object, _now: float) -> Iterable[Any]:
    parent = (obj.get("spec") or {}).get("parentRef")
    if not parent:
        return ("<none>",)
    resource = ".".join(filter(None, (parent.get("resource", ""), parent.get("group", "")))).lower()
    return ("/".join([resource, *filter(None, [parent.get("namespace", "")]), parent.get("name", "")]),)


SERVICE_CIDR = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="ServiceCIDR",
    plural="servicecidrs",
    singular="servicecidr",
    namespaced=False,
    has_status=True,
    strategy=ServiceCidrStrategy(),
    columns=common.columns(_range_cells, Column("CIDRs", description="The ranges, one of each family at most.")),
)
IP_ADDRESS = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IPAddress",
    plural="ipaddresses",
    singular="ipaddress",
    namespaced=False,
    short_names=("ip",),
    strategy=IPAddressStrategy(),
    columns=common.columns(_parent_cells, Column("ParentRef", description="Whose address it is.")),
)
