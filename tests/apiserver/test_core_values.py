"""The pure parts around a request: Accept headers, options, routes, continue tokens, object metadata."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver import continuation, metadata
from portway.apiserver.continuation import Continuation
from portway.apiserver.handlers.common import warning
from portway.apiserver.kinds import KINDS
from portway.apiserver.negotiation import PROTOBUF, Offer, Representation, negotiate, negotiate_refusal
from portway.apiserver.options import list_options, write_options
from portway.apiserver.reviews import VIRTUAL
from portway.apiserver.routing import Route, Router, VirtualRoute
from portway.kube import names
from portway.kube.attributes import parse
from portway.kube.errors import BadRequest, Invalid, NotAcceptable, StatusError

BINARY = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
ROUTER = Router(KINDS, VIRTUAL)


@pytest.mark.parametrize(
    ("accept", "listing", "wanted"),
    [
        ("", False, Representation()),
        ("*/*", False, Representation()),
        ("application/*", False, Representation()),
        (f"{BINARY},application/json", True, PROTOBUF),
        (f"application/json,{BINARY}", True, Representation()),
        (f"{BINARY};q=0.5,application/json", False, Representation()),
        (f"*/*,{BINARY}", False, PROTOBUF),
        (f"{BINARY};stream=watch,application/json", False, PROTOBUF),
        (f"{BINARY};stream=other,application/json", False, Representation()),
        (f"{BINARY};as=Table;v=v1;g=meta.k8s.io,{TABLE}", True, Representation(target="Table")),
        (f"{BINARY};as=Table;v=v1;g=meta.k8s.io,{BINARY}", True, PROTOBUF),
        (
            f"{BINARY};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            True,
            Representation("protobuf", "PartialObjectMetadata"),
        ),
        ("application/cbor,application/json;q=0.1", False, Representation()),
        ("application/*, application/yaml", False, Representation("yaml")),
        ("application/yaml", False, Representation("yaml")),
        ("application/json;q=0.1, application/yaml;q=0.9", False, Representation("yaml")),
        (f"{TABLE},application/json", True, Representation(target="Table")),
        (TABLE.replace("v=v1;", "v=v1beta1;"), False, Representation(target="Table", version="v1beta1")),
        ("application/json;as=Table;v=v2;g=meta.k8s.io, application/json", False, Representation()),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            True,
            Representation(target="PartialObjectMetadata"),
        ),
        (
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            False,
            Representation(target="PartialObjectMetadata"),
        ),
        ("application/json;q=0, */*;q=0.5", False, Representation()),
    ],
)
def test_the_first_acceptable_representation_is_chosen(accept: str, listing: bool, wanted: Representation) -> None:
    assert negotiate(accept, None, "kubectl", Offer(listing=listing)) == wanted


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/cbor",
        f"{BINARY};as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=Table;v=v2;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;g=other;v=v1",
        "application/json;q=0",
    ],
)
def test_what_cannot_be_produced_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="only the following media types are accepted"):
        negotiate(accept, None, "")


@pytest.mark.parametrize(
    ("accept", "offer", "listed"),
    [
        ("text/html", Offer(), f"application/json, application/yaml, {BINARY}"),
        (BINARY, Offer(protobuf=False), "application/json, application/yaml"),
        ("application/yaml", Offer(stream=True), f"application/json;stream=watch, {BINARY};stream=watch"),
    ],
)
def test_a_refusal_lists_what_is_offered(accept: str, offer: Offer, listed: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        negotiate(accept, None, "", offer)
    assert str(caught.value) == f"only the following media types are accepted: {listed}"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (f"{BINARY},application/json", PROTOBUF),
        (f"{BINARY};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json", Representation()),
        (TABLE, Representation()),
        ("text/html", Representation()),
        ("application/yaml", Representation("yaml")),
    ],
)
def test_errors_are_told_in_the_form_that_was_asked_for_and_in_json_to_the_rest(
    accept: str, wanted: Representation
) -> None:
    assert negotiate_refusal(accept, None, "") == wanted


def test_where_targets_are_ignored_the_object_itself_is_given() -> None:
    assert negotiate(TABLE, None, "", Offer(targets="ignored")) == Representation()


@pytest.mark.parametrize(
    ("pretty", "agent", "indented"),
    [
        (None, "curl/8.1", True),
        (None, "Mozilla/5.0 (X11)", True),
        (None, "kubectl/v1.30", False),
        ("1", "kubectl", True),
        ("false", "curl/8.1", False),
    ],
)
def test_people_get_indented_answers(pretty: str | None, agent: str, indented: bool) -> None:
    assert negotiate("*/*", pretty, agent).pretty is indented


@given(st.text(max_size=60))
def test_no_accept_header_breaks_negotiation(accept: str) -> None:
    try:
        negotiate(accept, None, "")
    except NotAcceptable:
        pass


@pytest.mark.parametrize(
    ("params", "watch", "error"),
    [
        ({"limit": "x"}, False, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"limit": "0" * 5000}, False, 'strconv.ParseInt: parsing "000'),
        ({"resourceVersion": "-1"}, False, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (
            {"resourceVersionMatch": "Exact"},
            False,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, False, 'is forbidden for resourceVersion "0"'),
        ({"resourceVersionMatch": "Some", "resourceVersion": "1"}, False, 'Unsupported value: "Some"'),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "1", "continue": "x"},
            False,
            "resourceVersionMatch is forbidden when continue is provided",
        ),
        ({"sendInitialEvents": "true"}, False, "sendInitialEvents is forbidden for list"),
        ({"resourceVersionMatch": "Exact"}, True, "is forbidden for watch unless sendInitialEvents is provided"),
        ({"sendInitialEvents": "true"}, True, "requires setting resourceVersionMatch to NotOlderThan"),
        ({"sendInitialEvents": "true", "resourceVersionMatch": "Exact"}, True, 'Unsupported value: "Exact"'),
        ({"labelSelector": "!!"}, False, "unable to parse requirement: found '!', expected: identifier"),
    ],
)
def test_options_that_contradict_are_refused(params: dict[str, str], watch: bool, error: str) -> None:
    with pytest.raises(StatusError) as caught:
        list_options(params, watch=watch)
    assert error in caught.value.message


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"dryRun": "Some"}, "dryRun"),
        ({"fieldManager": "x" * 129}, "fieldManager"),
        ({"fieldManager": "a\n"}, "fieldManager"),
        ({"fieldValidation": "strict"}, "fieldValidation"),
    ],
)
def test_write_options_are_checked(params: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        write_options(params, "CreateOptions")
    assert caught.value.details is not None
    assert caught.value.details["kind"] == "CreateOptions"
    assert [cause["field"] for cause in caught.value.details["causes"]] == [field]


@pytest.mark.parametrize(
    ("params", "agent", "manager"),
    [
        ({}, "kubectl/v1.36.0 (linux/amd64)", "kubectl"),
        ({}, "", ""),
        ({}, "a\tb", "ab"),
        ({}, "é" * 100, "é" * 64),
        ({"fieldManager": "me"}, "kubectl/v1.36.0", "me"),
    ],
)
def test_who_names_no_manager_is_known_by_its_user_agent(params: dict[str, str], agent: str, manager: str) -> None:
    assert write_options(params, "CreateOptions", agent).manager == manager


@pytest.mark.parametrize(
    ("params", "applies", "text"),
    [
        ({}, True, "fieldManager: Required value: is required for apply patch"),
        ({"force": "true"}, False, "force: Forbidden: may not be specified for non-apply patch"),
    ],
)
def test_an_apply_names_its_manager_and_nothing_else_forces(params: dict[str, str], applies: bool, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        write_options(params, "PatchOptions", "kubectl", applies=applies)
    assert caught.value.message == f'PatchOptions.meta.k8s.io "" is invalid: {text}'


def route(method: str, path: str, query: str = "") -> Route | VirtualRoute:
    return ROUTER.route(method, parse(method, path, query))


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", "", ("pods", "list", "", "", "")),
        ("HEAD", "/api/v1/namespaces/n/pods", "", ("pods", "list", "n", "", "")),
        ("GET", "/api/v1/namespaces/n/pods", "watch=1", ("pods", "watch", "n", "", "")),
        ("GET", "/api/v1/namespaces/n/pods", "fieldSelector=metadata.name%3Dx", ("pods", "list", "n", "", "")),
        ("GET", "/api/v1/watch/namespaces/n/pods/p", "", ("pods", "watch", "n", "p", "")),
        ("GET", "/api/v1/namespaces/n/pods/p", "watch=1", ("pods", "get", "n", "p", "")),
        ("POST", "/api/v1/namespaces/n/pods", "", ("pods", "create", "n", "", "")),
        ("PUT", "/api/v1/namespaces/n/pods/p/status", "", ("pods", "update", "n", "p", "status")),
        ("DELETE", "/api/v1/namespaces/n/pods", "", ("pods", "deletecollection", "n", "", "")),
        ("GET", "/api/v1/namespaces/n", "", ("namespaces", "get", "", "n", "")),
        ("PUT", "/api/v1/namespaces/n/finalize", "", ("namespaces", "update", "", "n", "finalize")),
        ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/r", "", ("clusterroles", "patch", "", "r", "")),
    ],
)
def test_routes(method: str, path: str, query: str, expected: tuple[str, ...]) -> None:
    found = route(method, path, query)
    assert isinstance(found, Route)
    assert (found.kind.plural, found.verb, found.namespace, found.name, found.subresource) == expected


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/namespaces/n/gadgets", 404),
        ("GET", "/api/v2/pods", 404),
        ("GET", "/apis/apps/v1/deployments", 404),
        ("GET", "/api/v1/pods/p", 404),
        ("GET", "/api/v1/namespaces/n/nodes", 404),
        ("GET", "/api/v1/namespaces/n/pods/p/log", 404),
        ("GET", "/api/v1/namespaces/n/pods/p/status/more", 404),
        ("GET", "/api/v1/proxy/namespaces/n/services/s", 404),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews/x", 404),
        ("POST", "/apis/authorization.k8s.io/v1/localsubjectaccessreviews", 404),
        ("POST", "/api/v1/pods", 405),
        ("POST", "/api/v1/namespaces/n/pods/p", 405),
        ("PUT", "/api/v1/namespaces/n/pods", 405),
        ("OPTIONS", "/api/v1/namespaces/n/pods", 405),
        ("DELETE", "/api/v1/namespaces/n/pods/p/status", 405),
        ("POST", "/api/v1/watch/namespaces/n/pods", 405),
        # Authorised as a watch, so that whoever may read everything could make tokens for anybody.
        ("POST", "/api/v1/watch/namespaces/n/serviceaccounts/a/token", 405),
        ("POST", "/apis/authentication.k8s.io/v1/watch/tokenreviews", 405),
        # Authorised in namespace n, whose administrator is nobody in namespace other.
        ("GET", "/api/v1/namespaces/n/namespaces", 404),
        ("POST", "/api/v1/namespaces/n/namespaces", 404),
        ("GET", "/api/v1/namespaces/n/namespaces/other", 404),
        ("DELETE", "/api/v1/namespaces/n/namespaces/other", 404),
        ("PUT", "/api/v1/namespaces/n/namespaces/other/finalize", 404),
        ("GET", "/api/v1/watch/namespaces/n/namespaces/other", 404),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews", 405),
    ],
)
def test_what_is_not_served_is_refused(method: str, path: str, code: int) -> None:
    with pytest.raises(StatusError) as caught:
        route(method, path)
    assert caught.value.code == code


def test_virtual_resources_are_routed_to_their_handlers() -> None:
    review = route("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    token = route("POST", "/api/v1/namespaces/n/serviceaccounts/default/token")
    assert isinstance(review, VirtualRoute)
    assert isinstance(token, VirtualRoute)
    assert (review.resource.kind, token.resource.kind, token.namespace, token.name) == (
        "TokenReview",
        "TokenRequest",
        "n",
        "default",
    )


@given(
    st.integers(1, 2**62), st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda s: s[0] != "/")
)
def test_a_continue_token_says_again_what_it_was_made_of(revision: int, after: str) -> None:
    assert continuation.parse(Continuation(revision, after).token()) == Continuation(revision, after)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "e30",
        Continuation(0, "a").token(),
        Continuation(-2, "a").token(),
        Continuation(5, "/a").token(),
        base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":"5","start":"a\\u0000"}').decode(),
        base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":true,"start":"a\\u0000"}').decode(),
        base64.urlsafe_b64encode(b'{"v":"v2","rv":5,"start":"a\\u0000"}').decode(),
        base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":5,"start":"a"}').decode(),
    ],
)
def test_any_other_token_is_a_bad_request(token: str) -> None:
    with pytest.raises(BadRequest, match="continue key is not valid"):
        continuation.parse(token)


def test_an_expired_token_brings_one_that_goes_on_inconsistently() -> None:
    token = continuation.expired("ns/a").status()["metadata"]["continue"]
    assert continuation.parse(token) == Continuation(continuation.INCONSISTENT, "ns/a")


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"name": ""}, ["metadata.name"]),
        ({"name": "A"}, ["metadata.name"]),
        ({"generateName": "ok-"}, []),
        ({"generateName": "No-"}, ["metadata.generateName"]),
        ({"labels": {"a b": "c"}}, ["metadata.labels"]),
        ({"labels": {"a": "c d"}}, ["metadata.labels"]),
        ({"annotations": {"a b": "anything at all"}}, ["metadata.annotations"]),
        ({"annotations": {"a": "x" * (256 * 1024)}}, ["metadata.annotations"]),
        ({"finalizers": ["a b"]}, ["metadata.finalizers", "metadata.finalizers[0]"]),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}, []),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}, ["metadata.ownerReferences[0].uid"]),
        (
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": True} for name in "ab"
                ]
            },
            ["metadata.ownerReferences"],
        ),
    ],
)
def test_metadata_is_validated(changes: dict[str, Any], fields: list[str]) -> None:
    obj = {"metadata": {"name": "ok", **changes}}
    assert [cause.field for cause in metadata.validate(obj, names.is_dns1123_subdomain)] == fields


def test_warnings_are_quoted_and_cannot_break_out_of_their_header() -> None:
    assert warning('unknown field "a\\b\r\nSet-Cookie: x"') == (
        b"warning",
        b'299 - "unknown field \\"a\\\\bSet-Cookie: x\\""',
    )
