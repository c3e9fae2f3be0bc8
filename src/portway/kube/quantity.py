"""Numbers as Kubernetes writes them: quantities (``100m``, ``64Mi``, ``1e3``) and Go's 64-bit integers.

Upstream: ``k8s.io/apimachinery/pkg/api/resource``. Values are decimal, never floating point, so that nothing is lost
on the way; what a quantity measures is the caller's business.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal, localcontext
from functools import lru_cache
from typing import Final

_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?:(?P<binary>[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]{1,4})|(?P<decimal>[numkMGTPE]?))"
)
_INT64: Final = range(-(2**63), 2**63)
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_NANO: Final = Decimal("1e-9")
# Upstream's caps: nothing beyond 2^63-1 of the unit, nothing finer than a nano.
_LIMIT: Final = Decimal(2**63 - 1)
_PRECISION: Final = Context(prec=100)
_SHAPE: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"  # upstream's sentence
)


_USUAL: Final = 32
"""Characters of a quantity that is remembered: a cluster has a few of them, a thousand times."""


class QuantityError(ValueError):
    """A text that is no quantity; the message is upstream's."""


def parse_int64(text: str) -> int | None:
    """A decimal integer as Go's ``ParseInt(s, 10, 64)`` reads it; None where Go reports an error."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if number in _INT64 else None


def parse_quantity(text: str) -> Decimal:
    """The quantity's value in its base unit, rounded up to a nano. Raises QuantityError."""
    return _parsed_before(text) if len(text) <= _USUAL else _parsed(text)


def _parsed(text: str) -> Decimal:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise QuantityError(_SHAPE)
    with localcontext(_PRECISION):
        value = Decimal(found["number"]) * _factor(found)
        value = max(min(value, _LIMIT), -_LIMIT)
        return value.quantize(_NANO, rounding=ROUND_UP).normalize() if value else Decimal(0)


_parsed_before = lru_cache(maxsize=1024)(_parsed)


def format_quantity(text: str) -> str:
    """The canonical form: the largest suffix of the same family that leaves a whole number. Raises QuantityError."""
    return _formatted_before(text) if len(text) <= _USUAL else _formatted(text)


def _formatted(text: str) -> str:
    found = _QUANTITY.fullmatch(text)
    value = parse_quantity(text)
    if not value:
        return "0"
    if found is not None and found["binary"] and abs(value) >= 1024:
        return _binary(value)
    with localcontext(_PRECISION):
        mantissa, exponent = _whole(value)
    if found is not None and found["exponent"] is not None:
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"


_formatted_before = lru_cache(maxsize=1024)(_formatted)


def _factor(found: re.Match[str]) -> Decimal:
    if found["binary"]:
        return Decimal(1024) ** _BINARY.index(found["binary"])
    if found["exponent"] is not None:
        # Far beyond both caps, the exact exponent does not matter; a huge one must not cost anything.
        return Decimal(1).scaleb(max(-40, min(40, int(found["exponent"]))))
    return Decimal(1).scaleb(_DECIMAL[found["decimal"]])


def _binary(value: Decimal) -> str:
    if value != value.to_integral_value():
        mantissa, exponent = _whole(value)
        return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"
    number, step = int(value), 0
    while number % 1024 == 0 and step + 1 < len(_BINARY):
        number, step = number // 1024, step + 1
    return f"{number}{_BINARY[step]}"


def _whole(value: Decimal) -> tuple[int, int]:
    """(mantissa, exponent) with the largest exponent divisible by three that leaves a whole mantissa."""
    exponent = -9
    number = int(value.scaleb(9))
    while number % 1000 == 0 and exponent < 18:
        number, exponent = number // 1000, exponent + 3
    return number, exponent
