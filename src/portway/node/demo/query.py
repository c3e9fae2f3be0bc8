"""Elasticsearch's query DSL, the part of it that a log search needs, evaluated on an `Index`.

match_all, match, match_phrase, query_string, term, terms, prefix, exists, range and bool. What isn't here is refused by
name, never ignored: an answer is the truth or an error.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from portway.node.demo import querystring
from portway.node.demo.search import Index, Scores, analyse

_DATE_MATH = re.compile(r"now(?:([+-]\d+)([smhd]))?\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class QueryError(ValueError):
    """A query that cannot be answered; `kind` is Elasticsearch's name for the error."""

    def __init__(self, reason: str, kind: str = "parsing_exception") -> None:
        super().__init__(reason)
        self.kind = kind


def evaluate(index: Index, query: object) -> Scores:
    """What matches a query object such as {"match": {"user": "kimchy"}}."""
    if not isinstance(query, Mapping) or len(query) != 1:
        raise QueryError("a query is an object with one key, its kind")
    ((kind, body),) = query.items()
    evaluator = _KINDS.get(kind)
    if evaluator is None:
        raise QueryError(f"unknown query [{kind}]; this demo knows {', '.join(sorted(_KINDS))}")
    return evaluator(index, body)


def evaluate_text(index: Index, text: str, default_and: bool = False, fields: Iterable[str] = ()) -> Scores:
    """What matches a query string such as `user:kimchy`."""
    try:
        tree = querystring.parse(text, default_and)
    except querystring.QuerySyntaxError as error:
        raise QueryError(f"Failed to parse query [{text}]: {error}", "query_shard_exception") from error
    return _tree(index, tree, tuple(fields))


def value_of(source: Mapping[str, Any], field: str) -> Any:
    """A field's value; `user.keyword` is the whole value of `user`."""
    return source.get(field.removesuffix(".keyword"))


def _tree(index: Index, node: querystring.Node, fields: tuple[str, ...]) -> Scores:
    if isinstance(node, querystring.Word):
        return _word(index, node, fields)
    parts: dict[str, list[Scores]] = {"must": [], "should": [], "must_not": []}
    for occurrence, child in node.clauses:
        parts[occurrence].append(_tree(index, child, fields))
    return _combine(index, parts["must"], parts["should"], parts["must_not"], needs_should=not parts["must"])


def _word(index: Index, word: querystring.Word, fields: tuple[str, ...]) -> Scores:
    if word.text == "*" and not word.phrase:
        return index.exists(word.field) if word.field else index.everything()
    where = (word.field,) if word.field else fields or index.fields
    return _best(_in_field(index, field, word) for field in where)


def _in_field(index: Index, field: str, word: querystring.Word) -> Scores:
    if field.endswith(".keyword"):
        return _exact(index, field, {word.text})
    if word.text.endswith("*") and not word.phrase:
        return index.prefix(field, word.text[:-1].lower())
    terms = analyse(word.text)
    return index.term(field, terms[0]) if len(terms) == 1 else index.phrase(field, terms)


def _best(found: Iterable[Scores]) -> Scores:
    """One match is enough, and the best one counts: as a dis_max over fields."""
    best: dict[int, float] = {}
    for scores in found:
        for number, score in scores.items():
            best[number] = max(score, best.get(number, 0.0))
    return best


def _combine(
    index: Index, must: list[Scores], should: list[Scores], must_not: list[Scores], *, needs_should: bool
) -> Scores:
    numbers = set(index.everything())
    for scores in must:
        numbers &= set(scores)
    if should and needs_should:
        numbers &= {number for scores in should for number in scores}
    for scores in must_not:
        numbers -= set(scores)
    return {number: sum(scores.get(number, 0.0) for scores in (*must, *should)) for number in numbers}


def _single(body: object, kind: str) -> tuple[str, Any]:
    if not isinstance(body, Mapping) or len(body) != 1:
        raise QueryError(f"[{kind}] takes an object with one field")
    ((field, value),) = body.items()
    return str(field), value


def _match(index: Index, body: object) -> Scores:
    field, value = _single(body, "match")
    options = value if isinstance(value, Mapping) else {"query": value}
    each = [index.term(field, term) for term in analyse(options.get("query", ""))]
    everyone = str(options.get("operator", "or")).lower() == "and"
    if not each:
        return {}
    return _combine(index, each if everyone else [], [] if everyone else each, [], needs_should=True)


def _match_phrase(index: Index, body: object) -> Scores:
    field, value = _single(body, "match_phrase")
    return index.phrase(field, analyse(value.get("query", "") if isinstance(value, Mapping) else value))


def _query_string(index: Index, body: object) -> Scores:
    if not isinstance(body, Mapping) or not isinstance(body.get("query"), str):
        raise QueryError("[query_string] needs a query")
    fields = body.get("fields") or ([body["default_field"]] if body.get("default_field", "*") != "*" else [])
    return evaluate_text(index, body["query"], str(body.get("default_operator", "or")).lower() == "and", fields)


def _term(index: Index, body: object) -> Scores:
    field, value = _single(body, "term")
    return _terms(index, {field: [value.get("value") if isinstance(value, Mapping) else value]})


def _terms(index: Index, body: object) -> Scores:
    field, values = _single(body, "terms")
    if not isinstance(values, list):
        raise QueryError("[terms] takes a list of values")
    if field.endswith(".keyword"):
        return _exact(index, field, {str(value) for value in values})
    return _best(index.term(field, str(value).lower()) for value in values)


def _exact(index: Index, field: str, values: set[str]) -> Scores:
    return {n: 1.0 for n, document in index.documents.items() if str(value_of(document.source, field)) in values}


def _prefix(index: Index, body: object) -> Scores:
    field, value = _single(body, "prefix")
    return index.prefix(field, str(value.get("value") if isinstance(value, Mapping) else value).lower())


def _exists(index: Index, body: object) -> Scores:
    if not isinstance(body, Mapping) or not isinstance(body.get("field"), str):
        raise QueryError("[exists] needs a field")
    return index.exists(body["field"])


def _range(index: Index, body: object) -> Scores:
    field, bounds = _single(body, "range")
    if not isinstance(bounds, Mapping):
        raise QueryError("[range] takes an object with gte, gt, lte or lt")
    checks = [_bound(name, limit) for name, limit in bounds.items()]
    found = {}
    for number, document in index.documents.items():
        value = value_of(document.source, field)
        if value is not None and all(check(value) for check in checks):
            found[number] = 1.0
    return found


def _bound(name: str, limit: object) -> Callable[[Any], bool]:
    if name not in ("gte", "gt", "lte", "lt"):
        raise QueryError(f"[range] query does not support [{name}]")
    edge = _instant(limit) if isinstance(limit, str) else limit

    def holds(value: Any) -> bool:
        if isinstance(value, str) != isinstance(edge, str):
            return False
        return bool({"gte": value >= edge, "gt": value > edge, "lte": value <= edge, "lt": value < edge}[name])

    return holds


def _instant(text: str) -> str:
    """`now-1h` as a date; anything else as it stands, for dates of one form compare as text."""
    match = _DATE_MATH.match(text)
    if match is None:
        return text
    shift = datetime.timedelta(**{_UNITS[match[2]]: int(match[1])}) if match[1] else datetime.timedelta()
    return (datetime.datetime.now(datetime.UTC) + shift).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _bool(index: Index, body: object) -> Scores:
    if not isinstance(body, Mapping):
        raise QueryError("[bool] takes an object")
    unknown = set(body) - {"must", "filter", "should", "must_not"}
    if unknown:
        raise QueryError(f"[bool] query does not support [{min(unknown)}]")
    parts = {
        key: [evaluate(index, one) for one in _listed(body.get(key, []))] for key in ("must", "should", "must_not")
    }
    filters: list[Scores] = [dict.fromkeys(evaluate(index, one), 0.0) for one in _listed(body.get("filter", []))]
    required = parts["must"] + filters
    return _combine(index, required, parts["should"], parts["must_not"], needs_should=not required)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


_KINDS: Mapping[str, Callable[[Index, object], Scores]] = {
    "bool": _bool,
    "exists": _exists,
    "match": _match,
    "match_all": lambda index, _: index.everything(),
    "match_phrase": _match_phrase,
    "prefix": _prefix,
    "query_string": _query_string,
    "range": _range,
    "term": _term,
    "terms": _terms,
}
