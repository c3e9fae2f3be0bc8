"""Strategic merge patch: Kubernetes' merge in which lists of objects merge by a key. Pure, inputs untouched.

The kind's `MergeInfo` (its patchStrategy and patchMergeKey) says for each field how it merges; `lookup(path)` gives it
for a path of field names without list indexes, ("spec", "containers", "env"); None means: a list is replaced, an object
merges. Directives in the patch:

    $patch: replace | delete | merge            in an object: it replaces, empties or merges what is there;
                                                in an element of a list: delete removes the element with that key,
                                                replace makes the other elements the whole list
    $retainKeys: [k, …]                         only these keys of the object stay
    $deleteFromPrimitiveList/<field>: [v, …]    these values leave the list
    $setElementOrder/<field>: [v, …]            the order of the merged list

Behaviour follows upstream's strategicpatch package, errors included (MalformedPatchError is answered with 400).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from portway.apiserver.kinds.base import MergeInfo
from portway.apiserver.order import identity, in_given_order
from portway.apiserver.patch import MAX_DEPTH, MalformedPatchError, PatchDoesNotApplyError

Lookup = Callable[[tuple[str, ...]], MergeInfo | None]

_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_PLAIN = MergeInfo(replace=True)


def strategic_merge(document: dict[str, Any], patch: dict[str, Any], lookup: Lookup) -> dict[str, Any]:
    """Returns `document` as `patch` changes it; raises MalformedPatchError or PatchDoesNotApplyError."""
    return _merge_object(document, patch, (), lookup)


def _merge_object(
    original: dict[str, Any], patch: dict[str, Any], path: tuple[str, ...], lookup: Lookup
) -> dict[str, Any]:
    if len(path) > MAX_DEPTH:
        raise MalformedPatchError("the patch is nested too deeply")
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: _plain(value) for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise MalformedPatchError(f"unknown patch type found: {directive}")
    merged = _retained(original, patch)
    ordered = _merge_ordered(merged, patch, path, lookup)
    for name, value in patch.items():
        if name in ("$patch", "$retainKeys") or name in ordered or name.startswith(_ORDER):
            continue
        if name.startswith(_DELETE_FROM):
            _delete_values(merged, name.removeprefix(_DELETE_FROM), value)
        elif value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge_value(merged.get(name), value, (*path, name), lookup)
    return merged


def _retained(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy of `original`, without the keys that `$retainKeys` does not name."""
    if "$retainKeys" not in patch:
        return dict(original)
    kept = patch["$retainKeys"]
    changed = {name for name, value in patch.items() if not name.startswith("$") and value is not None}
    if not isinstance(kept, list) or not changed <= {name for name in kept if isinstance(name, str)}:
        raise MalformedPatchError("invalid patch format of retainKeys")
    retained = set(map(identity, kept))
    return {name: value for name, value in original.items() if name in retained}


def _merge_value(original: Any, patch: Any, path: tuple[str, ...], lookup: Lookup) -> Any:
    info = lookup(path)
    if isinstance(patch, dict) and isinstance(original, dict):
        return _plain(patch) if info and info.replace else _merge_object(original, patch, path, lookup)
    if isinstance(patch, list) and isinstance(original, list):
        return _merge_list(original, patch, info or _PLAIN, path, lookup)
    return _plain(patch)


def _merge_list(
    original: list[Any], patch: list[Any], info: MergeInfo, path: tuple[str, ...], lookup: Lookup
) -> list[Any]:
    if info.replace or not (original or patch):
        return _plain_list(patch)
    if not info.key:
        return _union(original, patch)
    elements = [*original, *patch]
    if not all(isinstance(element, dict) for element in elements):
        raise PatchDoesNotApplyError(f"{'.'.join(path)} is a list of objects")
    return _merge_elements(original, patch, info.key, path, lookup)


def _merge_elements(
    original: list[Any], patch: list[Any], key: str, path: tuple[str, ...], lookup: Lookup
) -> list[Any]:
    """Merges two lists of objects by `key`: what is new is appended."""
    plain = [element for element in patch if "$patch" not in element]
    if any(element.get("$patch") == "replace" for element in patch):
        return _plain_list(plain)
    deleted = set()
    for element in patch:
        directive = element.get("$patch")
        if directive is None:
            continue
        if directive != "delete":
            raise MalformedPatchError(f"unknown patch type found: {directive}")
        deleted.add(identity(_key_of(element, key)))
    merged = [known for known in original if identity(known.get(key)) not in deleted]
    places: dict[Hashable, int] = {}
    for i, known in enumerate(merged):
        places.setdefault(identity(known.get(key)), i)
    for element in plain:
        place = places.setdefault(identity(_key_of(element, key)), len(merged))
        if place == len(merged):
            merged.append(_plain(element))
        else:
            merged[place] = _merge_object(merged[place], element, path, lookup)
    return merged


def _merge_ordered(merged: dict[str, Any], patch: dict[str, Any], path: tuple[str, ...], lookup: Lookup) -> set[str]:
    """Merges and orders, in `merged`, the lists that have a `$setElementOrder`; returns their names."""
    done: set[str] = set()
    for directive, order in patch.items():
        if not directive.startswith(_ORDER):
            continue
        name = directive.removeprefix(_ORDER)
        original, change = merged.get(name), patch.get(name)
        if not isinstance(order, list) or not isinstance(original or [], list) or not isinstance(change or [], list):
            raise MalformedPatchError(f"{directive} orders a list")
        if original is None and change is None:
            continue
        info = lookup((*path, name)) or _PLAIN
        _check_order(change or [], order, info.key)
        values = _merge_list(original or [], change, info, (*path, name), lookup) if change is not None else original
        merged[name] = in_given_order(values or [], original or [], order, info.key)
        done.add(name)
    return done


def _check_order(change: list[Any], order: list[Any], key: str) -> None:
    """Refuses a list in which something is patched whose place `$setElementOrder` doesn't say."""
    known = {identity(_key_of(element, key) if key else element) for element in order}
    for element in change:
        if key and isinstance(element, dict) and "$patch" in element:
            continue
        if identity(_key_of(element, key) if key else element) not in known:
            raise MalformedPatchError("the order in patch list doesn't match $setElementOrder list")


def _key_of(element: Any, key: str) -> Any:
    if not isinstance(element, dict) or key not in element:
        raise PatchDoesNotApplyError(f"map: {element} does not contain declared merge key: {key}")
    return element[key]


def _delete_values(merged: dict[str, Any], name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise MalformedPatchError("invalid patch format of primitive list")
    known = merged.get(name)
    if isinstance(known, list):
        deleted = set(map(identity, values))
        merged[name] = [value for value in known if identity(value) not in deleted]


def _union(original: list[Any], patch: list[Any]) -> list[Any]:
    """The values of both, each once, in order of appearance."""
    merged: dict[Hashable, Any] = {}
    for value in [*original, *_plain_list(patch)]:
        merged.setdefault(identity(value), value)
    return list(merged.values())


def _plain(value: Any, depth: int = 0) -> Any:
    """Returns what a patch's value is where there is nothing to merge with: without directives, nulls in objects."""
    if depth > MAX_DEPTH:
        raise MalformedPatchError("the patch is nested too deeply")
    if isinstance(value, list):
        return _plain_list(value, depth)
    if not isinstance(value, dict):
        return value
    return {
        name: _plain(inner, depth + 1)
        for name, inner in value.items()
        if inner is not None and not name.startswith(("$patch", "$retainKeys", _DELETE_FROM, _ORDER))
    }


def _plain_list(values: list[Any], depth: int = 0) -> list[Any]:
    return [
        _plain(value, depth + 1)
        for value in values
        if not (isinstance(value, dict) and value.get("$patch") == "delete")
    ]
