"""From settings to what a worker asks outside."""

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from portway.gateway.authentication import ConfigurationError
from portway.gateway.delegation import Delegated
from portway.gateway.settings import ClusterSettings, Delegation, GatewaySettings
from portway.kube.attributes import parse
from portway.kube.errors import StatusError
from portway.kube.identity import User
from portway.testing.reviewapi import ReviewApi

URL = "https://127.0.0.1:9/issuer"
CONFIG = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous: {enabled: true, conditions: [{path: /livez}]}
"""


def play(script: Coroutine[Any, Any, None]) -> None:
    asyncio.run(script)


def test_nothing_is_asked_unless_it_is_set() -> None:
    async def run() -> None:
        delegated = Delegated(Delegation(), ReviewApi())
        assert delegated.authenticators == ()
        assert delegated.checks() == {}
        assert delegated.anonymous() is None
        assert not delegated.changed()
        delegated.reload()
        await delegated.close()

    play(run())


def test_issuers_before_the_cluster_and_checks_by_name(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "authn.yaml").write_text(CONFIG)
        settings = Delegation(authentication_config=str(tmp_path / "authn.yaml"), authentication_token_webhook=True)
        api = ReviewApi()
        delegated = Delegated(settings, api)
        authorizer = delegated.authorizer(api)
        assert [type(one).__name__ for one in delegated.authenticators] == ["JWTAuthenticators", "TokenReviews"]
        assert list(delegated.checks()) == ["oidc", "token-reviews", "access-reviews"]
        rule = delegated.anonymous()
        assert rule is not None
        assert (rule.admits("/livez"), rule.admits("/readyz")) == (True, False)
        api.refuse(403, "Forbidden", "no")
        with pytest.raises(StatusError):
            answer = authorizer.decide(User("a"), parse("GET", "/x"))
            assert isinstance(answer, asyncio.Future)
            await answer
        assert [bool(check()) for check in delegated.checks().values()] == [False, False, True]
        (tmp_path / "authn.yaml").write_text(CONFIG.replace("livez", "readyz"))
        assert delegated.changed()
        delegated.reload()
        rule = delegated.anonymous()
        assert rule is not None
        assert rule.admits("/readyz")
        await delegated.close()

    play(run())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Delegation(authentication_config="/x", oidc_issuer_url=URL), "mutually exclusive"),
        (Delegation(oidc_client_id="a"), "must be specified together"),
        (Delegation(oidc_issuer_url=URL, oidc_client_id="a", oidc_required_claims=("x",)), "must be CLAIM=VALUE"),
        (Delegation(oidc_issuer_url="https://sa", oidc_client_id="a"), "must not overlap with disallowed issuers"),
        (Delegation(authentication_config="/nowhere"), "No such file or directory"),
    ],
)
def test_settings_that_do_not_go_together(settings: Delegation, said: str) -> None:
    async def run() -> None:
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            Delegated(settings, ReviewApi(), "https://sa")

    play(run())


def test_flags_reach_the_issuer() -> None:
    async def run() -> None:
        settings = Delegation(oidc_issuer_url=URL, oidc_client_id="a", oidc_required_claims=("hd=b=c",))
        delegated = Delegated(settings, ReviewApi())
        assert "not fetched yet" in delegated.checks()["oidc"]()
        await delegated.close()

    play(run())


def test_settings_cross_the_process_boundary() -> None:
    settings = GatewaySettings(
        (ClusterSettings(),), delegation=Delegation(oidc_signing_algs=("ES256",), outage_grace=5)
    )
    assert GatewaySettings.from_json(settings.to_json()) == settings
