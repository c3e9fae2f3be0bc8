"""Every authenticator of bearer tokens runs the suite: static tokens, reviews of an API, OIDC."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.gateway.authentication import JWTAuthenticators, TokenReviews
from portway.gateway.authentication.oidcconfig import (
    AuthenticationConfiguration,
    Issuer,
    JWTAuthenticator,
    PrefixedClaim,
)
from portway.gateway.authentication.statictokens import StaticTokens
from portway.kube.identity import User
from portway.testing.authenticator import AuthenticatorContract, Subject
from portway.testing.issuer import TestIssuer, rsa_key
from portway.testing.reviewapi import ReviewApi
from portway.testing.virtualtime import play, wall


class Healthy(StaticTokens):
    """A token file has nobody to ask."""

    def health(self) -> str:
        return ""


class TestStaticTokens(AuthenticatorContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "tokens.csv"

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[Subject]:
        self.file.write_text('a-long-good-token,ann,u1,"devs"\n')
        tokens = Healthy(str(self.file))

        async def withdraw() -> None:
            self.file.write_text("another,bob,u2\n")
            tokens.reload()

        yield Subject(tokens, b"a-long-good-token", b"a-wrong-token", User("ann", groups=("devs",)), withdraw)


class TestTokenReviews(AuthenticatorContract):
    def play(self, script: Coroutine[Any, Any, None]) -> None:
        play(script)

    def now(self) -> float:
        return wall()

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[Subject]:
        api = ReviewApi()
        user = User("ann", "u1", ("devs",))
        api.tokens["a-long-good-token"] = user
        reviews = TokenReviews(api, wall=wall)

        async def withdraw() -> None:
            api.tokens.clear()
            await asyncio.sleep(10)

        yield Subject(reviews, b"a-long-good-token", b"a-wrong-token", user, withdraw)
        reviews.close()


class TestOIDC(AuthenticatorContract):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[Subject]:
        async with TestIssuer() as issuer:
            entry = JWTAuthenticator(
                Issuer(issuer.url, ("portway",), certificate_authority=issuer.authority.pem),
                PrefixedClaim("sub", "oidc:"),
                PrefixedClaim("groups", "oidc:"),
            )
            authenticator = JWTAuthenticators(AuthenticationConfiguration((entry,)))

            async def withdraw() -> None:
                issuer.keys = {"k2": rsa_key(2)}
                await refreshed(authenticator, issuer)

            good = issuer.token(groups=["devs"]).encode()
            bad = issuer.token(key=rsa_key(9)).encode()
            yield Subject(authenticator, good, bad, User("oidc:ann", groups=("oidc:devs",)), withdraw)
            await authenticator.close()


async def refreshed(authenticator: JWTAuthenticators, issuer: TestIssuer) -> None:
    """A token with an unknown key makes the door look for it."""
    answer = authenticator.identify(issuer.token().encode())
    if isinstance(answer, asyncio.Future):
        await answer
