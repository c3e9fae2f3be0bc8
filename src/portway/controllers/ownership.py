"""Who owns whom: the objects of a cluster as a graph, from their metadata. Pure.

Owners are found by uid; an owner that nobody has seen is no node. What follows from the graph is `garbage`'s to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, NamedTuple

from portway.controllers.discovered import Resource
from portway.kube import objects

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


class Owner(NamedTuple):
    """An owner as a dependent names it; `blocks` is blockOwnerDeletion."""

    api_version: str
    kind: str
    name: str
    uid: str
    blocks: bool = False

    def __str__(self) -> str:
        return f"{self.api_version}/{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Node:
    """What the graph keeps of an object. `deleting` with `foreground`: it goes once its dependents are gone."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owners: tuple[Owner, ...]
    deleting: bool
    orphan: bool
    foreground: bool

    @property
    def path(self) -> str:
        """Where it is in the API."""
        return self.resource.path(self.namespace, self.name)

    @property
    def waits(self) -> bool:
        """Whether it is being deleted as soon as its dependents are gone."""
        return self.deleting and self.foreground

    @property
    def reference(self) -> dict[str, str]:
        """As an Event refers to it."""
        parts = {"apiVersion": self.resource.api_version, "kind": self.resource.kind, "namespace": self.namespace}
        return {**parts, "name": self.name, "uid": self.uid}

    def is_called(self, owner: Owner, namespace: str) -> bool:
        """Whether a dependent in `namespace` that names this uid calls it by its right kind, name and namespace."""
        group = owner.api_version.rpartition("/")[0]
        return (group, owner.kind, owner.name) == (
            self.resource.api_version.rpartition("/")[0],
            self.resource.kind,
            self.name,
        ) and self.namespace in ("", namespace)


def node_of(resource: Resource, obj: Mapping[str, Any]) -> Node:
    """The node of an object as the API shows it."""
    finalizers = (obj.get("metadata") or {}).get("finalizers") or ()
    return Node(
        resource,
        intern(objects.namespace(obj)),
        objects.name(obj),
        objects.uid(obj),
        owners_of(obj),
        objects.deleting(obj),
        ORPHAN in finalizers,
        FOREGROUND in finalizers,
    )


def owners_of(obj: Mapping[str, Any]) -> tuple[Owner, ...]:
    """The owners that an object names."""
    return tuple(
        Owner(
            intern(one["apiVersion"]), intern(one["kind"]), one["name"], one["uid"], bool(one.get("blockOwnerDeletion"))
        )
        for one in objects.owner_references(obj)
    )


class Graph:
    """The nodes by uid, and for each uid who names it as owner."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def get(self, uid: str) -> Node | None:
        """The node with a uid, None when none was seen."""
        return self._nodes.get(uid)

    def nodes(self) -> list[Node]:
        """All of them, as they are now."""
        return list(self._nodes.values())

    def put(self, node: Node) -> None:
        """Take in a node, or its new state."""
        self.drop(node.uid)
        self._nodes[node.uid] = node
        for owner in node.owners:
            self._dependents.setdefault(owner.uid, {})[node.uid] = None

    def drop(self, uid: str) -> None:
        """Forget a node, if it is known."""
        node = self._nodes.pop(uid, None)
        for owner in node.owners if node else ():
            others = self._dependents.get(owner.uid, {})
            others.pop(uid, None)
            if not others:
                self._dependents.pop(owner.uid, None)

    def dependents(self, uid: str) -> list[Node]:
        """Who names a uid as owner, whether or not it was ever seen."""
        return [self._nodes[one] for one in self._dependents.get(uid, ())]

    def blocking(self, uid: str) -> list[Node]:
        """The dependents that must be gone before an owner deleted in the foreground goes."""
        return [one for one in self.dependents(uid) if any(o.uid == uid and o.blocks for o in one.owners)]

    def waiting_owners(self, node: Node) -> list[Node]:
        """The owners of a node that wait for their dependents to be gone."""
        found = (self._nodes.get(owner.uid) for owner in node.owners)
        return [owner for owner in found if owner is not None and owner.waits]

    def all_solid(self, node: Node) -> bool:
        """Whether every owner that a node names was seen where it says, and waits for nobody."""
        return all(
            (seen := self._nodes.get(owner.uid)) is not None
            and seen.is_called(owner, node.namespace)
            and not seen.waits
            for owner in node.owners
        )
