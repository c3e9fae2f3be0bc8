"""`dashboard`: what `elasticsearch-logging` holds, drawn. A program that knows its backend by address, as in a cluster.

One page, `/?q=&hours=`: each chart is an answer of the backend to the same search. Everything is drawn here and sent as
one document, because the page may run in a sandboxed origin (see `page.py`).
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

from portway.node.demo import page, server
from portway.node.demo.charts import Bar, histogram, ranking
from portway.node.demo.server import Request, Response

_LEVELS = ("info", "warn", "error")
_LEGEND = "".join(f'<span class="tag {level}">{level}</span> ' for level in _LEVELS)
_HOURS = {"1": "5m", "6": "15m", "24": "1h"}
_LINES = 25
_TIMEOUT = 5.0
_REFRESH = 30


class BackendError(Exception):
    """The backend could not be asked, or refused the search; one line."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where elasticsearch-logging is."""

    host: str
    port: int

    async def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One search; BackendError when there is no good answer to it."""
        payload = json.dumps(body).encode()
        head = (
            f"POST /logs/_search HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
        )
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._exchange(head.encode("ascii") + payload)
        except (OSError, TimeoutError) as error:
            raise BackendError(f"elasticsearch-logging does not answer ({type(error).__name__})") from error
        found = json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")
        if "error" in found or "hits" not in found:
            raise BackendError(found.get("error", {}).get("reason", "elasticsearch-logging gave no answer"))
        return dict(found)

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


class Dashboard:
    """The page."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def handle(self, request: Request) -> Response:
        """`/` is the page; anything else isn't there."""
        if request.path != "/" or request.method not in ("GET", "HEAD"):
            return Response(page.document("Not found", "<p>Not found.</p>"), server.HTML, 404)
        text = request.argument("q").strip()
        hours = request.argument("hours", "24")
        hours = hours if hours in _HOURS else "24"
        try:
            found = await self._backend.search(search_body(text, hours))
        except BackendError as error:
            content = _controls(text, hours) + page.card("No answer", f"<p>{escape(str(error))}</p>")
            return Response(page.document("Logs", content), server.HTML, 502)
        return Response(page.document("Logs", render(found, text, hours), _REFRESH), server.HTML)


def search_body(text: str, hours: str) -> dict[str, Any]:
    """The search behind the page; one filter per level, so that each level has its own histogram."""
    recent = {"range": {"@timestamp": {"gte": f"now-{hours}h"}}}
    matched = {"query_string": {"query": text, "default_operator": "AND"}} if text else {"match_all": {}}
    return {
        "query": {"bool": {"must": [matched], "filter": [recent]}},
        "size": 1000,
        "sort": [{"@timestamp": "desc"}],
        "aggs": {
            "users": {"terms": {"field": "user", "size": 8}},
            "containers": {"terms": {"field": "container", "size": 6}},
            "levels": {"terms": {"field": "level"}},
            "took": {"avg": {"field": "took_ms"}},
            "times": {"date_histogram": {"field": "@timestamp", "fixed_interval": _HOURS[hours]}},
        },
    }


def render(found: Mapping[str, Any], text: str, hours: str) -> str:
    """The page's content from the backend's answer."""
    aggregations, hits = found["aggregations"], [hit["_source"] for hit in found["hits"]["hits"]]
    levels = {bucket["key"]: bucket["doc_count"] for bucket in aggregations["levels"]["buckets"]}
    total, took = found["hits"]["total"]["value"], aggregations["took"]["value"]
    figures = [
        page.figure("Lines", str(total), f"in the last {hours} h"),
        page.figure("Errors", str(levels.get("error", 0)), f"{levels.get('warn', 0)} warnings"),
        page.figure("Average time", f"{took:.0f} ms" if took is not None else "–", "of the requests they tell of"),
    ]
    rankings = [
        page.card(title, ranking([(b["key"], b["doc_count"], _link(f'{field}:"{b["key"]}"', hours)) for b in buckets]))
        for title, field, buckets in (
            ("By user", "user", aggregations["users"]["buckets"]),
            ("By container", "container", aggregations["containers"]["buckets"]),
        )
    ]
    bars = _bars(aggregations["times"]["buckets"], hits)
    return (
        _controls(text, hours)
        + f'<div class="row">{"".join(figures)}</div>'
        + page.card("Lines over time", _LEGEND + histogram(bars, _LEVELS))
        + f'<div class="row">{"".join(rankings)}</div>'
        + page.card("Latest", _table(hits[:_LINES]))
    )


def _bars(buckets: list[dict[str, Any]], hits: list[Mapping[str, Any]]) -> list[Bar]:
    """The backend's buckets, split by level with the lines themselves."""
    starts = [bucket["key_as_string"] for bucket in buckets]
    counts = {start: dict.fromkeys(_LEVELS, 0) for start in starts}
    for hit in hits:
        at = max((start for start in starts if start <= hit["@timestamp"]), default=None)
        if at is not None and hit.get("level") in _LEVELS:
            counts[at][hit["level"]] += 1
    return [Bar(f"{start[11:16]}", tuple(counts[start][level] for level in _LEVELS)) for start in starts]


def _controls(text: str, hours: str) -> str:
    options = "".join(
        f'<option value="{value}"{" selected" if value == hours else ""}>last {value} h</option>' for value in _HOURS
    )
    return (
        '<header><h1>Log dashboard</h1><span class="soft">elasticsearch-logging, times in UTC</span></header>'
        f'<section class="card"><form method="get" action="./"><input type="text" name="q" value="{escape(text)}"'
        f' placeholder="user:kimchy AND level:error" aria-label="search"><select name="hours" aria-label="period">'
        f'{options}</select><button>Search</button> <a href="./" style="align-self:center">reset</a></form></section>'
    )


def _link(text: str, hours: str) -> str:
    return "./?" + urlencode({"q": text, "hours": hours})


def _table(hits: list[Mapping[str, Any]]) -> str:
    if not hits:
        return '<p class="soft">Nothing matches.</p>'
    rows = "".join(
        f'<tr><td class="time">{escape(str(hit.get("@timestamp", ""))[5:19].replace("T", " "))}</td>'
        f'<td><span class="tag {escape(str(hit.get("level", "info")))}">{escape(str(hit.get("level", "")))}</span></td>'
        f"<td>{escape(str(hit.get('user', '')))}</td><td>{escape(str(hit.get('container', '')))}</td>"
        f"<td>{escape(str(hit.get('message', '')))}</td></tr>"
        for hit in hits
    )
    heads = "".join(f"<th>{name}</th>" for name in ("Time", "Level", "User", "Container", "Message"))
    return f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


if __name__ == "__main__":
    import os

    host, port = os.environ["ELASTICSEARCH_LOGGING_SERVICE_HOST"], os.environ["ELASTICSEARCH_LOGGING_SERVICE_PORT"]
    server.run(Dashboard(Backend(host, int(port))).handle)
