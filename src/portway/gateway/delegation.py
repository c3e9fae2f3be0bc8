"""What a worker asks outside about callers: from settings to authenticators and authorisers, their checks and reloads.

The questions themselves are in `authentication.oidc`, `authentication.tokenreview` and `authorization.accessreview`.
"""

from collections.abc import Callable, Mapping

from portway.gateway.authentication import ConfigurationError, JWTAuthenticators, TokenAuthenticator, TokenReviews
from portway.gateway.authentication.oidcconfig import Anonymous, AuthenticationConfiguration, from_flags
from portway.gateway.authorization import AccessReviews
from portway.gateway.reviews import Creates
from portway.gateway.settings import Delegation


class Delegated:
    """Made once per worker, on its loop."""

    def __init__(self, settings: Delegation, api: Creates, service_account_issuer: str = "") -> None:
        """`api`: the cluster that is asked about tokens. ConfigurationError when a file or flag can't be used.

        `service_account_issuer`: whose tokens are no OIDC issuer's to make.
        """
        self._settings = settings
        self._jwts = _jwts(settings, service_account_issuer)
        self._reviews = _reviews(settings, api)
        self._authorizers: list[AccessReviews] = []

    @property
    def authenticators(self) -> tuple[TokenAuthenticator, ...]:
        """In the order in which they are asked: a token of a configured issuer never leaves the door."""
        return tuple(one for one in (self._jwts, self._reviews) if one is not None)

    def anonymous(self) -> Anonymous | None:
        """What the authentication configuration says of callers who offer nothing; None: nothing."""
        return self._jwts.anonymous if self._jwts is not None else None

    def authorizer(self, api: Creates) -> AccessReviews:
        """An authoriser that asks this cluster."""
        authorizer = AccessReviews(
            api,
            allow_ttl=self._settings.authorization_webhook_cache_authorized_ttl,
            deny_ttl=self._settings.authorization_webhook_cache_unauthorized_ttl,
            grace=self._settings.outage_grace,
        )
        self._authorizers.append(authorizer)
        return authorizer

    def checks(self) -> Mapping[str, Callable[[], str]]:
        """For /readyz. Call it when every authoriser is made."""
        checks: dict[str, Callable[[], str]] = {}
        if self._jwts is not None:
            checks["oidc"] = self._jwts.health
        if self._reviews is not None:
            checks["token-reviews"] = self._reviews.health
        for number, authorizer in enumerate(self._authorizers):
            checks[f"access-reviews-{number}" if number else "access-reviews"] = authorizer.health
        return checks

    def changed(self) -> bool:
        """Whether the authentication configuration's file changed since it was read."""
        return self._jwts is not None and self._jwts.changed()

    def reload(self) -> None:
        """Read it again. ConfigurationError leaves what was read before in force."""
        if self._jwts is not None:
            self._jwts.reload()

    async def close(self) -> None:
        """Ask nobody any more."""
        if self._jwts is not None:
            await self._jwts.close()
        if self._reviews is not None:
            self._reviews.close()
        for authorizer in self._authorizers:
            authorizer.close()


def _jwts(settings: Delegation, service_account_issuer: str) -> JWTAuthenticators | None:
    disallowed = (service_account_issuer,) if service_account_issuer else ()
    by_flags = bool(settings.oidc_issuer_url or settings.oidc_client_id)
    if settings.authentication_config:
        if by_flags:
            raise ConfigurationError("--authentication-config and --oidc-* flags are mutually exclusive")
        return JWTAuthenticators(settings.authentication_config, disallowed)
    return JWTAuthenticators(_flags(settings, disallowed)) if by_flags else None


def _flags(settings: Delegation, disallowed: tuple[str, ...]) -> AuthenticationConfiguration:
    return from_flags(
        issuer_url=settings.oidc_issuer_url,
        client_id=settings.oidc_client_id,
        ca_file=settings.oidc_ca_file,
        username_claim=settings.oidc_username_claim,
        username_prefix=settings.oidc_username_prefix,
        groups_claim=settings.oidc_groups_claim,
        groups_prefix=settings.oidc_groups_prefix,
        signing_algs=settings.oidc_signing_algs,
        required_claims=[_pair(text) for text in settings.oidc_required_claims],
        disallowed_issuers=disallowed,
    )


def _pair(text: str) -> tuple[str, str]:
    claim, equals, value = text.partition("=")
    if not claim or not equals:
        raise ConfigurationError("--oidc-required-claim: must be CLAIM=VALUE")
    return claim, value


def _reviews(settings: Delegation, api: Creates) -> TokenReviews | None:
    if not settings.authentication_token_webhook:
        return None
    return TokenReviews(
        api,
        settings.token_review_audiences,
        ttl=settings.authentication_token_webhook_cache_ttl,
        grace=settings.outage_grace,
    )


__all__ = ["Delegated"]
