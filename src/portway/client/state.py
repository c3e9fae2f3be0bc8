"""The door's picture of the cluster: records by kind, endpoints by service, RBAC; and who wants to hear of changes.

Pure bookkeeping, one thread, no I/O: `view` fills it from informers, tests fill it with `apply`. Every event costs what
the object itself costs, never what the cluster costs: slices are merged per service, and only when somebody asks.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from portway.client import decode
from portway.client.records import Endpoint, EndpointMap, Node, Pod, Service, ServiceAccount
from portway.kube.ingresses import Ingress, IngressClass, ingress, ingress_class
from portway.kube.objects import Object
from portway.kube.rbac import RBAC

Subscriber = Callable[[str, str, str], None]
"""Called with (kind's plural, namespace, name) after a change; for `endpointslices` the name is the service's."""

RBAC_KINDS = {
    "roles": "Role",
    "rolebindings": "RoleBinding",
    "clusterroles": "ClusterRole",
    "clusterrolebindings": "ClusterRoleBinding",
}

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Table(Generic[T]):
    """Records by namespace and name. Nested, since a (namespace, name) key per record would cost 56 bytes more."""

    __slots__ = ("_namespaces",)

    def __init__(self) -> None:
        self._namespaces: dict[str, dict[str, T]] = {}

    def get(self, namespace: str, name: str) -> T | None:
        records = self._namespaces.get(namespace)
        return None if records is None else records.get(name)

    def put(self, namespace: str, name: str, record: T) -> None:
        self._namespaces.setdefault(namespace, {})[name] = record

    def remove(self, namespace: str, name: str) -> T | None:
        records = self._namespaces.get(namespace, {})
        removed = records.pop(name, None)
        if not records:
            self._namespaces.pop(namespace, None)
        return removed

    def keys(self) -> list[tuple[str, str]]:
        return [(namespace, name) for namespace, records in self._namespaces.items() for name in records]

    def values(self) -> Iterator[T]:
        return chain.from_iterable(records.values() for records in self._namespaces.values())


class _Slices:
    """The slices of one service and, made on demand, their endpoints in one map."""

    __slots__ = ("merged", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, EndpointMap] = {}
        self.merged: EndpointMap | None = None

    def endpoints(self) -> EndpointMap:
        if self.merged is None:
            only_one = next(iter(self.parts.values())) if len(self.parts) == 1 else None
            self.merged = MappingProxyType(only_one or _merge(self.parts.values()))
        return self.merged


def _merge(parts: Iterable[EndpointMap]) -> dict[str, tuple[Endpoint, ...]]:
    """All slices of a service in one map. An address in two slices counts once: it is being moved (API's own words)."""
    merged: dict[str, dict[tuple[str, int], Endpoint]] = {}
    for part in parts:
        for port, endpoints in part.items():
            into = merged.setdefault(port, {})
            for endpoint in endpoints:
                key = endpoint.address, endpoint.port
                if key not in into or (endpoint.ready and not into[key].ready):
                    into[key] = endpoint
    return {port: tuple(entries.values()) for port, entries in merged.items()}


class ClusterState:
    """What is known of the cluster now. Records are immutable: hold one and it stays as it was.

    `apply` changes it, everything else reads it. Not thread-safe: it lives on one event loop.
    """

    def __init__(self) -> None:
        self.rbac = RBAC()
        self._services: Table[Service] = Table()
        self._pods: Table[Pod] = Table()
        self._nodes: Table[Node] = Table()
        self._service_accounts: Table[ServiceAccount] = Table()
        self._ingresses: Table[Ingress] = Table()
        self._ingress_classes: Table[IngressClass] = Table()
        self._namespaces: dict[str, str] = {}
        self._slice_service: Table[str] = Table()
        self._slices: Table[_Slices] = Table()
        self._rbac_keys: dict[str, set[tuple[str, str]]] = {plural: set() for plural in RBAC_KINDS}
        self._subscribers: list[Subscriber] = []

    # Reading

    def service(self, namespace: str, name: str) -> Service | None:
        return self._services.get(namespace, name)

    def services(self) -> Iterator[Service]:
        """All services, in no particular order. Don't hold the iterator across an `await`."""
        return self._services.values()

    def endpoints(self, namespace: str, service: str) -> EndpointMap | None:
        """The service's endpoints by port name, over all its slices; None when it has no slice at all.

        The same mapping object is returned until one of the slices changes.
        """
        slices = self._slices.get(namespace, service)
        return None if slices is None else slices.endpoints()

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self._pods.get(namespace, name)

    def node(self, name: str) -> Node | None:
        return self._nodes.get("", name)

    def nodes(self) -> Iterator[Node]:
        return self._nodes.values()

    def service_account(self, namespace: str, name: str) -> ServiceAccount | None:
        return self._service_accounts.get(namespace, name)

    def service_account_uid(self, namespace: str, name: str) -> str | None:
        account = self._service_accounts.get(namespace, name)
        return None if account is None else account.uid

    def ingresses(self) -> Iterator[Ingress]:
        """All ingresses, as `services`."""
        return self._ingresses.values()

    def ingress_classes(self) -> Iterator[IngressClass]:
        return self._ingress_classes.values()

    @property
    def namespaces(self) -> Mapping[str, str]:
        """uid by name of every namespace."""
        return MappingProxyType(self._namespaces)

    # Changing

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback(plural, namespace, name)` right after each change. Returns what ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def apply(self, plural: str, event: str, obj: Object) -> None:
        """Take in one event.

        `plural`: services, endpointslices, pods, nodes, namespaces, serviceaccounts, ingresses, ingressclasses, roles,
        rolebindings, clusterroles or clusterrolebindings (else ValueError). `event`: ADDED, MODIFIED or DELETED; the
        first two mean "is now so". For DELETED the metadata is enough. An event that changes nothing the records keep
        tells nobody.
        """
        deleted = event == "DELETED"
        if plural == "endpointslices":
            self._apply_slice(obj, deleted)
        elif plural in RBAC_KINDS:
            self._apply_rbac(plural, obj, deleted)
        elif plural == "services":
            self._apply_record(self._services, plural, obj, None if deleted else decode.service(obj))
        elif plural == "pods":
            self._apply_record(self._pods, plural, obj, None if deleted else decode.pod(obj))
        elif plural == "nodes":
            self._apply_record(self._nodes, plural, obj, None if deleted else decode.node(obj))
        elif plural == "serviceaccounts":
            self._apply_record(self._service_accounts, plural, obj, None if deleted else decode.service_account(obj))
        elif plural == "ingresses":
            self._apply_record(self._ingresses, plural, obj, None if deleted else ingress(obj))
        elif plural == "ingressclasses":
            self._apply_record(self._ingress_classes, plural, obj, None if deleted else ingress_class(obj))
        elif plural == "namespaces":
            self._apply_namespace(obj, deleted)
        else:
            raise ValueError(f"the view does not follow {plural}")

    def keys(self, plural: str) -> list[tuple[str, str]]:
        """(namespace, name) of every object of a kind: what a relist compares with."""
        if plural in RBAC_KINDS:
            return list(self._rbac_keys[plural])
        if plural == "namespaces":
            return [("", name) for name in self._namespaces]
        tables: dict[str, Table[Any]] = {
            "services": self._services,
            "endpointslices": self._slice_service,
            "pods": self._pods,
            "nodes": self._nodes,
            "serviceaccounts": self._service_accounts,
            "ingresses": self._ingresses,
            "ingressclasses": self._ingress_classes,
        }
        return tables[plural].keys()

    def slice_names(self, namespace: str, service: str) -> list[str]:
        """Names of the slices of one service."""
        slices = self._slices.get(namespace, service)
        return [] if slices is None else list(slices.parts)

    def _apply_record(self, table: Table[T], plural: str, obj: Object, record: T | None) -> None:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        old = table.get(namespace, name)
        if record == old:
            return
        if record is None:
            table.remove(namespace, name)
        else:
            # The record's own strings are the keys, so that nothing is kept twice.
            table.put(getattr(record, "namespace", ""), getattr(record, "name", name), record)
        self._tell(plural, namespace, name)

    def _apply_namespace(self, obj: Object, deleted: bool) -> None:
        name, uid = obj["metadata"]["name"], obj["metadata"].get("uid", "")
        if deleted:
            changed = self._namespaces.pop(name, None) is not None
        else:
            changed = self._namespaces.get(name) != uid
            self._namespaces[name] = uid
        if changed:
            self._tell("namespaces", "", name)

    def _apply_rbac(self, plural: str, obj: Object, deleted: bool) -> None:
        metadata = obj["metadata"]
        key = namespace, name = metadata.get("namespace", ""), metadata["name"]
        before = self.rbac.generation
        self.rbac.set(RBAC_KINDS[plural], namespace, name, None if deleted else obj)
        (self._rbac_keys[plural].discard if deleted else self._rbac_keys[plural].add)(key)
        if self.rbac.generation != before:
            self._tell(plural, namespace, name)

    def _apply_slice(self, obj: Object, deleted: bool) -> None:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        before = self._slice_service.get(namespace, name)
        after = "" if deleted else decode.slice_service(obj)
        if before is not None and before != after:
            self._drop_slice(namespace, name, before)
        if after:
            self._put_slice(namespace, name, after, decode.slice_endpoints(obj, self.pod))

    def _put_slice(self, namespace: str, name: str, service: str, part: EndpointMap) -> None:
        slices = self._slices.get(namespace, service)
        if slices is None:
            known = self._services.get(namespace, service)
            service = service if known is None else known.name
            slices = _Slices()
            self._slices.put(namespace, service, slices)
        if slices.parts.get(name) == part:
            return
        slices.parts[name] = part
        slices.merged = None
        self._slice_service.put(namespace, name, service)
        self._tell("endpointslices", namespace, service)

    def _drop_slice(self, namespace: str, name: str, service: str) -> None:
        self._slice_service.remove(namespace, name)
        slices = self._slices.get(namespace, service)
        if slices is None:
            return
        slices.parts.pop(name, None)
        slices.merged = None
        if not slices.parts:
            self._slices.remove(namespace, service)
        self._tell("endpointslices", namespace, service)

    def _tell(self, plural: str, namespace: str, name: str) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(plural, namespace, name)
            except Exception:
                # The state is already right; one listener's bug must not keep the news from the others.
                logger.exception("a subscriber failed on %s %s/%s", plural, namespace, name)
