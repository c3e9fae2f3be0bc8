"""What every `gateway.authorization.Authorizer` must do.

    class TestMine(AuthorizerContract):
        def make(self, rbac: RBAC) -> Authorizer:
            return Mine(rbac)

The suite changes the RBAC objects; an authoriser may be behind them for as long as its decisions say. Each test runs in
virtual time, in a loop of its own.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from portway.gateway.authorization import Authorizer
from portway.kube.attributes import Attributes, parse
from portway.kube.errors import StatusError
from portway.kube.identity import User
from portway.kube.rbac import RBAC, Decision
from portway.testing.virtualtime import play

Contract = TypeVar("Contract", bound="AuthorizerContract")

GROUP = "rbac.authorization.k8s.io"
READER = User("reader", "u2", ("system:authenticated",))
NAMED = User("carol", "u3", ("named", "system:authenticated"), {"example.org/team": ("a", "b")})
NOBODY = User("nobody", "", ("system:authenticated",))
ADMIN = User("admin", "", ("system:masters", "system:authenticated"))


def proxy(name: str, method: str = "GET", resource: str = "services") -> Attributes:
    """A request through the proxy verb."""
    return parse(method, f"/api/v1/namespaces/demo/{resource}/{name}/proxy/x")


def grant(rbac: RBAC, name: str, subject: dict[str, str], *, names: Sequence[str] = (), verbs: Sequence[str]) -> None:
    """A Role and a RoleBinding in the namespace demo, for services/proxy."""
    rule = {"apiGroups": [""], "resources": ["services/proxy"], "verbs": list(verbs), "resourceNames": list(names)}
    rbac.set("Role", "demo", name, {"rules": [rule]})
    reference = {"apiGroup": GROUP, "kind": "Role", "name": name}
    rbac.set("RoleBinding", "demo", name, {"roleRef": reference, "subjects": [{"apiGroup": GROUP, **subject}]})


def roles() -> RBAC:
    """Reader may get every service; the group `named` may do anything with two spellings."""
    rbac = RBAC()
    grant(rbac, "reader", {"kind": "User", "name": "reader"}, verbs=["get"])
    grant(rbac, "named", {"kind": "Group", "name": "named"}, verbs=["*"], names=["web:http", "https:web:tls"])
    return rbac


async def decided(authorizer: Authorizer, user: User, attributes: Attributes, names: Sequence[str] = ()) -> Decision:
    """The decision, waited for if need be; after the wait it must be there at once."""
    answer = authorizer.decide(user, attributes, names)
    if isinstance(answer, Decision):
        return answer
    found = await answer
    again = authorizer.decide(user, attributes, names)
    assert again == found
    return found


def scenario(script: Callable[[Contract, RBAC], Coroutine[Any, Any, None]]) -> Callable[[Contract], None]:
    """Make an ordinary test of a coroutine that takes the roles."""

    def test(self: Contract) -> None:
        play(script(self, roles()))

    test.__name__ = script.__name__
    test.__doc__ = script.__doc__
    return test


class AuthorizerContract(ABC):
    """The suite."""

    @abstractmethod
    def make(self, rbac: RBAC) -> Authorizer:
        """An authoriser of the cluster with these roles. Called on a running loop."""

    @pytest.mark.parametrize(
        ("user", "method", "name", "names", "allowed"),
        [
            (READER, "GET", "web:http", (), True),
            (READER, "HEAD", "web", (), True),
            (READER, "POST", "web:http", (), False),
            (READER, "OPTIONS", "web:http", (), False),
            (NAMED, "OPTIONS", "web:http", (), True),
            (NAMED, "GET", "web", (), False),
            (NAMED, "GET", "web:80", ("web:http", "http:web:http"), True),
            (NAMED, "GET", "web:80", ("web:80", "web:http"), True),
            (NAMED, "GET", "web:8080", ("web:admin",), False),
            (NOBODY, "GET", "web:http", ("web:80",), False),
            (ADMIN, "DELETE", "anything", (), True),
        ],
    )
    def test_decisions(self, user: User, method: str, name: str, names: tuple[str, ...], allowed: bool) -> None:
        async def ask() -> Decision:
            return await decided(self.make(roles()), user, proxy(name, method), names)

        assert play(ask()).allowed is allowed

    @scenario
    async def test_says_which_binding_allowed_it(self, rbac: RBAC) -> None:
        found = await decided(self.make(rbac), NAMED, proxy("web:80"), ("web:http",))
        assert found.reason == 'RBAC: allowed by RoleBinding "named/demo" of Role "named" to Group "named"'

    @scenario
    async def test_says_the_reason_of_the_spelling_that_was_used(self, rbac: RBAC) -> None:
        rbac.set("Role", "demo", "reader", None)
        found = await decided(self.make(rbac), READER, proxy("web:80"), ("web:http",))
        assert found[:2] == (False, 'RBAC: role.rbac.authorization.k8s.io "reader" not found')

    @scenario
    async def test_paths_that_are_no_resources(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        version = parse("GET", "/version")
        assert not (await decided(authorizer, READER, version)).allowed
        assert (await decided(authorizer, ADMIN, version)).allowed

    @scenario
    async def test_the_same_question_is_answered_at_once_from_then_on(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        first = await decided(authorizer, READER, proxy("web"))
        assert authorizer.decide(READER, proxy("web")) == first
        assert isinstance(await decided(authorizer, READER, proxy("web", "POST")), Decision)
        denied = authorizer.decide(READER, proxy("web", "POST"))
        assert isinstance(denied, Decision)
        assert denied[:2] == (False, "")

    @scenario
    async def test_a_withdrawn_right_ends_by_generation_or_in_time(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        first, generation = await decided(authorizer, READER, proxy("web")), authorizer.generation
        rbac.set("RoleBinding", "demo", "reader", None)
        if first.until != math.inf:
            await asyncio.sleep(first.until - asyncio.get_running_loop().time())
        else:
            assert authorizer.generation > generation
        assert not (await decided(authorizer, READER, proxy("web"))).allowed

    @scenario
    async def test_a_new_right_counts_by_generation_or_in_time(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        first, generation = await decided(authorizer, NOBODY, proxy("web")), authorizer.generation
        grant(rbac, "late", {"kind": "User", "name": "nobody"}, verbs=["get"])
        if first.until != math.inf:
            await asyncio.sleep(first.until - asyncio.get_running_loop().time())
        else:
            assert authorizer.generation > generation
        assert (await decided(authorizer, NOBODY, proxy("web"))).allowed

    @scenario
    async def test_one_users_decision_is_not_another_ones(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        assert (await decided(authorizer, READER, proxy("web"))).allowed
        for other in (NOBODY, User("reader2"), User("", groups=("reader",)), User("Reader", "u2", READER.groups)):
            assert not (await decided(authorizer, other, proxy("web"))).allowed

    @scenario
    async def test_many_askers_of_one_question_hear_the_same(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        found = await asyncio.gather(*(decided(authorizer, READER, proxy("web")) for _ in range(20)))
        assert {decision.allowed for decision in found} == {True}

    @scenario
    async def test_an_asker_who_goes_takes_nobody_elses_answer_along(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        impatient = authorizer.decide(READER, proxy("web"))
        patient = asyncio.ensure_future(decided(authorizer, READER, proxy("web")))
        await asyncio.sleep(0)
        if not isinstance(impatient, Decision):
            impatient.cancel()
        assert (await patient).allowed

    @scenario
    async def test_nothing_but_status_errors_comes_of_odd_questions(self, rbac: RBAC) -> None:
        authorizer = self.make(rbac)
        for user in (User(""), User("ünïcödé\U0001f600", groups=("\x00",)), User("x" * 10_000)):
            for attributes in (
                Attributes(""),
                proxy("a" * 10_000),
                Attributes("", path="", resource_request=False),
            ):
                try:
                    assert not (await decided(authorizer, user, attributes, ("", "b"))).allowed
                except StatusError:
                    pass


__all__ = ["AuthorizerContract", "decided", "grant", "proxy", "roles", "scenario"]
