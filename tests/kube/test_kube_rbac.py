"""RBAC: upstream's cases, the reasons it gives, and agreement with an evaluator that knows no index."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.kube.attributes import Attributes, parse
from portway.kube.identity import MASTERS, User, service_account_name
from portway.kube.rbac import KINDS, RBAC, Decision, Rule

GROUP = "rbac.authorization.k8s.io"
Object = dict[str, Any]


def rule(verbs: str, groups: str = "", resources: str = "", names: str = "", urls: str = "") -> Object:
    """A rule from comma-separated lists; ``core`` is the core group."""
    lists = {
        "verbs": verbs,
        "apiGroups": groups,
        "resources": resources,
        "resourceNames": names,
        "nonResourceURLs": urls,
    }
    return {key: text.replace("core", "").split(",") for key, text in lists.items() if text}


def role(*rules: Object) -> Object:
    return {"rules": list(rules)}


def binding(role_name: str, *subjects: str, kind: str = "ClusterRole") -> Object:
    """A binding; a subject is ``User:name``, ``Group:name`` or ``ServiceAccount:namespace:name``."""
    parts = [subject.split(":", 2) for subject in subjects]
    listed = [{"kind": p[0], "name": p[-1], **({"namespace": p[1]} if len(p) == 3 else {})} for p in parts]
    return {"roleRef": {"apiGroup": GROUP, "kind": kind, "name": role_name}, "subjects": listed}


def build(objects: Mapping[tuple[str, str, str], Object]) -> RBAC:
    rbac = RBAC()
    for (kind, namespace, name), obj in objects.items():
        rbac.set(kind, namespace, name, obj)
    return rbac


def request(method: str, path: str) -> Attributes:
    return parse(method, path)


EVERYTHING = {
    ("ClusterRole", "", "admin"): role(rule("*", "*", "*"), rule("*", urls="*")),
    ("RoleBinding", "ns1", "r1"): binding("admin", "User:admin", "Group:admins"),
}


@pytest.mark.parametrize("user", [User("admin"), User("bob", groups=("x", "admins"))])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/namespaces/ns1/pods", True),
        ("/api/v1/namespaces/ns1/pods/p/proxy/x", True),
        ("/apis/apps/v1/namespaces/ns1/deployments/d", True),
        ("/api/v1/namespaces/ns2/pods", False),
        ("/api/v1/pods", False),
        ("/api/v1/nodes", False),
        ("/version", False),
    ],
)
def test_a_role_binding_to_a_cluster_role_grants_in_its_namespace(user: User, path: str, allowed: bool) -> None:
    assert build(EVERYTHING).decide(user, request("GET", path)).allowed is allowed


@pytest.mark.parametrize("subject", ["User:bob", "Group:Admins", "Group:admin", "Robot:admin", "ServiceAccount:admin"])
def test_nobody_else_is_granted_anything(subject: str) -> None:
    rbac = build({**EVERYTHING, ("RoleBinding", "ns1", "r1"): binding("admin", subject)})
    assert not rbac.decide(User("admin"), request("GET", "/api/v1/namespaces/ns1/pods")).allowed


def paths(*rules: Object) -> RBAC:
    return build(
        {("ClusterRole", "", "r"): role(*rules), ("ClusterRoleBinding", "", "b"): binding("r", "User:u")},
    )


@pytest.mark.parametrize(
    ("urls", "verb", "path", "allowed"),
    [
        ("/apis", "get", "/apis", True),
        ("/apis", "get", "/apis/", False),
        ("/apis/*", "get", "/apis", False),
        ("/apis/*", "get", "/apis/x", True),
        ("/apis/*", "get", "/apis/x/y", True),
        ("/apis/*", "get", "/notapis/x", False),
        ("/apis*", "get", "/apis", True),
        ("*", "get", "/anything", True),
        ("/a,/b", "get", "/b", True),
        ("/apis", "post", "/apis", False),
        ("/a*b", "get", "/axb", False),
    ],
)
def test_paths(urls: str, verb: str, path: str, allowed: bool) -> None:
    attributes = Attributes(verb, path=path, resource_request=False)
    assert paths(rule("get", urls=urls)).decide(User("u"), attributes).allowed is allowed


@pytest.mark.parametrize(
    ("granted", "method", "path", "allowed"),
    [
        (rule("*", "*", "pods"), "GET", "/api/v1/namespaces/n/pods/p", True),
        (rule("*", "*", "pods"), "GET", "/api/v1/namespaces/n/pods/p/status", False),
        (rule("*", "*", "pods"), "GET", "/api/v1/namespaces/n/pods/p/proxy", False),
        (rule("*", "*", "pods/*"), "GET", "/api/v1/namespaces/n/pods/p/proxy", False),
        (rule("*", "*", "pods/status"), "GET", "/api/v1/namespaces/n/pods/p/status", True),
        (rule("*", "*", "pods/status"), "GET", "/api/v1/namespaces/n/pods/p", False),
        (rule("*", "*", "*/proxy"), "GET", "/api/v1/namespaces/n/services/s/proxy/x", True),
        (rule("*", "*", "*/proxy"), "GET", "/api/v1/namespaces/n/services/s", False),
        (rule("*", "*", "*"), "GET", "/api/v1/namespaces/n/services/s/proxy/x", True),
        (rule("get", "core", "pods"), "GET", "/api/v1/namespaces/n/pods/p", True),
        (rule("get", "core", "pods"), "HEAD", "/api/v1/namespaces/n/pods/p", True),
        (rule("get", "core", "pods"), "GET", "/api/v1/namespaces/n/pods", False),
        (rule("get", "core", "pods"), "GET", "/apis/metrics.k8s.io/v1/namespaces/n/pods/p", False),
        (rule("get", "core", "Pods"), "GET", "/api/v1/namespaces/n/pods/p", False),
        (
            rule("get,create,delete", "core", "services/proxy"),
            "OPTIONS",
            "/api/v1/namespaces/n/services/s/proxy",
            False,
        ),
        (rule("*", "core", "services/proxy"), "OPTIONS", "/api/v1/namespaces/n/services/s/proxy", True),
        (rule("*", "core", "services/proxy", "s"), "GET", "/api/v1/namespaces/n/services/s/proxy", True),
        (rule("*", "core", "services/proxy", "s"), "POST", "/api/v1/namespaces/n/services/s/proxy", True),
        (rule("*", "core", "services/proxy", "s"), "GET", "/api/v1/namespaces/n/services/s:/proxy", False),
        (rule("*", "core", "services/proxy", "s"), "GET", "/api/v1/namespaces/n/services/http:s:80/proxy", False),
        (rule("*", "core", "pods", "p"), "GET", "/api/v1/namespaces/n/pods", False),
        (rule("*", "core", "pods", "p"), "GET", "/api/v1/namespaces/n/pods?fieldSelector=metadata.name%3Dp", True),
        (rule("proxy", "core", "services"), "GET", "/api/v1/proxy/namespaces/n/services/s/x", True),
        (rule("get", "core", "services/proxy"), "GET", "/api/v1/proxy/namespaces/n/services/s/x", False),
    ],
)
def test_resources(granted: Object, method: str, path: str, allowed: bool) -> None:
    path, _, query = path.partition("?")
    attributes = parse(method, path, query)
    assert paths(granted).decide(User("u"), attributes).allowed is allowed
    bound_there = build(
        {("Role", "n", "r"): role(granted), ("RoleBinding", "n", "b"): binding("r", "User:u", kind="Role")}
    )
    assert bound_there.decide(User("u"), attributes).allowed is allowed


def test_another_spelling_of_a_granted_name_is_granted() -> None:
    rbac = paths(rule("get", "core", "services/proxy", "web:http"))
    attributes = request("GET", "/api/v1/namespaces/n/services/web:80/proxy")
    assert not rbac.decide(User("u"), attributes).allowed
    assert rbac.decide(User("u"), attributes, ("web:80", "web:http")).allowed
    assert not rbac.decide(User("u"), attributes, ("web:https", "https:web:http")).allowed


PODS = "/api/v1/namespaces/ns/pods"


# What an authoriser's reason looks like in a review's status and in the audit log.
@pytest.mark.parametrize(
    ("objects", "user", "reason"),
    [
        (
            {
                ("Role", "ns", "r"): role(rule("*", "*", "*")),
                ("RoleBinding", "ns", "b"): binding("r", "User:u", kind="Role"),
            },
            User("u"),
            'RBAC: allowed by RoleBinding "b/ns" of Role "r" to User "u"',
        ),
        (
            {
                ("ClusterRole", "", "r"): role(rule("*", "*", "*")),
                ("ClusterRoleBinding", "", "b"): binding("r", "Group:h", "Group:g"),
            },
            User("u", groups=("f", "g")),
            'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to Group "g"',
        ),
        (
            {
                ("ClusterRole", "", "r"): role(rule("*", "*", "*")),
                ("RoleBinding", "ns", "b"): binding("r", "ServiceAccount:robot"),
            },
            User(service_account_name("ns", "robot")),
            'RBAC: allowed by RoleBinding "b/ns" of ClusterRole "r" to ServiceAccount "robot/ns"',
        ),
        (
            {
                ("ClusterRole", "", "r"): role(rule("*", "*", "*")),
                ("RoleBinding", "ns", "b"): binding(
                    "r", "ServiceAccount:other:robot", "User:system:serviceaccount:x:y"
                ),
            },
            User(service_account_name("other", "robot")),
            'RBAC: allowed by RoleBinding "b/ns" of ClusterRole "r" to ServiceAccount "robot/other"',
        ),
        (
            {
                ("ClusterRole", "", "r"): role(rule("*", "*", "*")),
                ("ClusterRoleBinding", "", "all"): binding("r", "User:u"),
                ("RoleBinding", "ns", "b"): binding("r", "User:u"),
            },
            User("u"),
            'RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "r" to User "u"',
        ),
        (
            {
                ("ClusterRole", "", "r"): role(rule("*", "*", "*")),
                ("ClusterRoleBinding", "", "b"): binding("r", "Group:g", "User:u"),
            },
            User("u", groups=("g",)),
            'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to Group "g"',
        ),
    ],
)
def test_the_reason_names_binding_role_and_subject(
    objects: dict[tuple[str, str, str], Object], user: User, reason: str
) -> None:
    assert build(objects).decide(user, request("GET", PODS)) == Decision(True, reason)


def test_a_service_account_of_no_namespace_is_nobody() -> None:
    rbac = build(
        {
            ("ClusterRole", "", "r"): role(rule("*", "*", "*")),
            ("ClusterRoleBinding", "", "b"): binding("r", "ServiceAccount:robot"),
        }
    )
    assert rbac.decide(User("system:serviceaccount::robot"), request("GET", PODS)) == Decision(False, "")


def test_the_privileged_group_needs_no_role() -> None:
    assert RBAC().decide(User("root", groups=(MASTERS,)), request("DELETE", "/api/v1/nodes")) == Decision(True, "")


def test_missing_roles_are_told_and_hide_nothing() -> None:
    objects = {
        ("ClusterRoleBinding", "", "a"): binding("gone", "User:u"),
        ("ClusterRoleBinding", "", "a2"): binding("gone", "User:u"),
        ("RoleBinding", "ns", "b"): binding("lost", "User:u", kind="Role"),
        ("RoleBinding", "ns", "c"): binding("r", "User:v"),
    }
    rbac = build(objects)
    cluster, local = (
        'clusterrole.rbac.authorization.k8s.io "gone" not found',
        'role.rbac.authorization.k8s.io "lost" not found',
    )
    assert rbac.decide(User("u"), request("GET", PODS)) == Decision(False, f"RBAC: [{cluster}, {local}]")
    assert rbac.decide(User("u"), request("GET", "/version")) == Decision(False, f"RBAC: {cluster}")
    assert rbac.decide(User("w"), request("GET", PODS)) == Decision(False, "")
    rbac.set("Role", "ns", "lost", role(rule("*", "*", "*")))
    assert rbac.decide(User("u"), request("GET", PODS)).allowed


def test_a_binding_to_another_kind_is_told() -> None:
    rbac = build({("RoleBinding", "ns", "b"): binding("r", "User:u", kind="Rule")})
    assert rbac.decide(User("u"), request("GET", PODS)) == Decision(
        False, 'RBAC: unsupported role reference kind: "Rule"'
    )


def test_the_generation_grows_with_meaning_only() -> None:
    rbac = RBAC()
    seen = [rbac.generation]

    def grows(kind: str, namespace: str, name: str, obj: Object | None) -> bool:
        rbac.set(kind, namespace, name, obj)
        seen.append(rbac.generation)
        return seen[-1] > seen[-2]

    granted, other = role(rule("get", "core", "pods")), role(rule("list", "core", "pods"))
    assert grows("Role", "ns", "r", granted)
    assert not grows("Role", "ns", "r", {**granted, "metadata": {"labels": {"a": "b"}}})
    assert grows("Role", "ns", "r", other)
    assert grows("RoleBinding", "ns", "b", binding("r", "User:u", kind="Role"))
    assert not grows("RoleBinding", "ns", "b", {**binding("r", "User:u", kind="Role"), "metadata": {"uid": "2"}})
    assert grows("RoleBinding", "ns", "b", binding("r", "User:v", kind="Role"))
    assert not grows("RoleBinding", "ns", "missing", None)
    assert not grows("ClusterRole", "", "r", None)
    assert grows("RoleBinding", "ns", "b", None)
    assert grows("Role", "ns", "r", None)
    assert grows("ClusterRole", "", "empty", {"rules": None})
    assert not grows("ClusterRole", "", "empty", {})
    assert grows("ClusterRoleBinding", "", "nobody", {"roleRef": {"kind": "ClusterRole", "name": "empty"}})


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="Pod"):
        RBAC().set("Pod", "ns", "p", {})


def test_what_a_user_holds_is_listed_for_reviews() -> None:
    rbac = build(
        {
            ("ClusterRole", "", "c"): role(rule("get", urls="/version"), rule("get", "core", "nodes")),
            ("Role", "ns", "r"): role(rule("get,list", "core", "pods", "a,b")),
            ("ClusterRoleBinding", "", "b"): binding("c", "Group:g", "User:u"),
            ("RoleBinding", "ns", "b"): binding("r", "User:u", kind="Role"),
        }
    )
    resources, urls = rbac.rules(User("u", groups=("g",)), "ns")
    assert [found.to_object() for found in resources] == [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]},
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a", "b"]},
    ]
    assert [found.to_object() for found in urls] == [{"verbs": ["get"], "nonResourceURLs": ["/version"]}]
    assert [found.resources for found in rbac.rules(User("u"), "")[0]] == [("nodes",)]
    assert rbac.role_rules("Role", "ns", "r") == (Rule(("get", "list"), ("",), ("pods",), ("a", "b")),)
    assert rbac.role_rules("Role", "other", "r") is None


HELD = [
    rule("get,list,watch", "core", "pods,services"),
    rule("*", "apps", "*"),
    rule("create", "core", "*/proxy"),
    rule("get", "core", "secrets", "a,b"),
    rule("get", urls="/logs/*,/version"),
]


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        (rule("get", "core", "pods"), []),
        (rule("get,list", "core", "pods,services", "x"), []),
        (
            rule("get,delete,update", "core", "pods"),
            ['{APIGroups:[""], Resources:["pods"], Verbs:["delete" "update"]}'],
        ),
        (rule("get", "core,apps", "pods"), []),
        (rule("get", "*", "pods"), ['{APIGroups:["*"], Resources:["pods"], Verbs:["get"]}']),
        (rule("*", "apps", "deployments/scale"), []),
        (rule("create", "core", "services/proxy,pods/proxy"), []),
        (rule("create", "core", "pods"), ['{APIGroups:[""], Resources:["pods"], Verbs:["create"]}']),
        (rule("get", "core", "secrets", "a"), []),
        (
            rule("get", "core", "secrets", "a,c"),
            ['{APIGroups:[""], Resources:["secrets"], ResourceNames:["c"], Verbs:["get"]}'],
        ),
        (rule("get", "core", "secrets"), ['{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}']),
        (rule("get", urls="/logs/x,/version"), []),
        (rule("get", urls="/logs/*"), []),
        (rule("get", urls="/logs"), ['{NonResourceURLs:["/logs"], Verbs:["get"]}']),
        (rule("get", urls="*"), ['{NonResourceURLs:["*"], Verbs:["get"]}']),
    ],
)
def test_nobody_grants_more_than_they_hold(wanted: Object, missing: list[str]) -> None:
    rbac = build({("Role", "ns", "r"): role(*HELD), ("RoleBinding", "ns", "b"): binding("r", "User:u", kind="Role")})
    uncovered = rbac.covers(User("u"), "ns", [Rule.from_object(wanted)])
    assert [found.describe() for found in uncovered] == missing
    assert rbac.covers(User("u", groups=(MASTERS,)), "", [Rule.from_object(wanted)]) == []
    assert rbac.covers(User("u"), "", [Rule.from_object(wanted)]) != []


def test_a_rule_of_millions_is_judged_as_a_whole() -> None:
    many = ",".join(f"x{i}" for i in range(300))
    rbac = build({("Role", "ns", "r"): role(*HELD), ("RoleBinding", "ns", "b"): binding("r", "User:u", kind="Role")})
    huge = Rule.from_object(rule(many, many, many, many))
    assert rbac.covers(User("u"), "ns", [huge]) == [huge]


# --- agreement with an evaluator that walks over every binding, as upstream's description reads ---

NAMESPACES, NAMES = ["n1", "n2"], ["a", "b"]
VERBS = st.lists(st.sampled_from(["get", "list", "create", "*"]), max_size=2)
RULES = st.fixed_dictionaries(
    {
        "verbs": VERBS,
        "apiGroups": st.lists(st.sampled_from(["", "apps", "*"]), max_size=2),
        "resources": st.lists(st.sampled_from(["pods", "pods/proxy", "*", "*/proxy", "pods/*"]), max_size=2),
        "resourceNames": st.lists(st.sampled_from(["x", "x:80", ""]), max_size=2),
        "nonResourceURLs": st.lists(st.sampled_from(["/v", "/v/*", "*", "/v**"]), max_size=2),
    }
)
SUBJECTS = st.builds(
    lambda kind, name, namespace: {"kind": kind, "name": name, **({"namespace": namespace} if namespace else {})},
    st.sampled_from(["User", "Group", "ServiceAccount", "Other"]),
    st.sampled_from(["u", "g", "system:serviceaccount:n1:u"]),
    st.sampled_from(["", "n1", "n2"]),
)
OBJECTS = st.one_of(
    st.builds(role, RULES, RULES),
    st.builds(
        lambda kind, name, subjects: {"roleRef": {"kind": kind, "name": name}, "subjects": subjects},
        st.sampled_from(["Role", "ClusterRole"]),
        st.sampled_from(NAMES),
        st.lists(SUBJECTS, max_size=3),
    ),
)
KEYS = st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMESPACES), st.sampled_from(NAMES))
USERS = st.builds(
    User,
    st.sampled_from(["u", "g", "system:serviceaccount:n1:u", "system:serviceaccount:n2:u"]),
    groups=st.lists(st.sampled_from(["g", "u", "h"]), max_size=2).map(tuple),
)
REQUESTS = st.builds(
    Attributes,
    st.sampled_from(["get", "list", ""]),
    st.sampled_from(["", "apps"]),
    resource=st.sampled_from(["pods", "services"]),
    subresource=st.sampled_from(["", "proxy", "status"]),
    namespace=st.sampled_from(["", "n1", "n2"]),
    name=st.sampled_from(["", "x", "x:80"]),
) | st.builds(
    Attributes,
    st.sampled_from(["get", "list"]),
    path=st.sampled_from(["/v", "/v/w", "/vv", "/"]),
    resource_request=st.just(False),
)

State = dict[tuple[str, str, str], Object]


def scoped(kind: str, namespace: str) -> str:
    return "" if kind.startswith("Cluster") else namespace


def is_meant(user: User, subject: Object, namespace: str) -> bool:
    match subject["kind"]:
        case "User":
            return bool(user.name == subject["name"])
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            home = subject.get("namespace") or namespace
            return bool(home) and user.name == f"system:serviceaccount:{home}:{subject['name']}"
    return False


def naive_rules(state: State, user: User, namespace: str) -> Iterator[Object]:
    for (kind, home, _), obj in state.items():
        if kind not in ("ClusterRoleBinding", "RoleBinding") or home not in ("", namespace):
            continue
        if any(is_meant(user, subject, home) for subject in obj.get("subjects", ())):
            ref = obj.get("roleRef") or {"kind": "", "name": ""}
            bound = state.get((ref["kind"], home if ref["kind"] == "Role" else "", ref["name"]), {})
            yield from bound.get("rules", ())


def naive_allows(granted: Object, wanted: Attributes, names: list[str]) -> bool:
    if not ({wanted.verb, "*"} & set(granted["verbs"])):
        return False
    if not wanted.resource_request:
        for url in granted["nonResourceURLs"]:
            if url == wanted.path or (url.endswith("*") and wanted.path.startswith(url.rstrip("*"))):
                return True
        return False
    whole = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    patterns = {whole, "*"} | ({f"*/{wanted.subresource}"} if wanted.subresource else set())
    if not (patterns & set(granted["resources"]) and {wanted.group, "*"} & set(granted["apiGroups"])):
        return False
    return not granted["resourceNames"] or bool({wanted.name, *names} & set(granted["resourceNames"]))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(KEYS, OBJECTS | st.none()), max_size=12),
    st.lists(st.tuples(USERS, REQUESTS, st.lists(st.sampled_from(["x", "x:80"]), max_size=1)), min_size=1, max_size=6),
)
def test_decisions_are_those_of_a_walk_over_everything(
    changes: list[tuple[tuple[str, str, str], Object | None]],
    questions: list[tuple[User, Attributes, list[str]]],
) -> None:
    rbac, state = RBAC(), State()
    for (kind, namespace, name), obj in changes:
        before = rbac.generation, [rbac.decide(*question) for question in questions]
        rbac.set(kind, namespace, name, obj)
        key = (kind, scoped(kind, namespace), name)
        state.pop(key, None)
        if obj is not None:
            state[key] = obj
        after = [rbac.decide(*question) for question in questions]
        assert rbac.generation > before[0] or after == before[1]
    for user, attributes, names in questions:
        namespace = attributes.namespace if attributes.resource_request else ""
        expected = any(naive_allows(granted, attributes, names) for granted in naive_rules(state, user, namespace))
        decision = rbac.decide(user, attributes, names)
        assert decision.allowed is expected
        assert decision.reason.startswith("RBAC: allowed by ") is expected
    for key in list(state):
        rbac.set(*key, None)
    assert all(rbac.decide(*question) == Decision(False, "") for question in questions)


@settings(max_examples=150)
@given(st.lists(RULES, max_size=3), RULES, REQUESTS)
def test_what_is_covered_was_allowed_before(held: list[Object], wanted: Object, attributes: Attributes) -> None:
    rbac = paths(*held)
    fresh = Rule.from_object(wanted)
    if rbac.covers(User("u"), "", [fresh]) == [] and naive_allows(wanted, attributes, []):
        assert rbac.decide(User("u"), attributes).allowed


@settings(max_examples=150)
@given(st.lists(RULES, max_size=3), RULES)
def test_uncovered_parts_are_parts_and_cover_the_rest(held: list[Object], wanted: Object) -> None:
    fresh = Rule.from_object(wanted)
    missing = paths(*held).covers(User("u"), "", [fresh])
    assert all(fresh.covers(part) for part in missing)
    topped_up = paths(*held, *(part.to_object() for part in missing))
    assert topped_up.covers(User("u"), "", [fresh]) == []
