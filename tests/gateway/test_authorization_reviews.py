"""AccessReviews: what is asked, how long it counts, and what is left while the API can't be asked."""

import asyncio
from typing import Any
from unittest.mock import ANY as ANY_REASON

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.gateway.authentication import Identity
from portway.gateway.authorization import AccessReviews, Undecided, impersonate
from portway.gateway.authorization.accessreview import question_key, read_status, review_spec
from portway.gateway.reviews import ReviewRefused, ReviewUnavailable
from portway.kube.attributes import Attributes, parse
from portway.kube.errors import Forbidden, StatusError, TooManyRequests
from portway.kube.identity import User
from portway.kube.rbac import Decision
from portway.testing.authorizer import NAMED, NOBODY, READER, decided, grant, proxy, roles
from portway.testing.reviewapi import ReviewApi
from portway.testing.virtualtime import START, play

PODS = "/api/v1/namespaces/demo/pods"


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("attributes", "spec"),
    [
        (
            proxy("https:web:tls", "POST"),
            {
                "resourceAttributes": {
                    "namespace": "demo",
                    "verb": "create",
                    "version": "v1",
                    "resource": "services",
                    "subresource": "proxy",
                    "name": "https:web:tls",
                }
            },
        ),
        (parse("GET", "/version"), {"nonResourceAttributes": {"path": "/version", "verb": "get"}}),
        (
            parse(
                "GET", PODS, "labelSelector=a%3Db,c+in+(d,e),!f,g&fieldSelector=spec.nodeName%3Dn1,status.phase!%3DX"
            ),
            {
                "resourceAttributes": {
                    "namespace": "demo",
                    "verb": "list",
                    "version": "v1",
                    "resource": "pods",
                    "fieldSelector": {
                        "requirements": [
                            {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                            {"key": "status.phase", "operator": "NotIn", "values": ["X"]},
                        ]
                    },
                    "labelSelector": {
                        "requirements": [
                            {"key": "a", "operator": "In", "values": ["b"]},
                            {"key": "c", "operator": "In", "values": ["d", "e"]},
                            {"key": "f", "operator": "DoesNotExist"},
                            {"key": "g", "operator": "Exists"},
                        ]
                    },
                }
            },
        ),
        (
            parse("GET", PODS, "labelSelector=a%3E1&fieldSelector=%3D%3D%3D"),
            {"resourceAttributes": {"namespace": "demo", "verb": "list", "version": "v1", "resource": "pods"}},
        ),
    ],
)
def test_what_is_asked(attributes: Attributes, spec: dict[str, Any]) -> None:
    user = User("ann", "u1", ("a", "b"), {"z": ("1",), "k": ("2", "3")})
    who = {"user": "ann", "uid": "u1", "groups": ["a", "b"], "extra": {"k": ["2", "3"], "z": ["1"]}}
    assert review_spec(user, attributes) == who | spec


TEXT = st.text(max_size=8)
USERS = st.builds(User, TEXT, TEXT, st.tuples(TEXT), st.dictionaries(TEXT, st.tuples(TEXT), max_size=2))
ATTRIBUTES = st.builds(Attributes, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, st.booleans())


def said(user: User, attributes: Attributes) -> object:
    """What of a question may make a difference."""
    if not attributes.resource_request:
        return user, attributes.verb, attributes.path
    a = attributes
    return user, a.verb, a.group, a.version, a.resource, a.subresource, a.namespace, a.name


@given(USERS, ATTRIBUTES, USERS, ATTRIBUTES)
def test_different_questions_have_different_keys(user: User, asked: Attributes, other: User, more: Attributes) -> None:
    same = said(user, asked) == said(other, more)
    assert (question_key(user, asked, ()) == question_key(other, more, ())) == same


def test_other_spellings_make_another_question() -> None:
    web = proxy("web:80")
    keys = [
        question_key(READER, web, names) for names in ((), ("web:80",), ("web:http",), ("web:http", "http:web:http"))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ({"allowed": True, "reason": "r"}, (True, False, "r")),
        ({"allowed": False, "reason": "r"}, (False, False, "r")),
        ({"allowed": True, "denied": True, "reason": "r"}, (False, True, "r")),
        ({"denied": True}, (False, True, "")),
        ({}, (False, False, "")),
        ({"allowed": "true"}, (False, False, "")),
        ({"allowed": 1, "reason": 5}, (False, False, "")),
    ],
)
def test_what_an_answer_says(status: dict[str, Any], read: tuple[bool, bool, str]) -> None:
    assert read_status(status) == read


def test_yes_and_no_count_for_their_time_and_no_longer() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api, allow_ttl=10, deny_ttl=3)
        yes, no = await decided(authorizer, READER, proxy("web")), await decided(authorizer, NOBODY, proxy("web"))
        assert (yes.until, no.until) == (START + 10, START + 3)
        assert len(api.asked) == 2
        await asyncio.sleep(2.9)
        assert authorizer.decide(NOBODY, proxy("web")) == no
        await asyncio.sleep(0.1)
        assert not isinstance(authorizer.decide(NOBODY, proxy("web")), Decision)
        await asyncio.sleep(6.9)
        assert authorizer.decide(READER, proxy("web")) == yes
        await asyncio.sleep(0.1)
        assert not isinstance(authorizer.decide(READER, proxy("web")), Decision)
        assert authorizer.generation == 0

    play(run())


def test_nobody_is_asked_about_masters_and_health() -> None:
    async def run() -> None:
        api = ReviewApi()
        api.down()
        authorizer = AccessReviews(api)
        for path in ("/readyz", "/livez", "/healthz"):
            assert authorizer.decide(NOBODY, parse("GET", path)) == Decision(True, "")
        assert authorizer.decide(User("a", groups=("system:masters",)), proxy("web")) == Decision(True, "")
        for path in ("/readyz/etcd", "/metrics", "/readyz/"):
            with pytest.raises(ReviewUnavailable):
                await decided(authorizer, NOBODY, parse("GET", path))

    play(run())


def test_one_question_per_user_and_attributes() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        api.slow = 1.0
        authorizer = AccessReviews(api)
        users = [User(f"u{i % 3}", groups=("named",)) for i in range(60)]
        await asyncio.gather(
            *(decided(authorizer, user, proxy("web"), ("web:http", "http:web:http")) for user in users)
        )
        # Three users, the literal spelling denied, the first other one allowed, the second never asked.
        assert [q["spec"]["resourceAttributes"]["name"] for q in api.asked] == ["web"] * 3 + ["web:http"] * 3

    play(run())


def test_other_spellings_are_asked_only_when_the_literal_one_is_denied() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api)
        assert (await decided(authorizer, NAMED, proxy("web:http"), ("web", "web:80"))).allowed
        assert len(api.asked) == 1
        assert (await decided(authorizer, NAMED, proxy("web:80"), ("web:http", "web"))).allowed
        assert len(api.asked) == 2

    play(run())


def test_what_is_denied_by_name_no_other_spelling_brings_about() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        api.forbidding.add("web:80")
        authorizer = AccessReviews(api)
        assert await decided(authorizer, NAMED, proxy("web:80"), ("web:http",)) == Decision(
            False, "not that one", START + 10
        )
        assert not (await decided(authorizer, NAMED, proxy("web"), ("web:80", "web:http"))).allowed

    play(run())


def test_an_outage_keeps_what_was_decided_for_the_grace_and_denies_the_rest() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api, grace=30)
        assert (await decided(authorizer, READER, proxy("web"))).allowed
        assert not (await decided(authorizer, NOBODY, proxy("web"))).allowed
        api.down()
        await asyncio.sleep(11)
        stale = await decided(authorizer, READER, proxy("web"))
        assert stale == Decision(True, stale.reason, now() + 1.0)
        assert not (await decided(authorizer, NOBODY, proxy("web"))).allowed
        with pytest.raises(ReviewUnavailable) as caught:
            await decided(authorizer, READER, proxy("other"))
        assert caught.value.code == 503
        assert "SubjectAccessReviews are not answered for" in authorizer.health()
        await asyncio.sleep(START + 39.9 - now())
        assert (await decided(authorizer, READER, proxy("web"))).until <= START + 40
        await asyncio.sleep(START + 40 - now())
        with pytest.raises(ReviewUnavailable):
            await decided(authorizer, READER, proxy("web"))
        api.up()
        await asyncio.sleep(31)
        assert (await decided(authorizer, READER, proxy("web"))).allowed
        assert authorizer.health() == ""

    play(run())


def test_a_known_caller_waits_two_seconds_for_a_silent_api_and_the_next_time_not_at_all() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api, grace=60)
        await decided(authorizer, READER, proxy("web"))
        api.slow = 9.0
        await asyncio.sleep(11)
        assert await decided(authorizer, READER, proxy("web")) == Decision(True, ANY_REASON, START + 14)
        assert now() == START + 13
        await asyncio.sleep(2)
        assert authorizer.decide(READER, proxy("web")) == Decision(True, ANY_REASON, START + 16)
        api.rbac.set("RoleBinding", "demo", "reader", None)
        await asyncio.sleep(5.1)
        denied = authorizer.decide(READER, proxy("web"))
        assert isinstance(denied, Decision)
        assert not denied.allowed, "the answer counts when it comes"

    play(run())


def test_no_grace_when_the_door_may_not_ask_any_more() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api, grace=3600)
        first = await decided(authorizer, READER, proxy("web"))
        api.refuse(403, "Forbidden", 'User "door" cannot create resource "subjectaccessreviews"')
        await asyncio.sleep(9)
        assert authorizer.decide(READER, proxy("web")) == first
        await asyncio.sleep(1)
        for _ in range(10):
            with pytest.raises(ReviewRefused):
                await decided(authorizer, READER, proxy("web"))
        assert len(api.asked) == 1 + 5
        assert 'User "door" cannot create' in authorizer.health()

    play(run())


def test_grace_can_be_turned_off() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api, grace=0)
        await decided(authorizer, READER, proxy("web"))
        api.down()
        await asyncio.sleep(10)
        with pytest.raises(ReviewUnavailable):
            await decided(authorizer, READER, proxy("web"))

    play(run())


def test_while_resting_nobody_waits() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api)
        api.down()
        with pytest.raises(ReviewUnavailable):
            await decided(authorizer, READER, proxy("web"))
        before, asked = now(), len(api.asked)
        for i in range(100):
            with pytest.raises(ReviewUnavailable):
                authorizer.decide(READER, proxy(f"s{i}"))
        assert (now(), len(api.asked)) == (before, asked)

    play(run())


def test_bounded() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        api.slow = 1.0
        authorizer = AccessReviews(api)
        answers = [authorizer.decide(READER, proxy(f"s{i}")) for i in range(1024)]
        with pytest.raises(TooManyRequests):
            authorizer.decide(READER, proxy("one more"))
        futures = [answer for answer in answers if isinstance(answer, asyncio.Future)]
        done = await asyncio.gather(*futures, return_exceptions=True)
        assert {type(one) for one in done} == {Decision, TooManyRequests}
        assert len(api.asked) == 256

    play(run())


def test_forgetting_ends_every_decision_also_those_under_way() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        api.slow = 1.0
        authorizer = AccessReviews(api)
        await decided(authorizer, READER, proxy("web"))
        under_way = authorizer.decide(NAMED, proxy("web:http"))
        await asyncio.sleep(0.5)
        authorizer.forget()
        assert authorizer.generation == 1
        assert isinstance(under_way, asyncio.Future)
        await under_way
        for user, name in ((READER, "web"), (NAMED, "web:http")):
            assert isinstance(authorizer.decide(user, proxy(name)), asyncio.Future)
        authorizer.close()
        await asyncio.sleep(0)

    play(run())


def test_what_is_forgotten_has_no_grace() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api)
        await decided(authorizer, READER, proxy("web"))
        api.slow = 8.0
        await asyncio.sleep(10)
        hurried = authorizer.decide(READER, proxy("web"))
        api.rbac.set("RoleBinding", "demo", "reader", None)
        authorizer.forget()
        assert isinstance(hurried, asyncio.Future)
        assert not (await hurried).allowed
        assert now() == START + 10 + 8

    play(run())


def test_impersonation_waits_too() -> None:
    async def run() -> None:
        api = ReviewApi(roles())
        authorizer = AccessReviews(api)
        grant(api.rbac, "imp", {"kind": "User", "name": "reader"}, verbs=["*"])
        api.rbac.set("ClusterRole", "", "imp", {"rules": [{"apiGroups": [""], "resources": ["users"], "verbs": ["*"]}]})
        binding = {"roleRef": {"kind": "ClusterRole", "name": "imp"}, "subjects": [{"kind": "User", "name": "reader"}]}
        api.rbac.set("ClusterRoleBinding", "", "imp", binding)
        identity = Identity(READER, "token")
        headers = [(b"impersonate-user", b"carol"), (b"impersonate-group", b"admins")]
        with pytest.raises(Undecided) as undecided:
            impersonate(identity, headers[:1], authorizer)
        assert (await undecided.value.answer).allowed
        assert impersonate(identity, headers[:1], authorizer).name == "carol"
        with pytest.raises(Undecided) as undecided:
            impersonate(identity, headers, authorizer)
        await undecided.value.answer
        with pytest.raises(Forbidden):
            impersonate(identity, headers, authorizer)

    play(run())


HAPPENINGS = st.lists(
    st.one_of(
        st.sampled_from(["down", "up", "refuse", "revoke", "grant"]),
        st.floats(0.01, 20.0),
        st.sampled_from(["ask"] * 2),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(HAPPENINGS)
def test_no_right_outlives_its_withdrawal_by_more_than_time_and_grace(happenings: list[str | float]) -> None:
    """And while the API answers, by no more than its time."""
    allow, grace = 5.0, 12.0

    async def run() -> None:
        rbac = roles()
        api = ReviewApi(rbac)
        authorizer = AccessReviews(api, allow_ttl=allow, deny_ttl=2.0, grace=grace)
        revoked_at, confirmed = float("inf"), float("-inf")
        well_since = now()
        for happening in happenings:
            if isinstance(happening, float):
                await asyncio.sleep(happening)
            elif happening == "down":
                api.down()
                well_since = float("inf")
            elif happening == "refuse":
                api.refuse(403, "Forbidden")
                well_since = float("inf")
            elif happening == "up":
                api.up()
                well_since = min(well_since, now())
            elif happening == "revoke":
                rbac.set("RoleBinding", "demo", "reader", None)
                revoked_at = min(revoked_at, now())
            elif happening == "grant":
                grant(rbac, "reader", {"kind": "User", "name": "reader"}, verbs=["get"])
                revoked_at = float("inf")
            else:
                try:
                    found = await decided(authorizer, READER, proxy("web"))
                except StatusError:
                    continue
                confirmed = max(confirmed, found.until)
                if found.allowed:
                    assert now() < revoked_at + allow + grace
                    assert found.until <= revoked_at + allow + grace
                    assert found.until <= now() + allow

    play(run())
