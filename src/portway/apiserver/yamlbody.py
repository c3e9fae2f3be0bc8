"""YAML as sigs.k8s.io/yaml reads it: a document → what JSON would hold, and the keys that it gives twice. Pure.

PyYAML takes 10 µs for a value, and libyaml more than linear time for some inputs: what a document may have is bounded
before it is read. What it means is `body`'s and the handlers' affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import yaml

from portway.apiserver.jsonbody import MAX_DEPTH, repeated_fields, too_deep

MAX_VALUES = 50_000
"""Lists, maps, keys and scalars of a document that isn't JSON; an EndpointSlice of 1,000 endpoints has half of it."""
PROBLEMS = "yaml: unmarshal errors:\n"
"""How what go-yaml says of keys that are given twice begins; one line each follows."""
_MAX_KEY = 1024
"""Characters of a key that are shown."""
_TAG_DIRECTIVE = re.compile(r"(?:\A\ufeff?|[\n\r\x85\u2028\u2029])%TAG")
"""A line that makes a name for a prefix of tags. libyaml compares each with all before, and a short name may stand for
megabytes in every value."""


class YamlError(Exception):
    """The body is no YAML document, or none that is accepted; the text is Go's where that is feasible."""


class TooManyValues(YamlError):  # noqa: N818 - a case of it
    """The document has more than MAX_VALUES."""


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


def document(body: bytes, limit: int) -> tuple[Any, list[str]]:
    """Returns what a document holds, as JSON has it, and the problem of keys that it gives twice, as go-yaml tells it:
    one text, up to `limit` lines. Raises YamlError.

    Plain JSON, which is what clients send most under this name, is read as such and has no limit but its size.
    """
    found = _plain_json(body)
    return (found, []) if found is not None else _document(body, limit)


def _plain_json(body: bytes) -> Any:
    """Returns what a JSON document holds; None when it is none, or one that has to be told of by its lines."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if too_deep(value):
        raise YamlError("exceeded max depth")
    return None if repeated_fields(body) else value


def _document(body: bytes, limit: int) -> tuple[Any, list[str]]:
    try:
        text = _checked(body)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, []
            problems = _repeated_keys(node, limit)  # before merge keys are resolved, which changes the nodes
            value = loader.construct_document(node)
        finally:
            loader.dispose()
        # JSON is what the rest works on: keys become strings, numbers JSON's.
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)), problems
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


def _checked(body: bytes) -> str:
    """Returns the text of a document that takes time and memory in proportion to its size; raises YamlError.

    Everything is counted on the parser's events, of which one at a time is kept, before anything is made of them.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise YamlError("error converting YAML to JSON: yaml: invalid leading UTF-8 octet") from error
    if "%TAG" in text and _TAG_DIRECTIVE.search(text):
        raise YamlError("%TAG directives are not accepted")
    depth = values = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise YamlError("aliases are not accepted")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise YamlError("exceeded max depth")
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_VALUES:
            raise TooManyValues(f"Request entity too large: limit is {MAX_VALUES} values in YAML, send JSON")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise YamlError("error converting YAML to JSON: expected a single document in the stream")
    return text


def _repeated_keys(root: yaml.Node, limit: int) -> list[str]:
    found: list[tuple[int, str]] = []
    nodes = [root]
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
