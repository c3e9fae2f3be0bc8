"""Impersonation: who may act as whom, who it then is, and upstream's words when not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication import Identity
from portway.gateway.authorization import RBACAuthorizer, impersonate
from portway.gateway.authorization.gosyntax import default_info
from portway.kube.attributes import Attributes
from portway.kube.errors import BadRequest, Forbidden
from portway.kube.identity import User
from portway.kube.rbac import RBAC, Decision

Headers = list[tuple[bytes, bytes]]
SUPPORT = Identity(User("support", groups=("system:authenticated",)), "token")


@dataclass
class Recording:
    """Allows all but what is named, and remembers what it was asked."""

    denied: str = ""
    generation: int = 0
    asked: list[str] = field(default_factory=list)

    def decide(self, user: User, attributes: Attributes, names: Sequence[str] = ()) -> Decision:
        a = attributes
        resource = f"{a.resource}/{a.subresource}" if a.subresource else a.resource
        asked = f"{a.verb} {a.group}:{resource} {a.namespace}:{a.name}"
        self.asked.append(asked)
        return Decision(asked != self.denied, "")


def user(value: str) -> Headers:
    return [(b"impersonate-user", value.encode())]


@pytest.mark.parametrize("headers", [[], [(b"accept", b"*/*")], [(b"impersonate-user", b"")]])
def test_nothing_asked_for_is_oneself(headers: Headers) -> None:
    authorizer = Recording()
    assert impersonate(SUPPORT, headers, authorizer) is SUPPORT.user
    assert authorizer.asked == []


@pytest.mark.parametrize(
    ("headers", "asked", "expected"),
    [
        (user("jane"), ["impersonate :users :jane"], User("jane", groups=("system:authenticated",))),
        (
            [*user("x"), (b"impersonate-group", b"named"), (b"impersonate-extra-scope", b"a")],
            [
                "impersonate :users :x",
                "impersonate :groups :named",
                "impersonate authentication.k8s.io:userextras/scope :a",
            ],
            User("x", groups=("named", "system:authenticated"), extra={"scope": ("a",)}),
        ),
        (
            [*user("x"), (b"impersonate-uid", b"u9"), (b"impersonate-group", b"a"), (b"impersonate-group", b"b")],
            [
                "impersonate :users :x",
                "impersonate authentication.k8s.io:uids :u9",
                "impersonate :groups :a",
                "impersonate :groups :b",
            ],
            User("x", uid="u9", groups=("a", "b", "system:authenticated")),
        ),
        (
            user("system:serviceaccount:ns:robot"),
            ["impersonate :serviceaccounts ns:robot"],
            User(
                "system:serviceaccount:ns:robot",
                groups=("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"),
            ),
        ),
        (
            [*user("system:serviceaccount:ns:robot"), (b"impersonate-group", b"g")],
            ["impersonate :serviceaccounts ns:robot", "impersonate :groups :g"],
            User("system:serviceaccount:ns:robot", groups=("g", "system:authenticated")),
        ),
        (
            user("system:serviceaccount:NS:robot"),
            ["impersonate :users :system:serviceaccount:NS:robot"],
            User("system:serviceaccount:NS:robot", groups=("system:authenticated",)),
        ),
        (
            user("system:anonymous"),
            ["impersonate :users :system:anonymous"],
            User("system:anonymous", groups=("system:unauthenticated",)),
        ),
        (
            [*user("x"), (b"impersonate-group", b"system:unauthenticated")],
            ["impersonate :users :x", "impersonate :groups :system:unauthenticated"],
            User("x", groups=("system:unauthenticated",)),
        ),
        (
            [*user("x"), (b"impersonate-group", b"system:authenticated")],
            ["impersonate :users :x", "impersonate :groups :system:authenticated"],
            User("x", groups=("system:authenticated",)),
        ),
        (
            [*user("x"), (b"impersonate-extra-example.com%2fk", b"1"), (b"impersonate-extra-example.com%2fk", b"2")],
            [
                "impersonate :users :x",
                "impersonate authentication.k8s.io:userextras/example.com/k :1",
                "impersonate authentication.k8s.io:userextras/example.com/k :2",
            ],
            User("x", groups=("system:authenticated",), extra={"example.com/k": ("1", "2")}),
        ),
        (
            [*user("x"), (b"impersonate-extra-100%", b"1")],
            ["impersonate :users :x", "impersonate authentication.k8s.io:userextras/100% :1"],
            User("x", groups=("system:authenticated",), extra={"100%": ("1",)}),
        ),
        (
            [*user("first"), *user("second")],
            ["impersonate :users :first"],
            User("first", groups=("system:authenticated",)),
        ),
    ],
)
def test_what_is_checked_and_who_it_is(headers: Headers, asked: list[str], expected: User) -> None:
    authorizer = Recording()
    assert impersonate(SUPPORT, headers, authorizer) == expected
    assert authorizer.asked == asked


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (
            [(b"impersonate-group", b"x")],
            '&user.DefaultInfo{Name:"", UID:"", Groups:[]string{"x"}, Extra:map[string][]string(nil)}',
        ),
        (
            [(b"impersonate-user", b""), (b"impersonate-uid", b'"7"')],
            r'&user.DefaultInfo{Name:"", UID:"\"7\"", Groups:[]string(nil), Extra:map[string][]string(nil)}',
        ),
        (
            [(b"impersonate-extra-z", b"1"), (b"impersonate-extra-a", b"2"), (b"impersonate-group", b"")],
            (
                '&user.DefaultInfo{Name:"", UID:"", Groups:[]string{""}, '
                'Extra:map[string][]string{"a":[]string{"2"}, "z":[]string{"1"}}}'
            ),
        ),
        (
            [(b"impersonate-user", b""), (b"impersonate-user", b"second"), (b"impersonate-group", b"x")],
            '&user.DefaultInfo{Name:"", UID:"", Groups:[]string{"x"}, Extra:map[string][]string(nil)}',
        ),
    ],
)
def test_parts_without_a_user_are_400_in_upstreams_words(headers: Headers, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        impersonate(SUPPORT, headers, Recording())
    assert refused.value.message == f"requested {said} without impersonating a user name"


def test_bytes_that_are_no_text_are_400() -> None:
    for headers in ([(b"impersonate-user", b"\xff")], [*user("x"), (b"impersonate-extra-%ff", b"1")]):
        with pytest.raises(BadRequest):
            impersonate(SUPPORT, headers, Recording())


@pytest.mark.parametrize(
    "denied",
    [
        "impersonate :users :x",
        "impersonate authentication.k8s.io:uids :u9",
        "impersonate :groups :b",
        "impersonate authentication.k8s.io:userextras/scope :2",
    ],
)
def test_one_denial_is_enough(denied: str) -> None:
    headers = [
        *user("x"),
        (b"impersonate-uid", b"u9"),
        (b"impersonate-group", b"a"),
        (b"impersonate-group", b"b"),
        (b"impersonate-extra-scope", b"1"),
        (b"impersonate-extra-scope", b"2"),
    ]
    with pytest.raises(Forbidden):
        impersonate(SUPPORT, headers, Recording(denied))


def rbac() -> RBAC:
    """The golden fixture's impersonator: support may be reader, and nobody else."""
    objects: list[dict[str, Any]] = [
        {
            "kind": "ClusterRole",
            "metadata": {"name": "impersonator"},
            "rules": [
                {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["reader"]}
            ],
        },
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "impersonator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "impersonator"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "support"}],
        },
    ]
    found = RBAC()
    for obj in objects:
        found.set(obj["kind"], "", obj["metadata"]["name"], obj)
    return found


def test_with_rbac_the_grant_and_its_limits() -> None:
    authorizer = RBACAuthorizer(rbac())
    assert impersonate(SUPPORT, user("reader"), authorizer).name == "reader"
    with pytest.raises(Forbidden) as refused:
        impersonate(SUPPORT, user("admin"), authorizer)
    status = refused.value.status()
    assert status["message"] == (
        'users "admin" is forbidden: User "support" cannot impersonate resource "users" in API group "" '
        "at the cluster scope"
    )
    assert status["details"] == {"name": "admin", "kind": "users"}
    with pytest.raises(Forbidden, match="groups"):
        impersonate(SUPPORT, [*user("reader"), (b"impersonate-group", b"system:masters")], authorizer)


def test_the_authorizer_follows_rbac() -> None:
    objects = rbac()
    authorizer = RBACAuthorizer(objects)
    before = authorizer.generation
    objects.set("ClusterRoleBinding", "", "impersonator", None)
    assert authorizer.generation > before
    with pytest.raises(Forbidden):
        impersonate(SUPPORT, user("reader"), authorizer)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"impersonate-user", b"impersonate-group", b"impersonate-uid", b"impersonate-extra-%2f", b"x"]
            ),
            st.binary(max_size=20),
        )
    )
)
def test_no_headers_make_it_raise_anything_else_or_skip_a_check(headers: Headers) -> None:
    authorizer = Recording()
    try:
        found = impersonate(SUPPORT, headers, authorizer)
    except BadRequest:
        return
    if found is not SUPPORT.user:
        asked = set(authorizer.asked)
        account = found.name.startswith("system:serviceaccount:")
        assert f"impersonate :users :{found.name}" in asked or account
        own = ("system:authenticated", "system:unauthenticated", "system:serviceaccounts")
        assert all(f"impersonate :groups :{group}" in asked or group.startswith(own) for group in found.groups)
        assert not found.uid or f"impersonate authentication.k8s.io:uids :{found.uid}" in asked


def test_go_prints_what_cannot_be_printed_as_escapes() -> None:
    assert 'UID:"a\\n\\x01é\\u200b\\U000e0001"' in default_info("a\n\x01é\u200b\U000e0001", (), {})
