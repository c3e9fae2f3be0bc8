"""`_search?q=`: the query-string language, parsed into a tree. Pure; `query.py` evaluates it.

    user:kimchy AND (level:error OR message:"payment provider") -container:web path:che* *

Terms next to each other are joined by the default operator, OR unless the request says AND, as in Elasticsearch.
"""

import re
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[()+!-]|&&|\|\|)
      | (?P<field>[\w@.*]+):(?=\S)
      | "(?P<phrase>(?:[^"\\]|\\.)*)"
      | (?P<word>(?:[^\s()":\\]|\\.)+)
    )""",
    re.VERBOSE,
)
_MAX_DEPTH = 20


class QuerySyntaxError(ValueError):
    """The text isn't a query; says where."""


@dataclass(frozen=True, slots=True)
class Word:
    """A term, a prefix (`che*`) or anything (`*`) in one field, or in all ("")."""

    field: str
    text: str
    phrase: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Clauses, each (occurrence, node): must, must_not or should."""

    clauses: tuple[tuple[Literal["must", "must_not", "should"], "Node"], ...]


Node = Word | Group


def parse(text: str, default_and: bool = False) -> Node:
    """The tree of a query; QuerySyntaxError when it isn't one."""
    parser = _Parser(_tokens(text), default_and)
    tree = parser.group(0, "")
    if parser.left():
        raise QuerySyntaxError(f"unexpected {parser.left()[0][1]!r}")
    return tree


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QuerySyntaxError(f"cannot parse {text!r} at column {at + 1}")
        kind = match.lastgroup or ""
        value = match[kind]
        if kind == "word" and value in ("AND", "OR", "NOT"):
            kind = "mark"
        found.append((kind, re.sub(r"\\(.)", r"\1", value) if kind in ("phrase", "word") else value))
        at = match.end()
    return found


class _Parser:
    """One pass over the tokens; AND binds to its two neighbours, as in Lucene's classic parser."""

    def __init__(self, tokens: list[tuple[str, str]], default_and: bool) -> None:
        self._tokens = tokens
        self._at = 0
        self._default_and = default_and

    def left(self) -> list[tuple[str, str]]:
        return self._tokens[self._at :]

    def group(self, depth: int, field: str) -> Node:
        if depth > _MAX_DEPTH:
            raise QuerySyntaxError("nested too deeply")
        clauses: list[tuple[Literal["must", "must_not", "should"], Node]] = []
        while self._at < len(self._tokens) and self._tokens[self._at] != ("mark", ")"):
            joined = self._conjunction()
            negated, required = self._modifiers()
            node = self._primary(depth, field)
            if joined == "AND" and clauses and clauses[-1][0] == "should":
                clauses[-1] = ("must", clauses[-1][1])
            must = required or joined == "AND" or (self._default_and and joined != "OR")
            clauses.append(("must_not" if negated else "must" if must else "should", node))
        if not clauses:
            raise QuerySyntaxError("empty query")
        return clauses[0][1] if len(clauses) == 1 and clauses[0][0] != "must_not" else Group(tuple(clauses))

    def _conjunction(self) -> str:
        words = {"AND": "AND", "&&": "AND", "OR": "OR", "||": "OR"}
        if self._at and self._tokens[self._at][0] == "mark" and self._tokens[self._at][1] in words:
            self._at += 1
            return words[self._tokens[self._at - 1][1]]
        return ""

    def _modifiers(self) -> tuple[bool, bool]:
        negated = required = False
        while self._at < len(self._tokens) and self._tokens[self._at] in (
            ("mark", "-"),
            ("mark", "!"),
            ("mark", "NOT"),
            ("mark", "+"),
        ):
            required |= self._tokens[self._at][1] == "+"
            negated |= self._tokens[self._at][1] != "+"
            self._at += 1
        return negated, required

    def _primary(self, depth: int, field: str) -> Node:
        kind, value = self._next()
        if kind == "field":
            field = "" if value == "*" else value
            kind, value = self._next()
        if (kind, value) == ("mark", "("):
            inner = self.group(depth + 1, field)
            if self._next() != ("mark", ")"):
                raise QuerySyntaxError("missing )")
            return inner
        if kind in ("word", "phrase"):
            return Word(field, value, kind == "phrase")
        raise QuerySyntaxError(f"unexpected {value!r}")

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise QuerySyntaxError("unexpected end")
        self._at += 1
        return self._tokens[self._at - 1]
