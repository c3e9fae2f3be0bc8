"""JSON beyond what orjson says of it: how deep it is, and which fields it gives twice. Pure.

`body` reads requests with it, `yamlbody` finds out whether a document is plain JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

MAX_PROBLEMS = 100
"""What a strict decoder says of one body at most, upstream's limit."""
MAX_PATH = 1024
"""Characters of a path that are shown: field names are the client's, and as long as it likes."""
MAX_DEPTH = 200
"""Nesting of a body; orjson reads 1024 levels and writes 254, and libyaml is slow at more."""


def limited(problems: Iterable[str]) -> list[str]:
    """Returns what is said of the problems: each once, and the first of many."""
    return list(islice(dict.fromkeys(problems), MAX_PROBLEMS))


def too_deep(value: Any) -> bool:
    """Says whether a document is nested deeper than MAX_DEPTH."""
    level, nested = [value] if isinstance(value, dict | list) else [], 0
    while level:
        nested += 1
        if nested > MAX_DEPTH:
            return True
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return False


class _Pairs(dict[str, Any]):
    """An object that remembers which of its fields were given more than once."""

    repeated: list[str]


def repeated_fields(body: bytes) -> list[str]:
    """Returns a problem for each field that a JSON body gives twice in one object."""
    found = False

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        found = True
        marked = _Pairs(plain)
        marked.repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        return marked

    value = json.loads(body, object_pairs_hook=remember)
    if not found:
        return []
    paths = ("".join(steps).removeprefix(".")[:MAX_PATH] for steps in _repeated(value, ()))
    return limited(f'duplicate field "{path}"' for path in islice(paths, MAX_PROBLEMS))


def _repeated(value: Any, steps: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yields the ways to fields that were given more than once, as steps: only those that are told are joined."""
    if isinstance(value, _Pairs):
        yield from ((*steps, ".", name) for name in value.repeated)
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _repeated(inner, (*steps, ".", name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            if isinstance(inner, dict | list):
                yield from _repeated(inner, (*steps, f"[{i}]"))
