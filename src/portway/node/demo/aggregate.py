"""Aggregations over what a query found: terms, date_histogram and avg, in Elasticsearch's shapes. Pure."""

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from portway.node.demo.logs import timestamp
from portway.node.demo.query import QueryError, value_of

Source = Mapping[str, Any]
_INTERVAL = re.compile(r"([1-9]\d{0,5})([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def aggregate(wanted: object, sources: Iterable[Source]) -> dict[str, Any]:
    """{name: {kind: {...}}} → {name: result}; QueryError for a kind that isn't here."""
    if not isinstance(wanted, Mapping):
        raise QueryError("[aggs] takes an object")
    documents = list(sources)
    return {str(name): _one(body, documents) for name, body in wanted.items()}


def _one(body: object, sources: list[Source]) -> dict[str, Any]:
    kinds = {"terms": _terms, "date_histogram": _date_histogram, "avg": _average}
    if not isinstance(body, Mapping) or len(body) != 1:
        raise QueryError("an aggregation is an object with one key, its kind")
    ((kind, options),) = body.items()
    if kind not in kinds or not isinstance(options, Mapping) or not isinstance(options.get("field"), str):
        raise QueryError(f"unknown or incomplete aggregation [{kind}]; this demo knows {', '.join(sorted(kinds))}")
    return kinds[kind](options, sources)


def _terms(options: Mapping[str, Any], sources: list[Source]) -> dict[str, Any]:
    size = options.get("size", 10)
    if not isinstance(size, int) or size < 1:
        raise QueryError("[size] must be greater than 0")
    values = (value_of(source, options["field"]) for source in sources)
    counts = Counter(value for value in values if isinstance(value, (str, int, float)))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return {
        "doc_count_error_upper_bound": 0,
        "sum_other_doc_count": sum(count for _, count in ranked[size:]),
        "buckets": [{"key": key, "doc_count": count} for key, count in ranked[:size]],
    }


def _date_histogram(options: Mapping[str, Any], sources: list[Source]) -> dict[str, Any]:
    """Buckets from the first to the last, empty ones included (min_doc_count 0)."""
    match = _INTERVAL.match(str(options.get("fixed_interval", "")))
    if match is None:
        raise QueryError("[date_histogram] needs a fixed_interval such as 30m")
    width = int(match[1]) * _SECONDS[match[2]]
    counts: Counter[int] = Counter()
    for source in sources:
        seconds = _seconds(value_of(source, options["field"]))
        if seconds is not None:
            counts[seconds // width * width] += 1
    if not counts or (max(counts) - min(counts)) // width > 10_000:
        if counts:
            raise QueryError("too many buckets; give a longer fixed_interval", "too_many_buckets_exception")
        return {"buckets": []}
    return {"buckets": [_bucket(start, counts[start]) for start in range(min(counts), max(counts) + 1, width)]}


def _bucket(start: int, count: int) -> dict[str, Any]:
    when = datetime.datetime.fromtimestamp(start, datetime.UTC)
    return {"key_as_string": timestamp(when), "key": start * 1000, "doc_count": count}


def _seconds(value: object) -> int | None:
    try:
        return int(datetime.datetime.fromisoformat(str(value)).timestamp())
    except ValueError:
        return None


def _average(options: Mapping[str, Any], sources: list[Source]) -> dict[str, Any]:
    values = [value_of(source, options["field"]) for source in sources]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return {"value": sum(numbers) / len(numbers) if numbers else None}
