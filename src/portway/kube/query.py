"""A query string's parameters, read the way the API server reads them (Go's ``net/url``).

The authoriser and the handlers must see the same parameters: whoever looks into a query of an API request does it
with these functions, so that a request cannot be authorised as one thing and served as another.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def query_parameters(query: str) -> dict[str, list[str]]:
    """All parameters by name, values in order. A pair that Go refuses (``;``, a broken escape) is skipped as in Go."""
    parameters: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if not pair or ";" in pair or _BROKEN_ESCAPE.search(pair):
            continue
        key, _, value = pair.partition("=")
        parameters.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return parameters


def boolean(values: list[str] | None) -> bool:
    """A boolean parameter: present is true, unless its first value is ``0`` or ``false`` in any case."""
    return values is not None and values != [] and values[0].lower() not in ("0", "false")
