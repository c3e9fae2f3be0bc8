"""The demo's search tells the truth: every answer is checked against a plain walk over the documents."""

import asyncio
import contextlib
import datetime
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.node.demo import logs, query, querystring
from portway.node.demo.elasticsearch import Elasticsearch
from portway.node.demo.search import Document, Index, analyse
from portway.node.demo.server import Request, Response

NOW = datetime.datetime(2026, 5, 4, 12, 0, tzinfo=datetime.UTC)
LINES = logs.generate(NOW)


def ask(
    server: Elasticsearch, path: str, body: object = None, method: str = "", **arguments: str
) -> tuple[int, dict[str, Any]]:
    payload = b"" if body is None else json.dumps(body).encode()
    request = Request(
        method or ("GET" if body is None else "POST"), path, {k: [v] for k, v in arguments.items()}, {}, payload
    )
    response: Response = asyncio.run(server.handle(request))
    return response.status, json.loads(response.body)


@pytest.fixture
def server() -> Elasticsearch:
    return Elasticsearch("elasticsearch-logging-0", NOW)


def everything(_: object) -> bool:
    return True


def nothing(_: object) -> bool:
    return False


def ids(answer: dict[str, Any]) -> set[str]:
    return {hit["_id"] for hit in answer["hits"]["hits"]}


def expected(predicate: Any) -> set[str]:
    return {str(number) for number, line in enumerate(LINES, 1) if predicate(line)}


@pytest.mark.parametrize(
    ("text", "predicate"),
    [
        ("user:kimchy", lambda line: line["user"] == "kimchy"),
        ("kimchy", lambda line: line["user"] == "kimchy"),
        ("user:kimchy AND level:error", lambda line: line["user"] == "kimchy" and line["level"] == "error"),
        ("level:error level:warn", lambda line: line["level"] in ("error", "warn")),
        ("+container:web -level:info", lambda line: line["container"] == "web" and line["level"] != "info"),
        ("NOT container:web", lambda line: line["container"] != "web"),
        ('message:"card declined"', lambda line: "card declined" in line["message"]),
        ('message:"declined card"', nothing),
        ("(level:error OR level:warn) AND user:mara", lambda line: line["user"] == "mara" and line["level"] != "info"),
        ("level:(error OR warn)", lambda line: line["level"] != "info"),
        ("container:che*", lambda line: line["container"] == "checkout"),
        ("status:503", lambda line: line["status"] == 503),
        ("*", everything),
        ("*:*", everything),
        ("user:nobody", nothing),
        ("nofield:x", nothing),
    ],
)
def test_query_strings_find_what_a_walk_finds(server: Elasticsearch, text: str, predicate: Any) -> None:
    status, answer = ask(server, "/_search", q=text, size="1000")
    assert status == 200
    assert ids(answer) == expected(predicate)
    assert answer["hits"]["total"] == {"value": len(expected(predicate)), "relation": "eq"}
    assert ask(server, "/logs/_count", q=text)[1]["count"] == len(expected(predicate))


@pytest.mark.parametrize(
    ("wanted", "predicate"),
    [
        ({"match_all": {}}, everything),
        ({"match": {"user": "Kimchy"}}, lambda line: line["user"] == "kimchy"),
        ({"match": {"message": "order accepted"}}, lambda line: {"order", "accepted"} & set(analyse(line["message"]))),
        (
            {"match": {"message": {"query": "order accepted", "operator": "and"}}},
            lambda line: {"order", "accepted"} <= set(analyse(line["message"])),
        ),
        ({"match_phrase": {"message": "login failed"}}, lambda line: "login failed" in line["message"]),
        ({"term": {"level": "error"}}, lambda line: line["level"] == "error"),
        ({"term": {"user.keyword": {"value": "svc-backup"}}}, lambda line: line["user"] == "svc-backup"),
        ({"terms": {"status": [404, 503]}}, lambda line: line["status"] in (404, 503)),
        ({"prefix": {"container": "se"}}, lambda line: line["container"] == "search"),
        ({"exists": {"field": "user"}}, everything),
        ({"range": {"took_ms": {"gte": 50, "lt": 90}}}, lambda line: 50 <= line["took_ms"] < 90),
        ({"query_string": {"query": "user:kimchy"}}, lambda line: line["user"] == "kimchy"),
        (
            {"bool": {"filter": [{"term": {"container": "web"}}], "must_not": {"term": {"level": "info"}}}},
            lambda line: line["container"] == "web" and line["level"] != "info",
        ),
        (
            {"bool": {"should": [{"term": {"user": "mara"}}, {"term": {"user": "yuki"}}]}},
            lambda line: line["user"] in ("mara", "yuki"),
        ),
    ],
)
def test_query_objects_find_what_a_walk_finds(server: Elasticsearch, wanted: object, predicate: Any) -> None:
    status, answer = ask(server, "/logs/_search", {"query": wanted, "size": 1000})
    assert status == 200
    assert ids(answer) == expected(predicate)


def test_pages_are_cut_from_one_order(server: Elasticsearch) -> None:
    whole = ask(server, "/_search", q="level:error", size="1000")[1]["hits"]["hits"]
    page = ask(server, "/_search", q="level:error", size="5", **{"from": "3"})[1]["hits"]["hits"]
    assert page == whole[3:8]
    assert len(ask(server, "/_search", q="level:error")[1]["hits"]["hits"]) == 10
    newest = ask(server, "/_search", sort="@timestamp:desc", size="1")[1]["hits"]["hits"]
    assert newest[0]["_source"] == LINES[-1]


def test_a_rarer_term_scores_higher(server: Elasticsearch) -> None:
    def best(text: str) -> float:
        return float(ask(server, "/_search", q=text)[1]["hits"]["max_score"])

    assert best("level:error") > best("level:warn") > best("level:info") > 0


def test_aggregations_count_what_a_walk_counts(server: Elasticsearch) -> None:
    wanted = {
        "users": {"terms": {"field": "user", "size": 2}},
        "hours": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1h"}},
        "took": {"avg": {"field": "took_ms"}},
    }
    found = ask(server, "/_search", {"size": 0, "aggs": wanted})[1]["aggregations"]
    counts = Counter(line["user"] for line in LINES)
    assert [(b["key"], b["doc_count"]) for b in found["users"]["buckets"]] == sorted(
        counts.items(), key=lambda item: (-item[1], item[0])
    )[:2]
    assert found["users"]["sum_other_doc_count"] == len(LINES) - sum(b["doc_count"] for b in found["users"]["buckets"])
    hours = Counter(line["@timestamp"][:13] for line in LINES)
    assert {b["key_as_string"][:13]: b["doc_count"] for b in found["hours"]["buckets"] if b["doc_count"]} == hours
    assert found["took"]["value"] == pytest.approx(sum(line["took_ms"] for line in LINES) / len(LINES))


def test_a_document_that_is_added_is_found(server: Elasticsearch) -> None:
    status, made = ask(server, "/notes/_doc/1", {"user": "kimchy", "message": "out of the box"}, "PUT")
    assert (status, made["result"]) == (201, "created")
    assert ask(server, "/notes/_search", q='"the box"')[1]["hits"]["total"]["value"] == 1
    status, made = ask(server, "/notes/_doc/1", {"user": "mara", "message": "other"}, "PUT")
    assert (status, made["result"]) == (200, "updated")
    assert ask(server, "/notes/_search", q="kimchy")[1]["hits"]["total"]["value"] == 0
    assert ask(server, "/notes/_doc/1")[1]["_source"]["user"] == "mara"
    assert ask(server, "/notes/_doc/2")[0] == 404
    assert ask(server, "/notes/_doc", {"x": 1})[0] == 201
    assert ask(server, "/_cluster/health")[1]["active_shards"] == 2


@pytest.mark.parametrize(
    ("path", "body", "arguments", "status", "kind"),
    [
        ("/absent/_search", None, {}, 404, "index_not_found_exception"),
        ("/_search", None, {"q": "user:"}, 400, "query_shard_exception"),
        ("/_search", None, {"q": "(a"}, 400, "query_shard_exception"),
        ("/_search", None, {"size": "-1"}, 400, "illegal_argument_exception"),
        ("/_search", None, {"size": "x"}, 400, "illegal_argument_exception"),
        ("/_search", None, {"size": "99999"}, 400, "illegal_argument_exception"),
        ("/_search", {"query": {"more_like_this": {}}}, {}, 400, "parsing_exception"),
        ("/_search", {"query": []}, {}, 400, "parsing_exception"),
        ("/_search", {"highlight": {}}, {}, 400, "parsing_exception"),
        ("/_search", {"aggs": {"x": {"percentiles": {"field": "y"}}}}, {}, 400, "parsing_exception"),
        ("/_search", [1], {}, 400, "parsing_exception"),
        ("/_nodes", None, {}, 400, "illegal_argument_exception"),
        ("/Bad/_doc", {"a": 1}, {}, 400, "invalid_index_name_exception"),
        ("/logs/_doc", {}, {}, 400, "mapper_parsing_exception"),
    ],
)
def test_what_it_cannot_answer_it_refuses_by_name(
    server: Elasticsearch, path: str, body: object, arguments: dict[str, str], status: int, kind: str
) -> None:
    code, answer = ask(server, path, body, **arguments)
    assert (code, answer["status"], answer["error"]["type"]) == (status, status, kind)


@given(st.text(alphabet='ab:()"*+-! \\ANDORT', max_size=24))
def test_a_query_string_parses_or_says_that_it_does_not(text: str) -> None:
    index = Index("x")
    index.put(Document("1", {"a": "b"}))
    with contextlib.suppress(query.QueryError):
        query.evaluate_text(index, text)


@given(st.lists(st.text(alphabet="abc ", max_size=8), max_size=8), st.sampled_from("abc"))
def test_terms_find_exactly_the_documents_that_hold_them(texts: list[str], term: str) -> None:
    index = Index("x")
    for number, text in enumerate(texts):
        index.put(Document(str(number), {"text": text}))
    assert {index.documents[n].id for n in index.term("text", term)} == {
        str(number) for number, text in enumerate(texts) if term in analyse(text)
    }


def test_phrases_escape_and_words_keep_their_field() -> None:
    assert querystring.parse(r'a:"x \" y"') == querystring.Word("a", 'x " y', True)
    assert querystring.parse(r"a\:b") == querystring.Word("", "a:b")
