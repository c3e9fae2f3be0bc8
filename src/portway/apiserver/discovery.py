"""What the API offers: /api, /apis and the resource lists, aggregated (KEP-3352) and plain. Pure.

Built once from the kinds and the virtual resources. Source: k8s.io/apiserver/pkg/endpoints/discovery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from portway.apiserver.http import JSON, Request, Response
from portway.apiserver.kinds.base import Kind, VirtualResource
from portway.apiserver.routing import VirtualKey
from portway.kube.errors import no_route

AGGREGATED = f"{JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_ORDER = (
    "",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "networking.k8s.io",
    "rbac.authorization.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
)
"""Groups in upstream's order of priority; others come behind, by name."""

Resource = dict[str, Any]
GroupVersion = tuple[str, str]


class Discovery:
    """The documents, ready to be sent."""

    def __init__(
        self, kinds: Sequence[Kind], virtual: Mapping[VirtualKey, VirtualResource], advertise_address: str
    ) -> None:
        self._resources = _resources(kinds, virtual)
        versions = sorted(self._resources, key=lambda gv: (_rank(gv[0]), gv))
        self._core = [gv for gv in versions if not gv[0]]
        self._groups = [gv for gv in versions if gv[0]]
        self._address = advertise_address
        self._aggregated = {
            "/api": _document(_aggregated(self._core, self._resources)),
            "/apis": _document(_aggregated(self._groups, self._resources)),
        }

    def group_versions(self) -> list[GroupVersion]:
        """Returns every (group, version), the core group first."""
        return [*self._core, *self._groups]

    def answer(self, path: str, request: Request) -> Response:
        """Answers a discovery path (without a slash at its end); raises NotFound."""
        if path in self._aggregated and _wants_aggregated(request.headers(b"accept")):
            body, etag = self._aggregated[path]
            return _cached(body, etag, request)
        value = self._plain(path)
        return Response(200, orjson.dumps(value) + b"\n")

    def _plain(self, path: str) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["api"]:
                return {"kind": "APIVersions", "versions": [v for _, v in self._core], **self._addresses()}
            case ["apis"]:
                groups = [_group(name, self._groups) for name in dict.fromkeys(g for g, _ in self._groups)]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ["api", version] if ("", version) in self._resources:
                return self._list("", version)
            case ["apis", group] if any(group == known for known, _ in self._groups):
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, self._groups)}
            case ["apis", group, version] if group and (group, version) in self._resources:
                return self._list(group, version)
        raise no_route()

    def _addresses(self) -> dict[str, Any]:
        return {"serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]}

    def _list(self, group: str, version: str) -> dict[str, Any]:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": self._resources[group, version],
        }


def _rank(group: str) -> int:
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _resources(
    kinds: Iterable[Kind], virtual: Mapping[VirtualKey, VirtualResource]
) -> dict[GroupVersion, list[Resource]]:
    """The APIResources of each group version, by name."""
    found: dict[GroupVersion, list[Resource]] = {}
    for kind in kinds:
        found.setdefault((kind.group, kind.version), []).extend(_of_kind(kind))
    for (group, version, plural, subresource), resource in virtual.items():
        name = f"{plural}/{subresource}" if subresource else plural
        entry: Resource = {
            "name": name,
            "singularName": "" if subresource else resource.singular,
            "namespaced": resource.namespaced,
        }
        if (resource.group, resource.version) != (group, version):
            entry |= {"group": resource.group, "version": resource.version}
        entry |= {"kind": resource.kind, "verbs": sorted(resource.verbs)}
        listed = found.setdefault((group, version), [])
        listed[:] = [*(other for other in listed if other["name"] != name), entry]
    return {gv: sorted(listed, key=lambda entry: str(entry["name"])) for gv, listed in found.items()}


def _of_kind(kind: Kind) -> list[Resource]:
    entry: Resource = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": sorted(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    found = [entry]
    found += [_subresource(kind, name, kind.kind, ("get", "patch", "update")) for name in kind.written]
    for name, shown, group, version, verbs in kind.subresources:
        sub = _subresource(kind, name, shown, verbs)
        if group or version:
            sub = {**sub, "group": group, "version": version}
        found.append(sub)
    return found


def _subresource(kind: Kind, name: str, shown: str, verbs: Sequence[str]) -> Resource:
    return {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": shown,
        "verbs": sorted(verbs),
    }


def _group(name: str, versions: Iterable[GroupVersion]) -> dict[str, Any]:
    listed = [
        {"groupVersion": f"{group}/{version}", "version": version} for group, version in versions if group == name
    ]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _aggregated(versions: Iterable[GroupVersion], resources: Mapping[GroupVersion, list[Resource]]) -> dict[str, Any]:
    items: dict[str, dict[str, Any]] = {}
    for group, version in versions:
        item = items.setdefault(group, {"metadata": {"name": group} if group else {}, "versions": []})
        item["versions"].append(
            {
                "version": version,
                "resources": _nested(group, version, resources[group, version]),
                "freshness": "Current",
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": list(items.values()),
    }


def _nested(group: str, version: str, resources: Iterable[Resource]) -> list[Resource]:
    """Flat APIResources → APIResourceDiscovery, subresources within their parents."""
    found: dict[str, Resource] = {}
    for entry in resources:
        name, _, subresource = entry["name"].partition("/")
        shown = {
            "group": entry.get("group", group),
            "version": entry.get("version", version),
            "kind": entry["kind"],
        }
        if subresource:
            parent = found.setdefault(name, {"resource": name, "scope": "Namespaced", "verbs": []})
            parent.setdefault("subresources", []).append(
                {"subresource": subresource, "responseKind": shown, "verbs": entry["verbs"]}
            )
            continue
        found[name] = {
            "resource": name,
            "responseKind": shown,
            "scope": "Namespaced" if entry["namespaced"] else "Cluster",
            "singularResource": entry["singularName"],
            "verbs": entry["verbs"],
            **{key: entry[key] for key in ("shortNames", "categories") if key in entry},
        }
    return list(found.values())


def _document(value: dict[str, Any]) -> tuple[bytes, str]:
    body = orjson.dumps(value) + b"\n"
    return body, f'"{hashlib.sha256(body).hexdigest().upper()}"'


def _wants_aggregated(accept: str) -> bool:
    """Whether the first of the Accept header's ranges that can be met is the aggregated form."""
    for clause in accept.split(","):
        parts = {part.strip() for part in clause.split(";")}
        if {"g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList", JSON} <= parts:
            return True
        if len(parts) == 1 and parts & {JSON, "*/*", "application/*"}:
            return False
    return False


def _cached(body: bytes, etag: str, request: Request) -> Response:
    headers = [
        (b"etag", etag.encode()),
        (b"vary", b"Accept"),
        (b"cache-control", b"public"),
    ]
    if etag in request.headers(b"if-none-match"):
        return Response(304, b"", AGGREGATED, headers)
    return Response(200, body, AGGREGATED, headers)
