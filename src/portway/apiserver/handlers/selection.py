"""Which entries of a kind a list, watch or deletecollection is about: namespace, name, label and field selectors."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import orjson

from portway.apiserver.entries import Change, Entry
from portway.apiserver.kinds.base import Kind
from portway.apiserver.options import ListOptions
from portway.apiserver.routing import Route
from portway.kube.errors import BadRequest

_GENERIC = ("metadata.name", "metadata.namespace")


class Selection:
    """A predicate on entries. Raises BadRequest for a field that the kind can't be selected by."""

    def __init__(self, route: Route, options: ListOptions) -> None:
        self.kind = route.kind
        self.prefix = f"{self.kind.prefix}{route.namespace}/" if route.namespace else self.kind.prefix
        self._labels = options.labels
        self._fields = options.fields
        self._name = route.name
        self._own_fields = False
        for field, _, _ in options.fields.requirements:
            _check_field(self.kind, field)
            self._own_fields |= field not in _GENERIC
        self._traces = tuple(_traces(options))
        self.scope = self._scope(route)
        """Where the changes are that can be of interest: a prefix of keys, or one key (see `Shelf.feed`)."""
        self.identity: Hashable = (self.kind.group, self.prefix, self._name, self._labels, self._fields)
        """What selections of the same kind that select the same have in common."""
        self.everything = not (options.labels.requirements or options.fields.requirements or route.name)

    def _scope(self, route: Route) -> str:
        namespace = route.namespace or self._fields.exact("metadata.namespace") or ""
        name = self._name or self._fields.exact("metadata.name") or ""
        if not self.kind.namespaced:
            return self.kind.key("", name) if name else self.kind.prefix
        if namespace:
            return self.kind.key(namespace, name)
        return self.kind.prefix

    def matches(self, entry: Entry) -> bool:
        """Says whether an entry under the prefix is selected."""
        if self.everything:
            return True
        if self._name and entry.name != self._name:
            return False
        if not all(map(entry.mentions, self._traces)):
            return False
        if self._labels.requirements and not self._labels.matches(entry.obj["metadata"].get("labels") or {}):
            return False
        if not self._fields.requirements:
            return True
        fields = {"metadata.name": entry.name, "metadata.namespace": entry.namespace}
        if self._own_fields:
            fields |= self.kind.selectable_fields(entry.view(self.kind))
        return self._fields.matches(fields)

    def type_of(self, change: Change) -> str:
        """Returns what a change is to a watcher of this selection: ADDED, MODIFIED, DELETED, or "" for nothing."""
        if not change.entry.key.startswith(self.prefix):
            return ""
        if self.everything:
            return change.type
        now = change.type != "DELETED" and self.matches(change.entry)
        before = change.previous is not None and self.matches(change.previous)
        if now:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else ""


def _traces(options: ListOptions) -> Iterator[bytes]:
    """What stands in the JSON of everything selected: most of what isn't selected then need not be decoded.

    A field's value does stand there as a string, whatever the kind, but for truth values, numbers and joined lists.
    """
    for requirement in options.labels.requirements:
        if requirement.operator in ("=", "==", "in") and len(requirement.values) == 1:
            yield b"%b:%b" % (orjson.dumps(requirement.key), orjson.dumps(requirement.values[0]))
    for _, op, value in options.fields.requirements:
        if op == "=" and value not in ("", "true", "false") and not value.isdecimal() and "," not in value:
            yield orjson.dumps(value)


def _check_field(kind: Kind, field: str) -> None:
    if field in _GENERIC or field in kind.selectable:
        return
    if kind.selectable:
        raise BadRequest(f"field label not supported: {field}")
    raise BadRequest(f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"')
