"""`python -m bench.delegation`: what delegated identity and decisions cost a worker. In one process, nothing else runs.

The figures of docs/design/delegation.md.
"""

import asyncio
import time
import tracemalloc
from collections.abc import Callable

import uvloop
from aiohttp import web

from portway.client.api import ApiClient, ClusterConfig
from portway.client.credentials import Credential, StaticCredentials
from portway.client.tls import TlsSettings
from portway.gateway.authentication import Identity, JWTAuthenticators, TokenReviews
from portway.gateway.authentication.oidcconfig import (
    AuthenticationConfiguration,
    Issuer,
    JWTAuthenticator,
    PrefixedClaim,
)
from portway.gateway.authorization import AccessReviews, RBACAuthorizer
from portway.kube.identity import User
from portway.testing.authorizer import READER, proxy, roles
from portway.testing.issuer import TestIssuer, ec_key, rsa_key
from portway.testing.reviewapi import ReviewApi
from portway.testing.tls import Authority

ROUNDS = 5
CALLS = 2000
AUTHORITY = Authority()


def timed(call: Callable[[], object]) -> float:
    """Microseconds of one call: the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - began)
    return best / CALLS * 1e6


def say(what: str, microseconds: float) -> None:
    print(f"{what:<66} {microseconds:9.1f} µs")


async def decisions() -> None:
    rbac = roles()
    api = ReviewApi(rbac)
    on_view, reviews = RBACAuthorizer(rbac), AccessReviews(api)
    web_, names = proxy("web:80"), ("web:http", "http:web:http")
    await _settled(reviews, READER, ())
    await _settled(reviews, READER, names)
    say("decision by RBAC on the view", timed(lambda: on_view.decide(READER, web_)))
    say("decision by a review, known", timed(lambda: reviews.decide(READER, web_)))
    say("the same with two other spellings", timed(lambda: reviews.decide(READER, web_, names)))
    tracemalloc.start()
    users = [User(f"user-{i}", f"uid-{i}", ("devs", "system:authenticated")) for i in range(4000)]
    before = tracemalloc.get_traced_memory()[0]
    for user in users:
        await _settled(reviews, user, ())
    api.asked.clear()
    print(f"{'memory of one known decision':<66} {(tracemalloc.get_traced_memory()[0] - before) / 4000:9.0f} bytes")
    tracemalloc.stop()


async def _settled(reviews: AccessReviews, user: User, names: tuple[str, ...]) -> None:
    answer = reviews.decide(user, proxy("web:80"), names)
    if isinstance(answer, asyncio.Future):
        await answer


async def tokens() -> None:
    api = ReviewApi()
    api.tokens = {"x" * 900: User("ann")}
    reviews = TokenReviews(api)
    token = b"x" * 900
    answer = reviews.identify(token)
    assert isinstance(answer, asyncio.Future)
    await answer
    say("token of 900 bytes, reviewed lately (behind the header cache)", timed(lambda: reviews.identify(token)))
    for algorithm, key in (("RS256", rsa_key()), ("ES256", ec_key())):
        async with TestIssuer(AUTHORITY) as issuer:
            issuer.keys = {"k": key}
            entry = JWTAuthenticator(
                Issuer(issuer.url, ("portway",), certificate_authority=AUTHORITY.pem),
                PrefixedClaim("sub"),
                algorithms=(algorithm,),
            )
            authenticator = JWTAuthenticators(AuthenticationConfiguration((entry,)))
            began = time.perf_counter()
            good = issuer.token(groups=["a"] * 20).encode()
            found = authenticator.identify(good)
            assert isinstance(found, asyncio.Future)
            await found
            say(f"first {algorithm} token: discovery and keys over TLS", (time.perf_counter() - began) * 1e6)

            def verify(
                authenticator: JWTAuthenticators = authenticator, good: bytes = good
            ) -> Identity | asyncio.Future[Identity] | None:
                return authenticator.identify(good)

            say(f"an {algorithm} token for the first time, keys known", timed(verify))
            await authenticator.close()


async def questions() -> None:
    """Over TLS to an API in the same process: twice the work that a worker has of it."""
    answers = ReviewApi(roles())

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(await answers.create(request.path, await request.json()), status=201)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=AUTHORITY.server()).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    client = ApiClient(
        ClusterConfig(
            url,
            credentials=StaticCredentials(Credential(tls=TlsSettings(authority_data=AUTHORITY.pem.encode()).context())),
        )
    )
    reviews = AccessReviews(client)
    users = [User(f"u{i}", groups=("named",)) for i in range(1200)]
    await asyncio.gather(*(_settled(reviews, user, ()) for user in users[:200]))
    began = time.perf_counter()
    for start in range(200, 1200, 200):
        await asyncio.gather(*(_settled(reviews, user, ()) for user in users[start : start + 200]))
    say("a review over TLS, 200 at a time, both ends in this process", (time.perf_counter() - began) / 1000 * 1e6)
    began = time.perf_counter()
    for number in range(200):
        await _settled(reviews, User(f"one{number}"), ())
    say("the same, one after the other", (time.perf_counter() - began) / 200 * 1e6)
    await client.close()
    await runner.cleanup()


async def main() -> None:
    await decisions()
    await tokens()
    await questions()


if __name__ == "__main__":
    uvloop.run(main())
