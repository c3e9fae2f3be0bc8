"""Ingresses as one who serves them reads them: which are ours, whose a host is, and what of them is not served. Pure.

Both who serves them (`gateway.ingresses`) and who reports on them (`controllers.ingresses`) ask `plan`, so that what is
reported is what is served. Source: networking.k8s.io/v1 (IngressSpec, IngressClass), as facts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from portway.kube.ingresshosts import IngressHosts
from portway.kube.objects import Object

CONTROLLER: Final = "portway.dev/door"
"""`spec.controller` of the IngressClasses that the door serves."""
CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
DEFAULT_ANNOTATION: Final = "ingressclass.kubernetes.io/is-default-class"

Key = tuple[str, str]
"""(namespace, name)"""


@dataclass(frozen=True, slots=True)
class IngressPath:
    """One path of one rule. `path` is as written; it has to be the request's (`exact`), or in front of it."""

    host: str
    path: str
    exact: bool
    service: str
    port: str
    """Its number or its name."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """An Ingress, without its status."""

    namespace: str
    name: str
    created: str
    class_name: str | None
    """What its annotation says, else the field; None where it names no class."""
    hosts: tuple[str, ...]
    """Of its rules. "" is all that no Ingress names: the host of a rule without one, and of a default backend alone."""
    paths: tuple[IngressPath, ...]
    defaults: tuple[IngressPath, ...]
    """Its default backend, as the path "/" of each of its hosts."""
    unserved: tuple[str, ...]
    """What it asks for that the door doesn't do."""

    @property
    def key(self) -> Key:
        """Its namespace and name."""
        return self.namespace, self.name

    @property
    def age(self) -> tuple[str, str, str]:
        """What orders Ingresses by age, each at its own place."""
        return self.created, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class IngressClass:
    """An IngressClass, as far as it says who serves it."""

    name: str
    created: str
    ours: bool
    default: bool


class Plan(NamedTuple):
    """What follows from all of them."""

    ours: frozenset[Key]
    """The Ingresses of our classes."""
    served: tuple[tuple[Ingress, IngressPath], ...]
    """Which paths are served; of two alike the first counts. Default backends are last, behind any Ingress's "/"."""
    hosts: frozenset[str]
    """Which hosts are an Ingress's, maybe without any path; "" is all that no other one is."""
    problems: dict[Key, tuple[str, ...]]
    """What of our Ingresses is not served, and why."""


def ingress(obj: Object) -> Ingress:
    """Reads a networking.k8s.io/v1 Ingress."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    rules, default = spec.get("rules") or (), spec.get("defaultBackend") or {}
    hosts = tuple(dict.fromkeys(rule.get("host") or "" for rule in rules))
    if "service" in default and not rules:
        hosts = ("",)
    return Ingress(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        created=metadata.get("creationTimestamp") or "",
        class_name=(metadata.get("annotations") or {}).get(CLASS_ANNOTATION) or spec.get("ingressClassName"),
        hosts=hosts,
        paths=tuple(path for rule in rules for path in _paths(rule)),
        defaults=tuple(path for host in hosts for path in _path(host, {"backend": default})),
        unserved=tuple(dict.fromkeys(_unserved(spec))),
    )


def _paths(rule: dict[str, Any]) -> Iterator[IngressPath]:
    for path in (rule.get("http") or {}).get("paths") or ():
        yield from _path(rule.get("host") or "", path)


def _path(host: str, path: dict[str, Any]) -> Iterator[IngressPath]:
    """An HTTPIngressPath, unless its backend is no service."""
    service = (path.get("backend") or {}).get("service")
    if service:
        port = service.get("port") or {}
        yield IngressPath(
            host=host,
            path=path.get("path") or "/",
            exact=path.get("pathType") == "Exact",
            service=service.get("name") or "",
            port=port.get("name") or str(port.get("number") or ""),
        )


def _unserved(spec: dict[str, Any]) -> Iterator[str]:
    if "resource" in (spec.get("defaultBackend") or {}):
        yield "spec.defaultBackend is not served: backends are services here, no other resources"
    for rule in spec.get("rules") or ():
        for path in (rule.get("http") or {}).get("paths") or ():
            if "resource" in (path.get("backend") or {}):
                yield f'path "{path.get("path", "")}" is not served: backends are services here, no other resources'
    if any(one.get("secretName") for one in spec.get("tls") or ()):
        yield "spec.tls is not used: the door shows its own certificate"


def ingress_class(obj: Object) -> IngressClass:
    """Reads a networking.k8s.io/v1 IngressClass."""
    metadata = obj["metadata"]
    return IngressClass(
        name=metadata["name"],
        created=metadata.get("creationTimestamp") or "",
        ours=(obj.get("spec") or {}).get("controller") == CONTROLLER,
        default=(metadata.get("annotations") or {}).get(DEFAULT_ANNOTATION) == "true",
    )


def default_class(classes: Iterable[IngressClass]) -> IngressClass | None:
    """That of Ingresses that name none: of several that are marked, the newest (upstream's DefaultIngressClass)."""
    marked = [found for found in classes if found.default]
    newest = max((found.created for found in marked), default="")
    return min((found for found in marked if found.created == newest), key=lambda found: found.name, default=None)


def plan(ingresses: Iterable[Ingress], classes: Iterable[IngressClass], allowed: IngressHosts) -> Plan:
    """What is to be served of all Ingresses.

    A host is of the namespace whose Ingress was the first to name it, or the wildcard that it falls under: what is
    served at one host is one origin to a browser, and namespaces don't trust each other. So is what no Ingress names,
    but that keeps nobody from naming a host of it.
    """
    known = list(classes)
    mine = sorted((one for one in ingresses if _is_ours(one, known)), key=lambda one: one.age)
    claims: dict[str, Ingress] = {}
    for one in mine:
        for host in one.hosts:
            if not allowed.problem(host):
                claims.setdefault(host, one)
    problems: dict[Key, tuple[str, ...]] = {}
    served: list[tuple[Ingress, IngressPath]] = []
    defaults: list[tuple[Ingress, IngressPath]] = []
    hosts: set[str] = set()
    for one in mine:
        wrong = {host: text for host in one.hosts if (text := _wrong(one, host, claims, allowed))}
        hosts.update(host for host in one.hosts if host not in wrong)
        served += [(one, path) for path in one.paths if path.host not in wrong]
        defaults += [(one, path) for path in one.defaults if path.host not in wrong]
        if texts := (*(f"{text}: {_parts(one)} not served" for text in wrong.values()), *one.unserved):
            problems[one.key] = texts
    return Plan(frozenset(one.key for one in mine), (*served, *defaults), frozenset(hosts), problems)


def _parts(one: Ingress) -> str:
    """What isn't served of it at a host that it may not have."""
    if not one.defaults:
        return "its paths are"
    return "its paths and default backend are" if one.paths else "its default backend is"


def _is_ours(one: Ingress, classes: list[IngressClass]) -> bool:
    if one.class_name is not None:
        return any(found.ours for found in classes if found.name == one.class_name)
    chosen = default_class(classes)
    return chosen is not None and chosen.ours


def _wrong(one: Ingress, host: str, claims: dict[str, Ingress], allowed: IngressHosts) -> str:
    if problem := allowed.problem(host):
        return problem
    wildcard = claims.get(f"*.{host.partition('.')[2]}")
    first = min((claim for claim in (claims[host], wildcard) if claim is not None), key=lambda claim: claim.age)
    if first.namespace == one.namespace:
        return ""
    named = f'"{host}"' if host else "what no rule names"
    return f"{named} belongs to another namespace's older Ingress"
