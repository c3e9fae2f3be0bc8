"""What is accepted in a Service and still not a good idea: the texts of its `Warning` headers, in upstream's words.

Source: pkg/api/service/warnings.go and k8s.io/apimachinery/pkg/util/validation (GetWarningsForIP, …CIDR), as facts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.servicerules import headless
from portway.kube.objects import Object

_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"

Spec = dict[str, Any]


def service_warnings(service: Object) -> Iterator[str]:
    """Yields the warnings about a valid service."""
    spec: Spec = service.get("spec") or {}
    if _HINTS in (service["metadata"].get("annotations") or {}):
        yield f"annotation {_HINTS} is deprecated, please use {_MODE} instead"
    if not headless(spec):
        yield from _addresses(spec, "clusterIPs")
    yield from _ignored_without_address(spec)
    yield from _addresses(spec, "externalIPs")
    external_name = spec.get("type") == "ExternalName"
    if spec.get("externalIPs") and not headless(spec) and not external_name:
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("loadBalancerIP"):
        yield "spec.loadBalancerIP is deprecated since v1.24: use a load balancer's own annotations"
        yield from _address("spec.loadBalancerIP", spec["loadBalancerIP"])
    for field, cidr in common.each(spec.get("loadBalancerSourceRanges"), "spec.loadBalancerSourceRanges"):
        yield from _cidr(field, cidr.strip())
    if external_name and spec.get("externalIPs"):
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if not external_name and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _ignored_without_address(spec: Spec) -> Iterator[str]:
    if not headless(spec) or spec.get("type") != "ClusterIP":
        return
    for field in ("loadBalancerIP", "externalIPs"):
        if spec.get(field):
            yield f"spec.{field} is ignored for headless services"
    if spec.get("sessionAffinity") != "None":
        yield "spec.SessionAffinity is ignored for headless services"


def _addresses(spec: Spec, name: str) -> Iterator[str]:
    for field, text in common.each(spec.get(name), f"spec.{name}"):
        yield from _address(field, text)


def _address(field: str, text: str) -> Iterator[str]:
    address = common.address_of(text)
    if isinstance(address, ipaddress.IPv6Address) and str(address) != text:
        yield f'{field}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{address}")'


def _cidr(field: str, text: str) -> Iterator[str]:
    address = text.partition("/")[0]
    network, host = ipaddress.ip_network(text, strict=False), ipaddress.ip_address(address)
    if host != network.network_address:
        yield (
            f'{field}: CIDR value "{text}" is ambiguous in this context '
            f'(should be "{network}" or "{host}/{host.max_prefixlen}"?)'
        )
    elif host.version == 6 and text != str(network):
        yield f'{field}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{network}")'
