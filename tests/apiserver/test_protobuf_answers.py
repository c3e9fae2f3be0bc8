"""Answers in protobuf: every kind served, alone, in lists and watches, metadata only; errors, reviews; who gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from portway.apiserver.fields import message_for
from portway.apiserver.kinds import KINDS
from portway.apiserver.kinds.base import Kind
from portway.apiserver.protobuf import MAGIC, MEDIA_TYPE, decode
from portway.apiserver.protobufwriter import encode, envelope
from portway.storage import MemoryStore
from portway.testing.api import InProcessApi
from portway.testing.asgi import Answer, Lines
from portway.testing.dynamicmessages import list_parts, parse, plain

MAPS = "/api/v1/namespaces/default/configmaps"
GO = f"{MEDIA_TYPE},application/json"
"""What Go's typed clients accept."""
METADATA = f"{MEDIA_TYPE};as=PartialObjectMetadata{{}};g=meta.k8s.io;v=v1,application/json"
MINIMAL: dict[str, dict[str, Any]] = {
    "Event": {
        "eventTime": "2026-11-26T10:00:00.000001Z",
        "action": "a",
        "reason": "r",
        "type": "Normal",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
    },
    "EndpointSlice": {"addressType": "IPv4"},
    "Pod": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
    "Service": {"spec": {"ports": [{"port": 80}]}},
}


def serve(test: Callable[[InProcessApi], Awaitable[None]], store: MemoryStore | None = None, **changes: Any) -> None:
    async def run() -> None:
        async with InProcessApi(store, **changes) as api:
            await test(api)

    asyncio.run(run())


def path_of(kind: Kind) -> str:
    prefix = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
    return f"{prefix}/namespaces/default/{kind.plural}" if kind.namespaced else f"{prefix}/{kind.plural}"


def unpacked(body: bytes) -> tuple[str, str, bytes]:
    """(apiVersion, kind, message) of an envelope."""
    assert body.startswith(MAGIC)
    unknown = plain("runtime.Unknown", parse("runtime.Unknown", body[len(MAGIC) :]))
    assert (unknown["contentEncoding"], unknown["contentType"]) == ("", "")
    return unknown["typeMeta"]["apiVersion"], unknown["typeMeta"]["kind"], unknown["raw"]


async def got(api: InProcessApi, target: str, accept: str = GO) -> Answer:
    answer = await api.admin.request("GET", target, accept=accept)
    assert (answer.status, answer.header("content-type")) == (200, MEDIA_TYPE), answer.body
    return answer


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.group}/{kind.kind}")
def test_every_kind_alone_in_lists_and_in_watches(kind: Kind) -> None:
    async def test(api: InProcessApi) -> None:
        path = path_of(kind)
        made = await api.admin.request("POST", path, {"metadata": {"name": "x"}, **MINIMAL.get(kind.kind, {})})
        if made.status != 201:
            await store_bare(api, kind)
        shown = (await api.admin.request("GET", path)).json()
        assert shown["items"]
        version, listed, raw = unpacked((await got(api, path)).body)
        assert (version, listed) == (kind.api_version, kind.list_kind)
        metadata, messages = list_parts(raw)
        assert metadata["resourceVersion"] == shown["metadata"]["resourceVersion"]
        wanted = [encode({"apiVersion": version, "kind": kind.kind, **item}) for item in shown["items"]]
        assert [envelope(version, kind.kind, message) for message in messages] == wanted
        name = shown["items"][0]["metadata"]["name"]
        assert (await got(api, f"{path}/{name}")).body == wanted[0]
        again = decode(wanted[0])
        assert contains(again, {"apiVersion": version, "kind": kind.kind, **shown["items"][0]})
        async with api.admin.stream(f"{path}?watch=1", accept=GO) as stream:
            assert (await event(stream))[:2] == ("ADDED", wanted[0])

    serve(test)


async def store_bare(api: InProcessApi, kind: Kind) -> None:
    """Puts an object into the store that the kind's rules would refuse: its form is what matters."""
    metadata = {"name": "x", "uid": "u", **({"namespace": "default"} if kind.namespaced else {})}
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    await api.store.create(kind.key("default", "x"), orjson.dumps(obj))


def contains(whole: Any, part: Any) -> bool:
    """Whether protobuf brought back all of the JSON; it may add structs in which nothing is set, and has no []."""
    if isinstance(part, dict):
        return all(not value or contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


async def event(stream: Lines) -> tuple[str, bytes]:
    framed = await stream.frame()
    assert framed is not None
    found = plain("meta.v1.WatchEvent", parse("meta.v1.WatchEvent", framed))
    return found["type"], found["object"]["raw"]


async def make(api: InProcessApi, *names: str) -> None:
    for name in names:
        body = encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": name}})
        answer = await api.admin.request("POST", MAPS, body, content_type=MEDIA_TYPE, accept=GO)
        assert (answer.status, answer.header("content-type")) == (201, MEDIA_TYPE)
        assert decode(answer.body)["data"] == {"k": name}


def test_a_watch_tells_everything_in_frames() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api, "a")
        target = f"{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.admin.stream(target, accept=GO) as stream:
            assert dict(stream.headers)["content-type"] == f"{MEDIA_TYPE};stream=watch"
            seen = [await event(stream)]
            while seen[-1][0] == "ADDED":
                seen.append(await event(stream))
            assert [decode(raw)["metadata"]["name"] for _, raw in seen[:-1]] == ["a"]
            type_, bookmark = seen[-1]
            assert type_ == "BOOKMARK"
            marked = decode(bookmark)
            assert (marked["kind"], marked["metadata"]["annotations"]) == (
                "ConfigMap",
                {"k8s.io/initial-events-end": "true"},
            )
            body = encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "2"}})
            await api.admin.request("PUT", f"{MAPS}/a", body, content_type=MEDIA_TYPE)
            type_, changed = await event(stream)
            assert (type_, changed) == ("MODIFIED", (await got(api, f"{MAPS}/a")).body)
            await api.admin.request("DELETE", f"{MAPS}/a", envelope("", "", b"\x08\x00"), content_type=MEDIA_TYPE)
            type_, last = await event(stream)
            assert (type_, decode(last)["data"]) == ("DELETED", {"k": "2"})

    serve(test)


def test_a_watch_that_is_too_old_ends_with_an_error_in_its_own_form() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api, *(f"m{i}" for i in range(6)))
        async with api.admin.stream(f"{MAPS}?watch=1&resourceVersion=1", accept=GO) as stream:
            type_, raw = await event(stream)
            status = decode(raw)
            assert (type_, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
            assert await stream.frame() is None

    serve(test, watch_history=2)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_metadata_only(version: str) -> None:
    async def test(api: InProcessApi) -> None:
        await make(api, "a", "b")
        accept = METADATA.replace("v=v1", f"v={version}")
        shown = (await api.admin.request("GET", f"{MAPS}/a")).json()["metadata"]
        partial = decode((await got(api, f"{MAPS}/a", accept.format(""))).body)
        assert (partial["apiVersion"], partial["kind"]) == (f"meta.k8s.io/{version}", "PartialObjectMetadata")
        assert partial["metadata"] == shown
        found = unpacked((await got(api, MAPS, accept.format("List"))).body)
        assert found[:2] == (f"meta.k8s.io/{version}", "PartialObjectMetadataList")
        messages = list_parts(found[2])[1]
        assert [
            decode(envelope("meta.k8s.io/v1", "PartialObjectMetadata", raw))["metadata"]["name"] for raw in messages
        ] == ["a", "b"]
        async with api.admin.stream(f"{MAPS}?watch=1&allowWatchBookmarks=1", accept=accept.format("")) as stream:
            assert decode((await event(stream))[1])["metadata"] == shown

    serve(test)


def test_tables_are_json_and_yaml_is_no_watch() -> None:
    async def test(api: InProcessApi) -> None:
        table = "as=Table;v=v1;g=meta.k8s.io"
        accept = f"{MEDIA_TYPE};{table},application/json;{table}"
        answer = await api.admin.request("GET", MAPS, accept=accept)
        assert answer.json()["kind"] == "Table"
        refused = await api.admin.request("GET", MAPS, accept=f"{MEDIA_TYPE};{table}")
        assert (refused.status, refused.json()["reason"]) == (406, "NotAcceptable")
        refused = await api.admin.request("GET", f"{MAPS}?watch=1", accept="application/yaml")
        assert refused.status == 406
        assert f"application/json;stream=watch,\n  {MEDIA_TYPE};stream=watch" in refused.body.decode()

    serve(test)


def test_errors_are_a_status() -> None:
    async def test(api: InProcessApi) -> None:
        missing = await api.admin.request("GET", f"{MAPS}/none", accept=GO)
        assert (missing.status, missing.header("content-type")) == (404, MEDIA_TYPE)
        status = decode(missing.body)
        assert (status["kind"], status["status"], status["reason"], status["code"]) == (
            "Status",
            "Failure",
            "NotFound",
            404,
        )
        assert status["details"] == {"name": "none", "kind": "configmaps"}
        invalid = await api.admin.request("POST", MAPS, {"metadata": {"name": "A_"}}, accept=GO)
        plainly = (await api.admin.request("POST", MAPS, {"metadata": {"name": "A_"}})).json()
        assert decode(invalid.body)["details"] == plainly["details"]

    serve(test)


def test_deletions_are_answered_in_protobuf() -> None:
    async def test(api: InProcessApi) -> None:
        await make(api, "a", "b")
        answer = await api.admin.request("DELETE", f"{MAPS}/a", accept=GO)
        assert (decode(answer.body)["kind"], decode(answer.body)["status"]) == ("Status", "Success")
        every = unpacked((await api.admin.request("DELETE", MAPS, accept=GO)).body)
        assert every[:2] == ("v1", "ConfigMapList")

    serve(test)


def test_reviews_and_tokens_both_ways() -> None:
    async def test(api: InProcessApi) -> None:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await api.admin.request("POST", path, encode(review), content_type=MEDIA_TYPE, accept=GO)
        assert decode(answer.body)["status"]["allowed"] is True
        await api.admin.request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "sa"}})
        token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        path = "/api/v1/namespaces/default/serviceaccounts/sa/token"
        answer = await api.admin.request("POST", path, encode(token), content_type=MEDIA_TYPE, accept=GO)
        assert (answer.status, answer.header("content-type")) == (201, MEDIA_TYPE)
        assert decode(answer.body)["status"]["token"].count(".") == 2

    serve(test)


def test_an_envelope_without_a_kind_holds_what_is_expected() -> None:
    async def test(api: InProcessApi) -> None:
        body = encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
        bare = envelope("", "", unpacked(body)[2])
        assert (await api.admin.request("POST", MAPS, bare, content_type=MEDIA_TYPE)).status == 201

    serve(test)


@pytest.mark.parametrize(
    "path", ["/api", "/apis", "/api/v1", "/apis/discovery.k8s.io/v1", "/version", "/openapi/v3", "/readyz"]
)
def test_documents_stay_as_they_are(path: str) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("GET", path, accept=GO)
        assert answer.header("content-type") in ("application/json", "text/plain; charset=utf-8")
        if answer.status == 200 and path != "/readyz":
            orjson.loads(answer.body)

    serve(test)


def test_every_kind_and_list_has_a_message() -> None:
    assert all(message_for(kind.api_version, kind.kind) is not None for kind in KINDS)
