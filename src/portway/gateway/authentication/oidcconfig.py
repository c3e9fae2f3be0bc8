"""AuthenticationConfiguration files (apiserver.config.k8s.io/v1, v1beta1) and kube-apiserver's --oidc-* flags: both
become one frozen structure. Pure but for `read`; nothing is fetched here. Next: oidc.

Field names, rules and sentences are upstream's. What needs CEL is refused by name, see docs/design/delegation.md.
"""

import ssl
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from portway.gateway.authentication.errors import ConfigurationError
from portway.kube.quoting import quote

KIND: Final = "AuthenticationConfiguration"
VERSIONS: Final = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1")
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
"""What may be allowed at all: signatures by a key that only the issuer has. Never none, never HS*."""
MOST: Final = 64
"""Issuers in one file."""
MATCH_ANY: Final = "MatchAny"


class AuthenticationConfigurationError(ConfigurationError):
    """One line: which file, which field, what is wrong."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs, and for whom."""

    url: str
    audiences: tuple[str, ...]
    discovery_url: str = ""
    """Where the discovery document is; "" = at its place under `url`."""
    certificate_authority: str = field(default="", repr=False)
    """PEM; "" = the system's authorities."""

    @property
    def discovery(self) -> str:
        """The URL of the discovery document."""
        return self.discovery_url or self.url.rstrip("/") + "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class PrefixedClaim:
    """A claim and what is put before its value. No claim: nothing is taken."""

    claim: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class JWTAuthenticator:
    """One entry of `jwt`."""

    issuer: Issuer
    username: PrefixedClaim
    groups: PrefixedClaim = PrefixedClaim()
    uid_claim: str = ""
    required_claims: tuple[tuple[str, str], ...] = ()
    algorithms: tuple[str, ...] = ("RS256",)


@dataclass(frozen=True, slots=True)
class Anonymous:
    """The `anonymous` section. `paths` empty: every path."""

    enabled: bool
    paths: tuple[str, ...] = ()

    def admits(self, path: str) -> bool:
        """Whether somebody who offered nothing may be anonymous here: exact paths, as upstream."""
        return self.enabled and (not self.paths or path in self.paths)


@dataclass(frozen=True, slots=True)
class AuthenticationConfiguration:
    """A whole file. `anonymous` None: the file does not say."""

    jwt: tuple[JWTAuthenticator, ...] = ()
    anonymous: Anonymous | None = None


def read(path: str, disallowed_issuers: Sequence[str] = ()) -> AuthenticationConfiguration:
    """A file. AuthenticationConfigurationError, in one line, for everything that is wrong with it."""
    try:
        return parse(Path(path).read_text("utf-8"), disallowed_issuers)
    except (OSError, ValueError) as error:
        raise AuthenticationConfigurationError.reading("authentication configuration", path, error) from error


def parse(text: str, disallowed_issuers: Sequence[str] = ()) -> AuthenticationConfiguration:
    """A file's text (YAML or JSON). ValueError with the first thing that is wrong."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    top = _Fields(document, "")
    if top.text("kind") != KIND or top.text("apiVersion") not in VERSIONS:
        raise ValueError(f"is not a {KIND} of {' or '.join(VERSIONS)}")
    entries = top.items("jwt")
    if len(entries) > MOST:
        raise ValueError(f"jwt: Too many: {len(entries)}: must have at most {MOST} items")
    found = tuple(_jwt(entry, disallowed_issuers) for entry in entries)
    _unique("issuer.url", [one.issuer.url for one in found])
    _unique("issuer.discoveryURL", [one.issuer.discovery_url for one in found if one.issuer.discovery_url])
    anonymous = top.part("anonymous")
    top.nothing_else()
    return AuthenticationConfiguration(found, None if anonymous is None else _anonymous(anonymous))


def from_flags(
    *,
    issuer_url: str,
    client_id: str,
    ca_file: str = "",
    username_claim: str = "sub",
    username_prefix: str = "",
    groups_claim: str = "",
    groups_prefix: str = "",
    signing_algs: Sequence[str] = ("RS256",),
    required_claims: Iterable[tuple[str, str]] = (),
    disallowed_issuers: Sequence[str] = (),
) -> AuthenticationConfiguration:
    """--oidc-*: the same structure with one entry. AuthenticationConfigurationError when something is wrong.

    The user name's prefix is `ISSUER#` unless the claim is `email`; `-` means none.
    """
    if not issuer_url or not client_id:
        raise AuthenticationConfigurationError("--oidc-issuer-url and --oidc-client-id must be specified together")
    if issuer_url in disallowed_issuers:
        raise AuthenticationConfigurationError(f"--oidc-issuer-url: {_overlaps(issuer_url, disallowed_issuers)}")
    if unknown := [name for name in signing_algs if name not in ALGORITHMS]:
        raise AuthenticationConfigurationError(f"--oidc-signing-algs: unsupported signing alg: {quote(unknown[0])}")
    prefix = username_prefix or ("" if username_claim == "email" else f"{issuer_url}#")
    try:
        _check_url(issuer_url, "--oidc-issuer-url")
        authority = Path(ca_file).read_text("utf-8") if ca_file else ""
        _check_authority(authority, "the certificates")
    except OSError as error:
        raise AuthenticationConfigurationError.reading("--oidc-ca-file", ca_file, error) from error
    except ValueError as error:
        raise AuthenticationConfigurationError(str(error)) from error
    entry = JWTAuthenticator(
        Issuer(issuer_url, (client_id,), certificate_authority=authority),
        PrefixedClaim(username_claim, "" if prefix == "-" else prefix),
        PrefixedClaim(groups_claim, groups_prefix),
        required_claims=tuple(required_claims),
        algorithms=tuple(dict.fromkeys(signing_algs)) or ("RS256",),
    )
    return AuthenticationConfiguration((entry,))


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that says something twice: which of the two counts must not be a guess."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the safe loader says so
            if key in seen:
                raise ValueError(f"{key}: is set twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Fields:
    """A mapping whose fields are taken one by one; what is left over is unknown."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{path or 'the file'}: must be a mapping")
        self._left: dict[Any, Any] = dict(value)
        self.path = path

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def text(self, name: str) -> str:
        return self.optional(name) or ""

    def optional(self, name: str) -> str | None:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{self.at(name)}: Invalid value: must be a string")
        return value

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{self.at(name)}: Invalid value: must be a boolean")
        return bool(value)

    def part(self, name: str) -> "_Fields | None":
        value = self._left.pop(name, None)
        return None if value is None else _Fields(value, self.at(name))

    def items(self, name: str) -> list["_Fields"]:
        return [_Fields(item, f"{self.at(name)}[{i}]") for i, item in enumerate(self._list(name))]

    def texts(self, name: str) -> list[str]:
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{self.at(name)}: Invalid value: must be strings")
        return values

    def refuse(self, name: str, why: str) -> None:
        """A field that upstream has and we don't: refused by name, never ignored."""
        if self._left.pop(name, None):
            raise ValueError(f"{self.at(name)}: {why}")

    def nothing_else(self) -> None:
        for name in self._left:
            raise ValueError(f"unknown field {quote(self.at(str(name)))}")

    def _list(self, name: str) -> list[Any]:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, list):
            raise ValueError(f"{self.at(name)}: Invalid value: must be a list")
        return value or []


NO_CEL: Final = "CEL expressions are not supported by Portway"


def _jwt(entry: _Fields, disallowed: Sequence[str]) -> JWTAuthenticator:
    issuer_fields = entry.part("issuer")
    if issuer_fields is None:
        raise ValueError(f"{entry.at('issuer.url')}: Required value")
    issuer = _issuer(issuer_fields, disallowed)
    required = _required_claims(entry.items("claimValidationRules"))
    mappings = entry.part("claimMappings")
    if mappings is None:
        raise ValueError(f"{entry.at('claimMappings.username')}: Required value: claim or expression is required")
    username = _prefixed(mappings.part("username"))
    if not username.claim:
        raise ValueError(f"{mappings.at('username')}: Required value: claim or expression is required")
    groups = _prefixed(mappings.part("groups"))
    uid = mappings.part("uid")
    uid_claim = ""
    if uid is not None:
        uid.refuse("expression", NO_CEL + "; use claim")
        uid_claim = uid.text("claim")
        uid.nothing_else()
    mappings.refuse("extra", f"{NO_CEL}, and extra has no other values")
    mappings.nothing_else()
    entry.refuse("userValidationRules", f"{NO_CEL}, and these rules are nothing else")
    entry.nothing_else()
    return JWTAuthenticator(issuer, username, groups, uid_claim, required)


def _issuer(fields: _Fields, disallowed: Sequence[str]) -> Issuer:
    url, discovery = fields.text("url"), fields.text("discoveryURL")
    if not url:
        raise ValueError(f"{fields.at('url')}: Required value")
    if url in disallowed:
        raise ValueError(f"{fields.at('url')}: {_overlaps(url, disallowed)}")
    _check_url(url, fields.at("url"))
    if discovery:
        if url.rstrip("/") == discovery.rstrip("/"):
            why = "discoveryURL must be different from URL"
            raise ValueError(f"{fields.at('discoveryURL')}: Invalid value: {quote(discovery)}: {why}")
        _check_url(discovery, fields.at("discoveryURL"))
    authority = fields.text("certificateAuthority")
    _check_authority(authority, f"{fields.at('certificateAuthority')}: Invalid value: <omitted>")
    audiences = _audiences(fields)
    fields.refuse("egressSelectorType", "egress selectors are not supported by Portway")
    fields.nothing_else()
    return Issuer(url, audiences, discovery, authority)


def _overlaps(url: str, disallowed: Sequence[str]) -> str:
    listed = ", ".join(sorted(disallowed))
    return f"Invalid value: {quote(url)}: URL must not overlap with disallowed issuers: [{listed}]"


def _audiences(fields: _Fields) -> tuple[str, ...]:
    audiences, policy, at = fields.texts("audiences"), fields.text("audienceMatchPolicy"), fields.at("audiences")
    if not audiences:
        raise ValueError(f"{at}: Required value: at least one {at} is required")
    if not all(audiences):
        raise ValueError(f"{at}[{audiences.index('')}]: Required value")
    _unique(at, audiences)
    if policy not in (("", MATCH_ANY) if len(audiences) == 1 else (MATCH_ANY,)):
        must = "empty or MatchAny for single audience" if len(audiences) == 1 else "MatchAny for multiple audiences"
        at = fields.at("audienceMatchPolicy")
        raise ValueError(f"{at}: Invalid value: {quote(policy)}: audienceMatchPolicy must be {must}")
    return tuple(audiences)


def _required_claims(rules: list[_Fields]) -> tuple[tuple[str, str], ...]:
    found = []
    for rule in rules:
        rule.refuse("expression", NO_CEL + "; use claim and requiredValue")
        claim, value = rule.text("claim"), rule.text("requiredValue")
        if not claim:
            raise ValueError(f"{rule.path}: Required value: claim or expression is required")
        rule.refuse("message", "Invalid value: may not be specified when claim is set")
        rule.nothing_else()
        found.append((claim, value))
    _unique("claimValidationRules[*].claim", [claim for claim, _ in found])
    return tuple(found)


def _prefixed(fields: _Fields | None) -> PrefixedClaim:
    if fields is None:
        return PrefixedClaim()
    fields.refuse("expression", NO_CEL + "; use claim and prefix")
    claim, prefix = fields.text("claim"), fields.optional("prefix")
    fields.nothing_else()
    if claim and prefix is None:
        raise ValueError(
            f"{fields.at('prefix')}: Required value: prefix is required when claim is set. "
            "It can be set to an empty string to disable prefixing"
        )
    return PrefixedClaim(claim, prefix or "")


def _anonymous(fields: _Fields) -> Anonymous:
    enabled, paths = fields.flag("enabled"), []
    for condition in fields.items("conditions"):
        paths.append(condition.text("path"))
        condition.nothing_else()
    fields.nothing_else()
    if paths and not enabled:
        raise ValueError(
            "anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined"
        )
    return Anonymous(enabled, tuple(paths))


def _check_url(url: str, at: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        raise ValueError(f"{at}: Invalid value: {quote(url)}: {error}") from None
    wrong = ""
    if parts.scheme != "https":
        wrong = "URL scheme must be https"
    elif "@" in parts.netloc:
        # The URL has a secret then: not to be repeated.
        raise ValueError(f"{at}: Invalid value: URL must not contain a username or password")
    elif parts.query or "?" in url:
        wrong = "URL must not contain a query"
    elif parts.fragment or "#" in url:
        wrong = "URL must not contain a fragment"
    elif not parts.hostname:
        wrong = "URL must have a host"
    if wrong:
        raise ValueError(f"{at}: Invalid value: {quote(url)}: {wrong}")


def _check_authority(pem: str, at: str) -> None:
    if not pem:
        return
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{at}: data does not contain any valid RSA or ECDSA certificates") from None


def _unique(at: str, values: Sequence[str]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{at}: Duplicate value: {quote(value)}")


__all__ = [
    "ALGORITHMS",
    "Anonymous",
    "AuthenticationConfiguration",
    "AuthenticationConfigurationError",
    "Issuer",
    "JWTAuthenticator",
    "PrefixedClaim",
    "from_flags",
    "parse",
    "read",
]
