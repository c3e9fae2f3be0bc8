"""AuthenticationConfiguration files and --oidc-* flags: what they become, and what is refused, by name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.authentication import ConfigurationError
from portway.gateway.authentication.oidcconfig import (
    Anonymous,
    AuthenticationConfiguration,
    Issuer,
    JWTAuthenticator,
    PrefixedClaim,
    from_flags,
    parse,
    read,
)
from portway.testing.tls import Authority

URL = "https://issuer.example.org/realm"
PEM = Authority().pem


def document(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [entry()],
        **changes,
    }


def entry(issuer: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "issuer": {"url": URL, "audiences": ["portway"], **(issuer or {})},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
        **changes,
    }


def parsed(value: dict[str, Any]) -> AuthenticationConfiguration:
    return parse(yaml.safe_dump(value))


def test_everything_that_there_is() -> None:
    whole = entry(
        {
            "discoveryURL": "https://discovery.example.org/x",
            "certificateAuthority": PEM,
            "audiences": ["a", "b"],
            "audienceMatchPolicy": "MatchAny",
        },
        claimValidationRules=[{"claim": "hd", "requiredValue": "example.org"}],
        claimMappings={
            "username": {"claim": "email", "prefix": ""},
            "groups": {"claim": "roles", "prefix": "r:"},
            "uid": {"claim": "oid"},
        },
        userValidationRules=[],
    )
    found = parsed(document(jwt=[whole], anonymous={"enabled": True, "conditions": [{"path": "/livez"}]}))
    assert found == AuthenticationConfiguration(
        (
            JWTAuthenticator(
                Issuer(URL, ("a", "b"), "https://discovery.example.org/x", PEM),
                PrefixedClaim("email", ""),
                PrefixedClaim("roles", "r:"),
                "oid",
                (("hd", "example.org"),),
            ),
        ),
        Anonymous(True, ("/livez",)),
    )
    assert found.jwt[0].issuer.discovery == "https://discovery.example.org/x"
    assert Issuer(URL + "/", ()).discovery == URL + "/.well-known/openid-configuration"
    assert "BEGIN" not in repr(found)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_versions_and_an_empty_file(version: str) -> None:
    found = parsed({"apiVersion": f"apiserver.config.k8s.io/{version}", "kind": "AuthenticationConfiguration"})
    assert found == AuthenticationConfiguration()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "is not a AuthenticationConfiguration of apiserver.config.k8s.io/v1 or apiserver.config.k8s.io/v1beta1"),
        (document(apiVersion="apiserver.config.k8s.io/v1alpha1"), "is not a AuthenticationConfiguration of"),
        (document(jwts=[]), 'unknown field "jwts"'),
        (document(jwt={}), "jwt: Invalid value: must be a list"),
        (document(jwt=[1]), "jwt[0]: must be a mapping"),
        (document(jwt=[{}]), "jwt[0].issuer.url: Required value"),
        (document(jwt=[entry(x=1)]), 'unknown field "jwt[0].x"'),
        (document(jwt=[entry({"url": ""})]), "jwt[0].issuer.url: Required value"),
        (document(jwt=[entry({"url": 5})]), "jwt[0].issuer.url: Invalid value: must be a string"),
        (document(jwt=[entry({"url": "http://a"})]), 'url: Invalid value: "http://a": URL scheme must be https'),
        (document(jwt=[entry({"url": "https://a?b"})]), "URL must not contain a query"),
        (document(jwt=[entry({"url": "https://a#b"})]), "URL must not contain a fragment"),
        (document(jwt=[entry({"url": "https://:443/"})]), "URL must have a host"),
        (document(jwt=[entry({"url": "https://a:b"})]), "jwt[0].issuer.url: Invalid value"),
        (
            document(jwt=[entry({"url": "https://user:s3cr3t@a"})]),
            "jwt[0].issuer.url: Invalid value: URL must not contain a username or password",
        ),
        (document(jwt=[entry({"discoveryURL": URL + "/"})]), "discoveryURL must be different from URL"),
        (document(jwt=[entry({"discoveryURL": "http://a"})]), "issuer.discoveryURL: Invalid value"),
        (document(jwt=[entry({"certificateAuthority": "x"})]), "certificateAuthority: Invalid value: <omitted>"),
        (document(jwt=[entry({"audiences": []})]), "at least one jwt[0].issuer.audiences is required"),
        (document(jwt=[entry({"audiences": ["a", ""]})]), "jwt[0].issuer.audiences[1]: Required value"),
        (document(jwt=[entry({"audiences": ["a", 1]})]), "audiences: Invalid value: must be strings"),
        (
            document(jwt=[entry({"audiences": ["a", "a"], "audienceMatchPolicy": "MatchAny"})]),
            'audiences: Duplicate value: "a"',
        ),
        (document(jwt=[entry({"audiences": ["a", "b"]})]), "audienceMatchPolicy must be MatchAny for multiple"),
        (document(jwt=[entry({"audienceMatchPolicy": "MatchAll"})]), "must be empty or MatchAny for single audience"),
        (document(jwt=[entry({"egressSelectorType": "cluster"})]), "egress selectors are not supported by Portway"),
        (document(jwt=[entry(), entry()]), f'issuer.url: Duplicate value: "{URL}"'),
        (document(jwt=[entry({"url": f"https://i{n}"}) for n in range(65)]), "jwt: Too many: 65: must have at most 64"),
        (document(jwt=[entry(claimMappings=None)]), "claimMappings.username: Required value: claim or expression"),
        (document(jwt=[entry(claimMappings={"username": {}})]), "claimMappings.username: Required value: claim or"),
        (
            document(jwt=[entry(claimMappings={"username": {"claim": "sub"}})]),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can",
        ),
        (
            document(jwt=[entry(claimMappings={"username": {"expression": "claims.sub"}})]),
            "claimMappings.username.expression: CEL expressions are not supported by Portway; use claim and prefix",
        ),
        (
            document(jwt=[entry(claimMappings=entry()["claimMappings"] | {"groups": {"claim": "g"}})]),
            "claimMappings.groups.prefix: Required value",
        ),
        (
            document(jwt=[entry(claimMappings=entry()["claimMappings"] | {"uid": {"expression": "claims.x"}})]),
            "claimMappings.uid.expression: CEL expressions are not supported",
        ),
        (
            document(jwt=[entry(claimMappings=entry()["claimMappings"] | {"extra": [{"key": "a/b"}]})]),
            "claimMappings.extra: CEL expressions are not supported",
        ),
        (document(jwt=[entry(userValidationRules=[{"expression": "true"}])]), "userValidationRules: CEL expressions"),
        (
            document(jwt=[entry(claimValidationRules=[{"expression": "true"}])]),
            "claimValidationRules[0].expression: CEL expressions are not supported by Portway; use claim and",
        ),
        (document(jwt=[entry(claimValidationRules=[{}])]), "claimValidationRules[0]: Required value"),
        (
            document(jwt=[entry(claimValidationRules=[{"claim": "a", "message": "m"}])]),
            "may not be specified when claim is set",
        ),
        (document(jwt=[entry(claimValidationRules=[{"claim": "a"}] * 2)]), 'Duplicate value: "a"'),
        (document(anonymous={"enabled": "yes"}), "anonymous.enabled: Invalid value: must be a boolean"),
        (
            document(anonymous={"enabled": False, "conditions": [{"path": "/x"}]}),
            "enabled should be set to true when conditions are defined",
        ),
        (
            document(anonymous={"conditions": [{"paths": "/x"}], "enabled": True}),
            'unknown field "anonymous.conditions[0]',
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_field(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parsed(value)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "a: is set twice"),
        ("a: [", "while parsing"),
        ("[]", "the file: must be a mapping"),
        ("? [1]\n: 2\n", "unhashable"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
    ],
)
def test_texts_that_are_no_document(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


@given(st.text(alphabet="apiVersonkd:jwt[]{}-\n \"'&*!|>?#%@`,.0x"))
def test_no_text_breaks_it(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said


def test_the_service_accounts_own_issuer_is_disallowed() -> None:
    with pytest.raises(ValueError, match="URL must not overlap with disallowed issuers"):
        parse(yaml.safe_dump(document()), [URL])


def test_errors_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "authn.yaml"
    with pytest.raises(ConfigurationError, match=re.escape(f"authentication configuration {file}: No such file")):
        read(str(file))
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"authn\.yaml: .*decode"):
        read(str(file))


@pytest.mark.parametrize(
    ("flags", "username"),
    [
        ({}, PrefixedClaim("sub", f"{URL}#")),
        ({"username_claim": "email"}, PrefixedClaim("email", "")),
        ({"username_claim": "name"}, PrefixedClaim("name", f"{URL}#")),
        ({"username_prefix": "-"}, PrefixedClaim("sub", "")),
        ({"username_claim": "email", "username_prefix": "o:"}, PrefixedClaim("email", "o:")),
    ],
)
def test_flags_and_the_user_names_prefix(flags: dict[str, Any], username: PrefixedClaim) -> None:
    found = from_flags(issuer_url=URL, client_id="portway", **flags).jwt[0]
    assert found == JWTAuthenticator(Issuer(URL, ("portway",)), username)


def test_all_flags(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    found = from_flags(
        issuer_url=URL,
        client_id="portway",
        ca_file=str(tmp_path / "ca.pem"),
        groups_claim="roles",
        groups_prefix="g:",
        signing_algs=("ES256", "RS256"),
        required_claims=[("hd", "example.org")],
    ).jwt[0]
    assert found.issuer.certificate_authority == PEM
    assert found.groups == PrefixedClaim("roles", "g:")
    assert (found.algorithms, found.required_claims) == (("ES256", "RS256"), (("hd", "example.org"),))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"client_id": ""}, "--oidc-issuer-url and --oidc-client-id must be specified together"),
        ({"issuer_url": "http://a"}, '--oidc-issuer-url: Invalid value: "http://a": URL scheme must be https'),
        ({"signing_algs": ("none",)}, '--oidc-signing-algs: unsupported signing alg: "none"'),
        ({"signing_algs": ("RS256", "HS256")}, 'unsupported signing alg: "HS256"'),
        ({"ca_file": "/nowhere"}, "--oidc-ca-file /nowhere: No such file or directory"),
        ({"ca_file": "/etc/hostname"}, "does not contain any valid"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        from_flags(**{"issuer_url": URL, "client_id": "portway", **flags})


def test_anonymous_paths_are_exact() -> None:
    assert Anonymous(True).admits("/anything")
    assert not Anonymous(False).admits("/livez")
    some = Anonymous(True, ("/livez", "/readyz"))
    assert [some.admits(path) for path in ("/livez", "/livez/", "/livez/ping", "/", "/readyz")] == [
        True,
        False,
        False,
        False,
        True,
    ]
