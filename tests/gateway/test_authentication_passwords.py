"""Basic authentication: off the loop, bounded, remembered, and ended by a changed file."""

import asyncio
import base64
import gc
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from portway.client.view import ClusterView
from portway.gateway.authentication import Authenticators, Identity, passwords
from portway.gateway.authentication.passwords import QUEUE
from portway.gateway.settings import Authentication
from portway.kube.errors import TooManyRequests, Unauthorized


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


HASHES = {"ann": hashed(b"s3cret"), "bob": hashed(b"hunter2")}


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"ann:{HASHES['ann']}:admins,devs\nbob:{HASHES['bob']}\n")
    return path


@pytest.fixture
def run(users: Path) -> Callable[[Callable[[Authenticators], Coroutine[Any, Any, None]]], None]:
    def runner(test: Callable[[Authenticators], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            chain = Authenticators(Authentication(basic_auth_file=str(users)), ClusterView())
            try:
                await test(chain)
            finally:
                chain.close()

        asyncio.run(main())

    return runner


Runner = Callable[[Callable[[Authenticators], Coroutine[Any, Any, None]]], None]


async def ask(chain: Authenticators, authorization: bytes) -> Identity:
    answer = chain.identify(authorization)
    return answer if isinstance(answer, Identity) else await answer


def test_a_right_password_and_then_at_once(run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        first = chain.identify(basic("ann", "s3cret"))
        assert not isinstance(first, Identity)
        identity = await first
        assert identity.user.name == "ann"
        assert identity.user.groups == ("admins", "devs", "system:authenticated")
        assert (identity.method, identity.ambient) == ("basic", True)
        assert chain.identify(basic("ann", "s3cret")) is identity

    run(test)


@pytest.mark.parametrize(
    "header",
    [
        basic("ann", "wrong"),
        basic("ann", ""),
        basic("nobody", "s3cret"),
        basic("bob", "s3cret"),
        b"Basic",
        b"Basic !!",
        b"Basic " + base64.b64encode(b"ann:\xff\xfe"),
        b"Basic " + base64.b64encode(b"\xff:s3cret"),
    ],
)
def test_a_wrong_one_is_401_every_time(run: Runner, header: bytes) -> None:
    async def test(chain: Authenticators) -> None:
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await ask(chain, header)

    run(test)


def test_requests_that_arrive_together_share_one_verification(run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        answers = [chain.identify(basic("ann", "s3cret")) for _ in range(50)]
        waiting = [answer for answer in answers if not isinstance(answer, Identity)]
        assert len(waiting) == 50
        waiting[0].cancel()
        found = await asyncio.gather(*waiting[1:])
        assert len(set(map(id, found))) == 1

    run(test)


def test_a_flood_is_refused_and_the_loop_stays_free(run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        waiting = [chain.identify(basic("ann", f"guess {n}")) for n in range(QUEUE)]
        with pytest.raises(TooManyRequests) as refused:
            chain.identify(basic("ann", "one more"))
        assert refused.value.retry_after == 1
        results = await asyncio.gather(*(w for w in waiting if not isinstance(w, Identity)), return_exceptions=True)
        assert all(isinstance(result, Unauthorized) for result in results)
        assert (await ask(chain, basic("ann", "s3cret"))).user.name == "ann"

    run(test)


def test_one_thread_verifies(run: Runner) -> None:
    before = set(threading.enumerate())  # an earlier test's thread may still be ending: `close` does not wait for it

    async def test(chain: Authenticators) -> None:
        for n in range(3):
            with pytest.raises(Unauthorized):
                await ask(chain, basic("ann", str(n)))
        started = set(threading.enumerate()) - before
        assert sum(thread.name.startswith("passwords") for thread in started) == 1

    run(test)


def test_reload_ends_whoever_changed(users: Path, run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        ann, bob = await ask(chain, basic("ann", "s3cret")), await ask(chain, basic("bob", "hunter2"))
        write(users, f"ann:{HASHES['ann']}:devs\nbob:{HASHES['bob']}\n")
        chain.reload()
        assert (ann.valid, bob.valid) == (False, True)
        assert chain.identify(basic("bob", "hunter2")) is bob
        again = await ask(chain, basic("ann", "s3cret"))
        assert again.user.groups == ("devs", "system:authenticated")
        write(users, f"ann:{hashed(b'changed')}\n")
        chain.reload()
        assert (again.valid, bob.valid) == (False, False)
        for old in (basic("ann", "s3cret"), basic("bob", "hunter2")):
            with pytest.raises(Unauthorized):
                await ask(chain, old)

    run(test)


def test_reload_ends_also_whoever_was_forgotten_meanwhile(
    users: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection holds on to its caller; other spellings of a credential push it out of the cache."""
    monkeypatch.setattr(passwords, "CACHED", 2)

    async def test(chain: Authenticators) -> None:
        held = await ask(chain, basic("ann", "s3cret"))
        for spaces in range(1, 4):
            await ask(chain, basic("bob", "hunter2").replace(b" ", b" " * (spaces + 1)))
        assert await ask(chain, basic("ann", "s3cret")) is not held
        write(users, f"bob:{HASHES['bob']}\n")
        chain.reload()
        assert not held.valid

    run(test)


def test_a_password_that_was_right_when_it_came_and_is_not_any_more_is_refused(users: Path, run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        answer = chain.identify(basic("ann", "s3cret"))
        assert not isinstance(answer, Identity)
        write(users, f"bob:{HASHES['bob']}\n")
        chain.reload()
        with pytest.raises(Unauthorized):
            await answer

    run(test)


def test_a_client_that_left_leaves_no_complaint(run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
        chain.identify(basic("ann", "wrong"))
        assert (await ask(chain, basic("bob", "hunter2"))).user.name == "bob"
        gc.collect()
        assert complaints == []

    run(test)


def test_unknown_names_cost_what_known_ones_cost(users: Path, run: Runner) -> None:
    """A cheap hash must not be what every unknown name is measured by: the slow ones would be those that exist."""

    async def test(chain: Authenticators) -> None:
        known, again = chain._passwords, passwords.Passwords(str(users))
        names = [f"nobody{i}" for i in range(64)]
        drawn = {name: known._decoy(name) for name in names}
        assert {account.hash for account in drawn.values() if account is not None} == set(HASHES.values())
        assert drawn == {name: again._decoy(name) for name in names}
        again.close()

    run(test)


def test_memory_holds_no_password(run: Runner) -> None:
    async def test(chain: Authenticators) -> None:
        await ask(chain, basic("ann", "s3cret"))
        seen = repr(vars(chain)) + repr(vars(chain._passwords)) + repr(chain._passwords._known.young)
        assert "s3cret" not in seen
        assert base64.b64encode(b"ann:s3cret").decode() not in seen
        assert HASHES["ann"] not in seen

    run(test)
