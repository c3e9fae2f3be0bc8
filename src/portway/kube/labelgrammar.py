"""The grammar of label selectors: one requirement, and the parser of a list of them.

``selectors`` is the module to import; this one is its engine. Tokens, order of checks and error texts are those of
upstream's recursive descent parser (``k8s.io/apimachinery/pkg/labels``), because clients are shown the texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from portway.kube.causes import invalid_value
from portway.kube.errors import BadRequest
from portway.kube.names import is_label_value, is_qualified_name
from portway.kube.quantity import parse_int64

_WORD_OPERATORS: Final = ("in", "notin")
_BINARY_OPERATORS: Final = (*_WORD_OPERATORS, "=", "==", "!=", ">", "<")
_TOKEN: Final = re.compile(r"[ \t\r\n]*(?:(?P<symbol>==|!=|[=!(),<>])|(?P<word>[^ \t\r\n=!(),<>]+))")


class SelectorError(BadRequest):
    """A selector that does not parse; a 400 with upstream's message."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. ``operator`` is in, notin, =, ==, !=, exists, !, > or <; ``values`` are sorted."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet the condition. ``!=`` and ``notin`` hold when the label is missing."""
        value = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        return value is not None and _compares(value, self.operator, self.values[0])

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                # A lone comma stands for the empty value alone; "()" would not parse.
                return f"{self.key} {self.operator} ({','.join(self.values) or ','})"
        return f"{self.key}{self.operator}{self.values[0]}"


class _Token(NamedTuple):
    kind: str  # "word", "end", or the symbol itself
    text: str


def requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    """The requirement, checked as upstream's ``NewRequirement`` does. Raises SelectorError."""
    ordered = tuple(sorted(set(values)))
    problems = _key_problems("key", key) + _operator_problems(operator, ordered)
    for index, value in enumerate(ordered):
        if wrong := is_label_value(value):
            problems.append(_invalid(f"values[{index}][{key}]", value, "; ".join(wrong)))
    if problems:
        unique = list(dict.fromkeys(problems))
        raise SelectorError(unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]")
    return Requirement(key, operator, ordered)


def parse_requirements(text: str) -> list[Requirement]:
    """The comma-separated requirements, in the order they were written. Raises SelectorError."""
    return _Parser(_tokens(text)).requirements()


def _tokens(text: str) -> list[_Token]:
    tokens = [_Token(found["symbol"] or "word", found[found.lastgroup or 0]) for found in _TOKEN.finditer(text)]
    return [*tokens, _Token("end", "")]


class _Parser:
    """Upstream's parser: one token of look-ahead, and errors that name the token that was found."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            token = self._peek()
            if token.kind == "end":
                return found
            if token.kind not in ("word", "!"):
                raise SelectorError(f"found '{token.text}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error.message}") from None
            self._separator()

    def _separator(self) -> None:
        token = self._peek()
        if token.kind == "end":
            return
        if token.kind != ",":
            raise SelectorError(f"found '{token.text}', expected: ',' or 'end of string'")
        self._next()
        following = self._peek()
        if following.kind not in ("word", "!"):
            raise SelectorError(f"found '{following.text}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        negated = self._peek().kind == "!"
        if negated:
            self._next()
        key = self._identifier()
        if wrong := _key_problems("<nil>", key):
            raise SelectorError(wrong[0])
        if negated:
            return requirement(key, "!", ())
        if self._peek().kind in ("end", ","):
            return requirement(key, "exists", ())
        operator = self._operator()
        return requirement(key, operator, self._set() if operator in _WORD_OPERATORS else self._exact())

    def _operator(self) -> str:
        token = self._next()
        if token.text not in _BINARY_OPERATORS:
            raise SelectorError(f"found '{token.text}', expected: in, notin, =, ==, !=, gt, lt")
        return token.text

    def _exact(self) -> set[str]:
        return {""} if self._peek().kind in ("end", ",") else {self._identifier()}

    def _identifier(self) -> str:
        token = self._next()
        if token.kind != "word":
            raise SelectorError(f"found '{token.text}', expected: identifier")
        return token.text

    def _set(self) -> set[str]:
        token = self._next()
        if token.kind != "(":
            raise SelectorError(f"found '{token.text}' expected: '('")
        first = self._peek()
        if first.kind not in ("word", ",", ")"):
            raise SelectorError(f"found '{first.text}', expected: ',', ')' or identifier")
        values = set() if first.kind == ")" else self._members()
        self._next()
        return values

    def _members(self) -> set[str]:
        """What stands between the parentheses; an empty place counts as the empty value. Stops before ``)``."""
        values: set[str] = set()
        while True:
            token = self._next()
            following = self._peek()
            if token.kind == "word":
                values.add(token.text)
                if following.kind not in (",", ")"):
                    raise SelectorError(f"found '{following.text}', expected: ',' or ')'")
            elif token.kind == ",":
                if not values or following.kind in (",", ")"):
                    values.add("")
                if following.kind == ",":
                    self._next()
                    continue
            else:
                raise SelectorError(f"found '{token.text}', expected: ',', or identifier")
            if following.kind == ")":
                return values

    def _peek(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        token = self._tokens[self._position]
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token


def _key_problems(path: str, key: str) -> list[str]:
    wrong = is_qualified_name(key)
    return [_invalid(path, key, "; ".join(wrong))] if wrong else []


def _operator_problems(operator: str, values: tuple[str, ...]) -> list[str]:
    if operator in _WORD_OPERATORS and not values:
        return [_invalid("values", [], "for 'in', 'notin' operators, values set can't be empty")]
    if operator in ("exists", "!") and values:
        return [_invalid("values", list(values), "values set must be empty for exists and does not exist")]
    if operator in (">", "<") and parse_int64(values[0]) is None:
        return [_invalid("values[0]", values[0], "for 'Gt', 'Lt' operators, the value must be an integer")]
    return []


def _invalid(path: str, value: object, detail: str) -> str:
    return str(invalid_value(path, value, detail))


def _compares(value: str, operator: str, limit: str) -> bool:
    number, bound = parse_int64(value), parse_int64(limit)
    if number is None or bound is None:
        return False
    return number > bound if operator == ">" else number < bound
