"""`elasticsearch-logging`: a stand-in for Elasticsearch that tells the truth about a few hundred log lines.

    /                       who it is            /_cluster/health        green, for one node
    /_cat/indices           what it holds        /[INDEX/]_count         how many match
    /[INDEX/]_search        GET ?q=user:kimchy&size=&from=, or POST {"query": …, "aggs": …}
    /INDEX/_doc[/ID]        POST and PUT add a document, GET reads one

Answers have Elasticsearch's shapes; `?pretty` indents them. Documents live in memory, at most `MAX_DOCUMENTS` of them.
"""

import datetime
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from portway import __version__
from portway.node.demo import logs, server
from portway.node.demo.aggregate import aggregate
from portway.node.demo.query import QueryError, evaluate, evaluate_text
from portway.node.demo.search import Document, Index, Scores
from portway.node.demo.server import Request, Response

INDEX = "logs"
CLUSTER = "portway-demo"
MAX_DOCUMENTS = 10_000
_MAX_WINDOW = 10_000
_SEARCH_KEYS = frozenset({"query", "size", "from", "aggs", "aggregations", "sort", "_source", "track_total_hits"})


class RefusedError(Exception):
    """An answer that isn't a success: HTTP status, Elasticsearch's error type, and a reason."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason

    def body(self) -> dict[str, Any]:
        cause = {"type": self.kind, "reason": self.reason}
        return {"error": {"root_cause": [cause], **cause}, "status": self.status}


class Elasticsearch:
    """The indices and the routes to them."""

    def __init__(self, name: str, now: datetime.datetime) -> None:
        self._name = name
        self._indices = {INDEX: Index(INDEX)}
        for number, line in enumerate(logs.generate(now)):
            self._indices[INDEX].put(Document(str(number + 1), line))

    async def handle(self, request: Request) -> Response:
        """One request, one answer; errors in Elasticsearch's shape."""
        status = 200
        try:
            answer: Any = self._route(request)
            if isinstance(answer, tuple):
                status, answer = answer
        except RefusedError as error:
            status, answer = error.status, error.body()
        except QueryError as error:
            status, answer = 400, RefusedError(400, error.kind, str(error)).body()
        if isinstance(answer, str):
            return Response(answer.encode(), server.TEXT)
        return Response(_json(answer, request), server.JSON, status)

    def _route(self, request: Request) -> Any:
        parts = [part for part in request.path.split("/") if part]
        reading = request.method in ("GET", "HEAD")
        if not parts and reading:
            return self._about()
        if parts == ["_cluster", "health"] and reading:
            return self._health()
        if parts[:2] == ["_cat", "indices"] and len(parts) == 2 and reading:
            return self._cat(request)
        if parts[-1:] == ["_search"] and len(parts) <= 2:
            return self._search(request, self._index(parts[0]) if len(parts) == 2 else self._indices[INDEX])
        if parts[-1:] == ["_count"] and len(parts) <= 2:
            index = self._index(parts[0]) if len(parts) == 2 else self._indices[INDEX]
            return {"count": len(_matches(index, request, _body(request))), "_shards": _SHARDS}
        if len(parts) in (2, 3) and parts[1] in ("_doc", "_create"):
            return self._document(request, parts[0], parts[2] if len(parts) == 3 else "")
        raise RefusedError(
            400,
            "illegal_argument_exception",
            f"no handler found for uri [{request.path}] and method [{request.method}]",
        )

    def _about(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "cluster_name": CLUSTER,
            "version": {"number": "8.0.0", "distribution": f"portway-demo {__version__}", "build_snapshot": False},
            "tagline": "A stand-in for Elasticsearch that really searches",
        }

    def _health(self) -> dict[str, Any]:
        shards = len(self._indices)
        return {
            "cluster_name": CLUSTER,
            "status": "green",
            "timed_out": False,
            "number_of_nodes": 1,
            "number_of_data_nodes": 1,
            "active_primary_shards": shards,
            "active_shards": shards,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": 0,
            "delayed_unassigned_shards": 0,
            "number_of_pending_tasks": 0,
            "number_of_in_flight_fetch": 0,
            "task_max_waiting_in_queue_millis": 0,
            "active_shards_percent_as_number": 100.0,
        }

    def _cat(self, request: Request) -> str:
        head = "health status index pri rep docs.count\n" if "v" in request.query else ""
        return head + "".join(
            f"green  open   {name:<5} 1   0   {len(index.documents)}\n" for name, index in sorted(self._indices.items())
        )

    def _index(self, name: str) -> Index:
        if name in ("_all", "*"):
            return self._indices[INDEX]
        index = self._indices.get(name)
        if index is None:
            raise RefusedError(404, "index_not_found_exception", f"no such index [{name}]")
        return index

    def _search(self, request: Request, index: Index) -> dict[str, Any]:
        if request.method not in ("GET", "POST", "HEAD"):
            raise RefusedError(
                405, "method_not_allowed", f"Incorrect HTTP method for uri [{request.path}], allowed: [GET, POST]"
            )
        started = time.perf_counter()
        body = _body(request)
        unknown = set(body) - _SEARCH_KEYS
        if unknown:
            raise QueryError(f"unknown key [{min(unknown)}] in the search request")
        scores = _matches(index, request, body)
        size, start = _number(request, body, "size", 10), _number(request, body, "from", 0)
        if size + start > _MAX_WINDOW:
            raise RefusedError(
                400,
                "illegal_argument_exception",
                f"Result window is too large, from + size must be at most {_MAX_WINDOW}",
            )
        ranked = _ranked(index, scores, body.get("sort") or request.argument("sort"))
        hits = [_hit(index, number, scores[number]) for number in ranked[start : start + size]]
        answer: dict[str, Any] = {
            "took": int((time.perf_counter() - started) * 1000),
            "timed_out": False,
            "_shards": _SHARDS,
            "hits": {
                "total": {"value": len(scores), "relation": "eq"},
                "max_score": max(scores.values(), default=None) if size else None,
                "hits": hits,
            },
        }
        wanted = body.get("aggs") or body.get("aggregations")
        if wanted:
            answer["aggregations"] = aggregate(wanted, (index.documents[number].source for number in ranked))
        return answer

    def _document(self, request: Request, name: str, id_: str) -> Any:
        if request.method in ("GET", "HEAD"):
            found = self._index(name).find(id_)
            base = {"_index": name, "_id": id_, "found": found is not None}
            return (404, base) if found is None else base | {"_source": found.source}
        if request.method not in ("POST", "PUT") or (request.method == "PUT" and not id_):
            raise RefusedError(405, "method_not_allowed", f"Incorrect HTTP method for uri [{request.path}]")
        source = _body(request)
        if not source:
            raise RefusedError(400, "mapper_parsing_exception", "a document is a JSON object that isn't empty")
        if not name.isascii() or name != name.lower() or name.startswith(("_", "-", "+")):
            raise RefusedError(400, "invalid_index_name_exception", f"Invalid index name [{name}]")
        if sum(len(index.documents) for index in self._indices.values()) >= MAX_DOCUMENTS:
            raise RefusedError(429, "circuit_breaking_exception", f"this demo holds at most {MAX_DOCUMENTS} documents")
        index = self._indices.setdefault(name, Index(name))
        source.setdefault("@timestamp", logs.timestamp(datetime.datetime.now(datetime.UTC)))
        id_ = id_ or secrets.token_urlsafe(15)
        created = index.put(Document(id_, source))
        result = {"_index": name, "_id": id_, "result": "created" if created else "updated", "_shards": _SHARDS}
        return (201 if created else 200), result


_SHARDS: Mapping[str, int] = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}


def _body(request: Request) -> dict[str, Any]:
    if not request.body.strip():
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "parsing_exception", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RefusedError(400, "parsing_exception", "the body is not a JSON object")
    return body


def _matches(index: Index, request: Request, body: Mapping[str, Any]) -> Scores:
    text = request.argument("q")
    if text:
        field = request.argument("df")
        return evaluate_text(
            index, text, request.argument("default_operator").upper() == "AND", [field] if field else []
        )
    return evaluate(index, body["query"]) if "query" in body else index.everything()


def _number(request: Request, body: Mapping[str, Any], name: str, default: int) -> int:
    given = request.argument(name) or body.get(name, default)
    try:
        value = int(given)
    except (TypeError, ValueError):
        value = -1
    if value < 0:
        raise RefusedError(
            400, "illegal_argument_exception", f"[{name}] must be a number that isn't negative, got [{given}]"
        )
    return value


def _ranked(index: Index, scores: Scores, sort: object) -> list[int]:
    """Best first, older first among equals; or by fields, as `@timestamp:desc` or [{"@timestamp": "desc"}]."""
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    for field, descending in reversed(_sort_keys(sort)):
        ranked.sort(key=lambda number: _sortable(index.documents[number].source.get(field)), reverse=descending)
    return ranked


def _sort_keys(sort: object) -> list[tuple[str, bool]]:
    items = sort.split(",") if isinstance(sort, str) else sort if isinstance(sort, list) else [sort]
    keys = []
    for item in items:
        if isinstance(item, Mapping):
            for field, order in item.items():
                direction = order.get("order", "asc") if isinstance(order, Mapping) else order
                keys.append((str(field).removesuffix(".keyword"), direction == "desc"))
        elif item:
            field, _, direction = str(item).partition(":")
            keys.append((field.removesuffix(".keyword"), direction == "desc"))
    return [key for key in keys if key[0] != "_score"]


def _sortable(value: object) -> tuple[int, float, str]:
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))


def _hit(index: Index, number: int, score: float) -> dict[str, Any]:
    document = index.documents[number]
    return {"_index": index.name, "_id": document.id, "_score": round(score, 7), "_source": document.source}


def _json(answer: object, request: Request) -> bytes:
    if request.argument("pretty", "false") in ("", "true"):
        return json.dumps(answer, indent=2, separators=(",", " : "), ensure_ascii=False).encode() + b"\n"
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


if __name__ == "__main__":
    import os

    server.run(Elasticsearch(os.environ["POD_NAME"], datetime.datetime.now(datetime.UTC)).handle)
