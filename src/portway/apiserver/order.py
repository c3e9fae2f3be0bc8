"""The order of a list after a strategic merge with `$setElementOrder`. Pure.

What the patch's author knows comes in the order that the directive gives; what only the server knows keeps its order
and, as far as that allows, its place. Follows upstream's strategicpatch package.
"""

from __future__ import annotations

from typing import Any


def in_given_order(merged: list[Any], original: list[Any], order: list[Any], key: str) -> list[Any]:
    """Returns the elements of `merged` as `order` orders them (by `key`; plain values if `key` is "").

    `original` is the list before the merge: it orders the elements that `order` does not name.
    """
    wanted = [_identity(element, key) for element in order]
    before = [_identity(element, key) for element in original]
    ours = [element for element in merged if _identity(element, key) in wanted]
    others = [element for element in merged if _identity(element, key) not in wanted]
    ours.sort(key=lambda element: wanted.index(_identity(element, key)))
    return _interleave(others, ours, before, key)


def _interleave(others: list[Any], ours: list[Any], before: list[Any], key: str) -> list[Any]:
    """Puts each of `others` before the first of `ours`, from the last insertion on, that used to come after it."""
    result, start = list(ours), 0
    for element in others:
        place = len(result)
        was = _position(element, before, key)
        for i in range(start, len(result)):
            if was < _position(result[i], before, key) < len(before):
                place = i
                break
        result.insert(place, element)
        start = place + 1
    return result


def _position(element: Any, before: list[Any], key: str) -> int:
    """The place in the original list; the list's length for what was not there."""
    identity = _identity(element, key)
    return before.index(identity) if identity in before else len(before)


def _identity(element: Any, key: str) -> Any:
    return element.get(key) if key and isinstance(element, dict) else element
