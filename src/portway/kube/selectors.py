"""Label and field selectors: text to requirements, and requirements against objects.

Both grammars are upstream's, down to the error texts. Which fields a kind can be selected by is the API server's
business (``selectable_fields``), not this module's. Upstream: ``k8s.io/apimachinery/pkg/{labels,fields}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from portway.kube.labelgrammar import Requirement, SelectorError, parse_requirements, requirement
from portway.kube.quoting import quote

__all__ = [
    "EVERYTHING",
    "EVERY_FIELD",
    "NOTHING",
    "FieldRequirement",
    "FieldSelector",
    "LabelSelector",
    "Requirement",
    "SelectorError",
    "from_label_selector_object",
    "parse_field_selector",
    "parse_label_selector",
]

_EXPRESSION_OPERATORS: Final = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that all have to hold, sorted by key; none holds for everything. ``nothing`` matches no object."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return not self.nothing and all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


class FieldRequirement(NamedTuple):
    """One condition on one field: ``op`` is ``=`` or ``!=``."""

    field: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions on fields that all have to hold. A field that an object does not have counts as empty."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether an object with these fields is selected."""
        return all((fields.get(field, "") == value) == (op == "=") for field, op, value in self.requirements)

    def exact(self, field: str) -> str | None:
        """The value that the selector pins this field to, or None."""
        return next((value for name, op, value in self.requirements if name == field and op == "="), None)

    def __str__(self) -> str:
        return ",".join(f"{field}{op}{_escaped(value)}" for field, op, value in self.requirements)


EVERYTHING: Final = LabelSelector()
NOTHING: Final = LabelSelector(nothing=True)
EVERY_FIELD: Final = FieldSelector()


def parse_label_selector(text: str) -> LabelSelector:
    """``a=b,c!=d,e in (f,g),h,!i,j>1``; the empty text selects everything. Raises SelectorError."""
    return LabelSelector(_sorted(parse_requirements(text))) if text else EVERYTHING


def from_label_selector_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """``metav1.LabelSelector``: None selects nothing, an empty one everything. Raises SelectorError."""
    if selector is None:
        return NOTHING
    requirements = [requirement(key, "=", [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    requirements += [_from_expression(expression) for expression in selector.get("matchExpressions") or ()]
    return LabelSelector(_sorted(requirements))


def parse_field_selector(text: str) -> FieldSelector:
    r"""``metadata.name=a,status.phase!=Running``; ``\,`` ``\=`` ``\\`` in values. Raises SelectorError."""
    return FieldSelector(tuple(_field_requirement(text, term) for term in sorted(_terms(text)) if term))


def _sorted(requirements: list[Requirement]) -> tuple[Requirement, ...]:
    return tuple(sorted(requirements, key=lambda one: one.key))


def _from_expression(expression: Mapping[str, Any]) -> Requirement:
    operator = str(expression.get("operator", ""))
    if operator not in _EXPRESSION_OPERATORS:
        raise SelectorError(f"{quote(operator)} is not a valid label selector operator")
    return requirement(str(expression.get("key", "")), _EXPRESSION_OPERATORS[operator], expression.get("values") or ())


def _terms(text: str) -> list[str]:
    """The text cut at its commas, except those behind a backslash."""
    terms, start, escaped = [], 0, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            terms.append(text[start:index])
            start = index + 1
    return [*terms, text[start:]]


def _field_requirement(text: str, term: str) -> FieldRequirement:
    # The first operator in the term counts, and "==" before "=", so that no "=" is left at the value's start.
    at = min((term.find(sign) for sign in ("!=", "=") if sign in term), default=-1)
    if at < 0:
        raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
    width = 2 if term[at : at + 2] in ("!=", "==") else 1
    op = "!=" if term[at] == "!" else "="
    return FieldRequirement(term[:at], op, _unescaped(term[at + width :]))


def _unescaped(value: str) -> str:
    plain: list[str] = []
    chars = iter(value)
    for char in chars:
        if char == "\\":
            follower = next(chars, "")
            if follower not in ("\\", ",", "="):
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{follower}")
            plain.append(follower)
        elif char in ",=":
            # Upstream prints the character's number.
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            plain.append(char)
    return "".join(plain)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace(",", r"\,").replace("=", r"\=")
