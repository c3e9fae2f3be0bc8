"""One step of a path as FieldsV1 writes it: `f:name`, `k:{"port":80}`, `v:"x"`, `i:0`. Pure.

Steps are kept as that text, in one canonical form (keys sorted, no blanks, whole numbers whole), so that two steps are
the same when their texts are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

SELF = "."
"""Not a step: marks that a path which has paths below it is itself in the set."""


def field(name: str) -> str:
    """Returns the step to a field of a struct or a key of a map."""
    return f"f:{name}"


def keyed(keys: Mapping[str, Any]) -> str:
    """Returns the step to the element of a list with these keys."""
    return f"k:{_json(keys)}"


def valued(value: Any) -> str:
    """Returns the step to the element of a set."""
    return f"v:{_json(value)}"


def canonical(text: str) -> str | None:
    """Returns a step in the canonical form, None for one of a kind that isn't known; raises ValueError."""
    if text[1:2] != ":":
        raise ValueError(f"missing colon: {text}")
    if text.startswith("f:"):
        return text
    if text.startswith("i:"):
        return f"i:{int(text[2:])}"
    if text[0] not in "kv":
        return None
    value = orjson.loads(text[2:])
    if text.startswith("k:") and not isinstance(value, dict):
        raise ValueError(f"no keys: {text}")
    return f"{text[0]}:{_json(value)}"


def shown(text: str) -> str:
    """Returns a step as conflicts name it: `.ports`, `[port=80,protocol="TCP"]`, `[="x"]`, `[0]`."""
    rest = text[2:]
    if text.startswith("f:"):
        return f".{rest}"
    if text.startswith("k:"):
        return f"[{','.join(f'{name}={_json(value)}' for name, value in orjson.loads(rest).items())}]"
    return f"[={rest}]" if text.startswith("v:") else f"[{rest}]"


def _json(value: Any) -> str:
    return orjson.dumps(_whole(value), option=orjson.OPT_SORT_KEYS).decode()


def _whole(value: Any) -> Any:
    """80.0 and 80 are one number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _whole(inner) for name, inner in value.items()}
    return value
