"""YAML as sigs.k8s.io/yaml reads it: a document → what JSON would hold, and the keys that it gives twice. Pure.

What the document means is `body`'s and the handlers' affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import yaml

MAX_DEPTH = 200
"""Nesting of a document."""
PROBLEMS = "yaml: unmarshal errors:\n"
"""How what go-yaml says of keys that are given twice begins; one line each follows."""
_MAX_KEY = 1024
"""Characters of a key that are shown."""


class YamlError(Exception):
    """The body is no YAML document, or none that is accepted; the text is Go's where that is feasible."""


class _Loader(yaml.CSafeLoader):
    """YAML as sigs.k8s.io/yaml reads it: what looks like a date, or like a number in base 60 (12:30), stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _number(make: Callable[[_Loader, yaml.ScalarNode], Any]) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    """A constructor of numbers that leaves base 60 alone: PyYAML takes quadratic time over it."""

    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        return node.value if ":" in node.value else make(loader, node)

    return construct


_Loader.add_constructor("tag:yaml.org,2002:int", _number(yaml.CSafeLoader.construct_yaml_int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(yaml.CSafeLoader.construct_yaml_float))


def document(body: bytes) -> Any:
    """Returns what a document holds, as JSON has it; raises YamlError.

    Aliases are refused: a few of them make gigabytes out of a small body. So is nesting that libyaml is slow at.
    """
    try:
        depth = 0
        for event in yaml.parse(body, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise YamlError("aliases are not accepted")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise YamlError("exceeded max depth")
        # JSON is what the rest works on: keys become strings, numbers JSON's.
        return orjson.loads(orjson.dumps(yaml.load(body, Loader=_Loader), option=orjson.OPT_NON_STR_KEYS))  # noqa: S506
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # More than YAMLError: a tag that doesn't fit its text (!!int "") is news to PyYAML.
        raise YamlError(f"error converting YAML to JSON: {error}") from error


def repeated_keys(body: bytes, limit: int) -> list[str]:
    """Returns the problem of a document that gives keys twice, as go-yaml tells it: one text, up to `limit` lines.

    The document must be one that `document` reads.
    """
    found: list[tuple[int, str]] = []
    nodes = [yaml.compose(body, Loader=_Loader)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            found += _again(node)
            nodes += [value for _, value in node.value]
    lines = [f'  line {line}: key "{key[:_MAX_KEY]}" already set in map' for line, key in sorted(found)[:limit]]
    return [PROBLEMS + "\n".join(lines)] if lines else []


def _again(node: yaml.MappingNode) -> Iterator[tuple[int, str]]:
    """Yields the line of each key that its mapping had before, and the key."""
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(key.value)
