"""Reviews, tokens, and the rule that nobody grants what they don't hold; all through the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from portway.kube.identity import User
from portway.testing.api import ISSUER, InProcessApi

AUTHENTICATION, AUTHORIZATION = "/apis/authentication.k8s.io/v1/", "/apis/authorization.k8s.io/v1/"
RBAC = "/apis/rbac.authorization.k8s.io/v1/"
GROUP = "rbac.authorization.k8s.io"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
MERGE = "application/merge-patch+json"
ONE_OF = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
BAD_SECONDS = 'TokenRequest.authentication.k8s.io "sa" is invalid: spec.expirationSeconds'
TOKENS = {"carol-token": User("carol", groups=("named", "devs"))}


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi(token_users=TOKENS) as api:
            await test(api)

    asyncio.run(run())


async def post(caller: Any, path: str, obj: Mapping[str, Any], status: int = 201) -> Any:
    answer = await caller.request("POST", path, obj)
    assert answer.status == status, answer.body
    return answer.json()


async def grant(api: InProcessApi, user: str, *rules: dict[str, Any], name: str = "r", namespace: str = "") -> None:
    """Makes a role with rules and binds it to a user."""
    scope, kind = (f"namespaces/{namespace}/", "Role") if namespace else ("", "ClusterRole")
    plural = f"{kind.lower()}s"
    await post(api.admin, f"{RBAC}{scope}{plural}", {"metadata": {"name": name}, "rules": list(rules)})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
        "subjects": [{"kind": "User", "name": user}],
    }
    await post(api.admin, f"{RBAC}{scope}{kind.lower()}bindings", binding)


def rule(resources: str, *verbs: str, group: str = "", **parts: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": [resources], "verbs": list(verbs), **parts}


ASKED = {"namespace": "demo", "verb": "get", "resource": "services", "subresource": "proxy", "name": "web:http"}


def test_may_i() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, "/api/v1/namespaces", {"metadata": {"name": "demo"}})
        await grant(api, "reader", rule("services/proxy", "get"), name="reader", namespace="demo")
        reader = api.user("reader", "system:authenticated")
        kind = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
        review = {**kind, "spec": {"resourceAttributes": ASKED}}
        assert await post(reader, f"{AUTHORIZATION}selfsubjectaccessreviews", review) == {
            **kind,
            "metadata": {},
            "spec": {"resourceAttributes": ASKED},
            "status": {
                "allowed": True,
                "reason": 'RBAC: allowed by RoleBinding "reader/demo" of Role "reader" to User "reader"',
            },
        }
        denied = {"spec": {"resourceAttributes": {**ASKED, "verb": "create"}}}
        found = await post(reader, f"{AUTHORIZATION}selfsubjectaccessreviews", denied)
        assert found["status"] == {"allowed": False}
        path = {"spec": {"nonResourceAttributes": {"path": "/version", "verb": "get"}}}
        found = await post(reader, f"{AUTHORIZATION}selfsubjectaccessreviews", path)
        assert found["status"]["allowed"] is True
        other = {"spec": {"user": "reader", "resourceAttributes": ASKED}}
        found = await post(api.admin, f"{AUTHORIZATION}subjectaccessreviews", other)
        assert found["status"]["allowed"] is True
        other["spec"]["user"] = "nobody"
        found = await post(api.admin, f"{AUTHORIZATION}subjectaccessreviews", other)
        assert found["status"] == {"allowed": False}
        local = f"{AUTHORIZATION}namespaces/demo/localsubjectaccessreviews"
        assert (await post(api.admin, local, other))["status"] == {"allowed": False}
        await post(api.admin, local.replace("demo", "default"), other, 400)

    serve(test)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"user": "u"},
            f'spec.resourceAttributes: Invalid value: "null": {ONE_OF}',
        ),
        (
            {"resourceAttributes": {"verb": "get"}},
            'spec.user: Invalid value: "": at least one of user or group must be specified',
        ),
        (
            {"user": "u", "resourceAttributes": {}, "nonResourceAttributes": {}},
            "spec.nonResourceAttributes: Invalid value: {}: cannot be specified in combination with resourceAttributes",
        ),
    ],
)
def test_questions_that_make_no_sense(spec: dict[str, Any], expected: str) -> None:
    async def test(api: InProcessApi) -> None:
        found = await post(api.admin, f"{AUTHORIZATION}subjectaccessreviews", {"spec": spec}, 422)
        assert found["message"] == f'SubjectAccessReview.authorization.k8s.io "" is invalid: {expected}'

    serve(test)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"user": "u", "nonResourceAttributes": {"path": "/x", "verb": "get"}},
            'spec.nonResourceAttributes: Invalid value: {"path":"/x","verb":"get"}: disallowed on this kind of request',
        ),
        ({"user": "u"}, f'spec.resourceAttributes: Invalid value: "null": {ONE_OF}'),
    ],
)
def test_local_questions_that_make_no_sense(spec: dict[str, Any], expected: str) -> None:
    async def test(api: InProcessApi) -> None:
        local = f"{AUTHORIZATION}namespaces/default/localsubjectaccessreviews"
        found = await post(api.admin, local, {"spec": spec}, 422)
        assert found["message"] == f'LocalSubjectAccessReview.authorization.k8s.io "" is invalid: {expected}'

    serve(test)


def test_a_question_has_no_name() -> None:
    async def test(api: InProcessApi) -> None:
        review = {"metadata": {"labels": {"a": "b"}}, "spec": {"resourceAttributes": ASKED}}
        found = await post(api.admin, f"{AUTHORIZATION}selfsubjectaccessreviews", review, 422)
        assert found["details"]["causes"][0]["field"] == "metadata"

    serve(test)


def test_what_may_i() -> None:
    async def test(api: InProcessApi) -> None:
        await grant(api, "ann", rule("pods", "get", "list", resourceNames=["p"]))
        await grant(api, "ann", {"nonResourceURLs": ["/x"], "verbs": ["get"]}, name="paths")
        found = await post(
            api.user("ann"), f"{AUTHORIZATION}selfsubjectrulesreviews", {"spec": {"namespace": "default"}}
        )
        assert found["status"] == {
            "resourceRules": [
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"]}
            ],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}],
            "incomplete": False,
        }
        await post(api.user("ann"), f"{AUTHORIZATION}selfsubjectrulesreviews", {"spec": {}}, 400)

    serve(test)


def test_who_am_i() -> None:
    async def test(api: InProcessApi) -> None:
        found = await post(
            api.user("carol", "named", "system:authenticated"), f"{AUTHENTICATION}selfsubjectreviews", {}
        )
        assert found["status"] == {"userInfo": {"username": "carol", "groups": ["named", "system:authenticated"]}}

    serve(test)


def test_whose_token_is_it() -> None:
    async def test(api: InProcessApi) -> None:
        kind = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1"}
        review = {**kind, "spec": {"token": "carol-token"}}
        assert await post(api.admin, f"{AUTHENTICATION}tokenreviews", review) == {
            **review,
            "metadata": {},
            "status": {
                "authenticated": True,
                "user": {"username": "carol", "groups": ["named", "devs", "system:authenticated"]},
                "audiences": [ISSUER],
            },
        }
        refused = {"user": {}, "error": "invalid bearer token"}
        for spec in ({"token": "nope"}, {"token": "carol-token", "audiences": ["other"]}):
            found = await post(api.admin, f"{AUTHENTICATION}tokenreviews", {"spec": spec})
            assert found["status"] == refused
        await post(api.admin, f"{AUTHENTICATION}tokenreviews", {"spec": {}}, 400)

    serve(test)


async def review(api: InProcessApi, token: str) -> dict[str, Any]:
    found = await post(api.admin, f"{AUTHENTICATION}tokenreviews", {"spec": {"token": token}})
    status = found["status"]
    assert isinstance(status, dict)
    return status


def test_a_service_account_s_token_lives_as_long_as_the_account() -> None:
    async def test(api: InProcessApi) -> None:
        account = await post(api.admin, ACCOUNTS, {"metadata": {"name": "sa"}})
        made = await post(api.admin, f"{ACCOUNTS}/sa/token", {"spec": {"expirationSeconds": 600}})
        assert made["spec"] == {"audiences": [ISSUER], "expirationSeconds": 600}
        assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("sa", "default")
        status = await review(api, made["status"]["token"])
        assert status["user"]["username"] == "system:serviceaccount:default:sa"
        assert status["user"]["uid"] == account["metadata"]["uid"]
        assert set(status["user"]["groups"]) == {
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated",
        }
        assert (await api.admin.request("DELETE", f"{ACCOUNTS}/sa")).status == 200
        assert (await review(api, made["status"]["token"]))["error"] == "invalid bearer token"
        # Another account of the same name is another account.
        await post(api.admin, ACCOUNTS, {"metadata": {"name": "sa"}})
        assert "authenticated" not in await review(api, made["status"]["token"])

    serve(test)


def test_a_token_bound_to_a_pod_dies_with_it() -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, "/api/v1/nodes", {"metadata": {"name": "n1"}})
        await post(api.admin, ACCOUNTS, {"metadata": {"name": "sa"}})
        spec = {"serviceAccountName": "sa", "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
        pods = "/api/v1/namespaces/default/pods"
        pod = await post(api.admin, pods, {"metadata": {"name": "p"}, "spec": spec})
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
        made = await post(api.admin, f"{ACCOUNTS}/sa/token", {"spec": {"boundObjectRef": bound}})
        extra = (await review(api, made["status"]["token"]))["user"]["extra"]
        assert extra["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]
        assert extra["authentication.kubernetes.io/node-name"] == ["n1"]
        stale = {"spec": {"boundObjectRef": {**bound, "uid": "other"}}}
        await post(api.admin, f"{ACCOUNTS}/sa/token", stale, 409)
        assert (await api.admin.request("DELETE", f"{pods}/p?gracePeriodSeconds=0")).status == 200
        assert "authenticated" not in await review(api, made["status"]["token"])

    serve(test)


@pytest.mark.parametrize(
    ("account", "spec", "status", "expected"),
    [
        ("nope", {}, 404, 'serviceaccounts "nope" not found'),
        (
            "sa",
            {"expirationSeconds": 599},
            422,
            f"{BAD_SECONDS}: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            "sa",
            {"expirationSeconds": (1 << 32) + 1},
            422,
            f"{BAD_SECONDS}: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            "sa",
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}},
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        ("sa", {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "x"}}, 404, 'secrets "x" not found'),
        (
            "sa",
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}},
            400,
            'cannot bind token for serviceaccount "sa" to pod running with different serviceaccount name.',
        ),
    ],
)
def test_tokens_that_are_not_made(account: str, spec: dict[str, Any], status: int, expected: str) -> None:
    async def test(api: InProcessApi) -> None:
        await post(api.admin, ACCOUNTS, {"metadata": {"name": "sa"}})
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await post(api.admin, "/api/v1/namespaces/default/pods", pod)
        found = await post(api.admin, f"{ACCOUNTS}/{account}/token", {"spec": spec}, status)
        assert found["message"] == expected

    serve(test)


def test_nobody_grants_what_they_do_not_hold() -> None:
    async def test(api: InProcessApi) -> None:
        await grant(api, "ann", rule("pods", "get", "list"))
        ann = api.user("ann", "devs")
        roles = f"{RBAC}namespaces/default/roles"
        await post(ann, roles, {"metadata": {"name": "held"}, "rules": [rule("pods", "get")]})
        wanted = {"metadata": {"name": "more"}, "rules": [rule("pods", "get", "delete"), rule("secrets", "get")]}
        found = await post(ann, roles, wanted, 403)
        assert found["message"] == (
            'roles.rbac.authorization.k8s.io "more" is forbidden: user "ann" (groups=["devs"]) is attempting to grant'
            " RBAC permissions not currently held:\n"
            '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
            '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
        )
        assert found["details"] == {"name": "more", "group": GROUP, "kind": "roles"}
        answer = await ann.request("PATCH", f"{roles}/held", {"rules": wanted["rules"]}, content_type=MERGE)
        assert answer.status == 403
        answer = await ann.request("PATCH", f"{roles}/held", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
        assert answer.status == 200
        await grant(api, "ann", rule("roles", "escalate", group=GROUP), name="escalate")
        await post(ann, roles, wanted)

    serve(test)


def test_nobody_aggregates_without_holding_everything() -> None:
    async def test(api: InProcessApi) -> None:
        await grant(api, "ann", rule("pods", "get"))
        selectors = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
        wanted = {"metadata": {"name": "sum"}, "aggregationRule": selectors}
        found = await post(api.user("ann"), f"{RBAC}clusterroles", wanted, 403)
        assert found["message"].endswith("must have cluster-admin privileges to use an aggregationRule")
        await post(api.admin, f"{RBAC}clusterroles", wanted)

    serve(test)


def test_nobody_binds_what_they_do_not_hold() -> None:
    async def test(api: InProcessApi) -> None:
        await grant(api, "ann", rule("pods", "get"))
        bindings, powerful = f"{RBAC}namespaces/default/rolebindings", "system:kubelet-api-admin"

        def binding(role: str, name: str) -> dict[str, Any]:
            reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}
            return {
                "metadata": {"name": name},
                "roleRef": reference,
                "subjects": [{"kind": "Group", "name": "g"}],
            }

        ann = api.user("ann")
        await post(ann, bindings, binding("r", "held"))
        assert "not currently held" in (await post(ann, bindings, binding(powerful, "more"), 403))["message"]
        found = await post(ann, bindings, binding("nope", "missing"), 404)
        assert found["message"] == 'clusterroles.rbac.authorization.k8s.io "nope" not found'
        await grant(api, "ann", rule("clusterroles", "bind", group=GROUP, resourceNames=[powerful]), name="bind")
        await post(ann, bindings, binding(powerful, "more"))
        await post(ann, bindings, binding("cluster-admin", "most"), 403)

    serve(test)
