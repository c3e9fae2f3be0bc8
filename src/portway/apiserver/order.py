"""The order of a list after a strategic merge with `$setElementOrder`. Pure.

What the patch's author knows comes in the order that the directive gives; what only the server knows keeps its order
and, as far as that allows, its place. Follows upstream's strategicpatch package.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from math import inf
from typing import Any

import orjson


def in_given_order(merged: list[Any], original: list[Any], order: list[Any], key: str) -> list[Any]:
    """Returns the elements of `merged` as `order` orders them (by `key`; plain values if `key` is "").

    `original` is the list before the merge: it orders the elements that `order` does not name.
    """
    wanted, before = _places(order, key), _places(original, key)
    ours = [element for element in merged if _identity(element, key) in wanted]
    others = [element for element in merged if _identity(element, key) not in wanted]
    ours.sort(key=lambda element: wanted[_identity(element, key)])
    return _interleave(others, ours, before, key)


def identity(value: Any) -> Hashable:
    """Returns what equal JSON values have in common and others haven't, as a key for dicts and sets."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if isinstance(value, dict | list) else value


def _interleave(others: list[Any], ours: list[Any], before: Mapping[Hashable, int], key: str) -> list[Any]:
    """Puts each of `others` before the first of `ours`, from the last insertion on, that used to come after it."""
    # What was not there before came after nothing and comes before nothing: no place for it, the last one for others.
    places = [before.get(_identity(element, key), -1) for element in ours]
    result: list[Any] = []
    start = 0
    for element in others:
        was = before.get(_identity(element, key), inf)
        place = next((i for i in range(start, len(ours)) if places[i] > was), len(ours))
        result += ours[start:place]
        result.append(element)
        start = place
    return result + ours[start:]


def _places(elements: Iterable[Any], key: str) -> dict[Hashable, int]:
    """The first place of each element."""
    places: dict[Hashable, int] = {}
    for i, element in enumerate(elements):
        places.setdefault(_identity(element, key), i)
    return places


def _identity(element: Any, key: str) -> Hashable:
    return identity(element.get(key) if key and isinstance(element, dict) else element)
