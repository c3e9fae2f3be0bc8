"""The chain: order, what is nobody, what is 401, what ends at once; static tokens and their file."""

import asyncio
from pathlib import Path

import pytest

from portway.client.view import ClusterView
from portway.gateway.authentication import Authenticators, ConfigurationError, Identity
from portway.gateway.authentication.headers import EXTRA_SPACE_WARNING, PROTOCOL_PREFIX
from portway.gateway.settings import Authentication
from portway.kube.errors import Unauthorized
from portway.kube.identity import User

TOKENS = """admin-token,admin,u1,system:masters
reader-token,reader,u2
named-token,carol,u3,"named,devs"
"""
IN_PROTOCOL = PROTOCOL_PREFIX + b"YWRtaW4tdG9rZW4, chat"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.csv"
    path.write_text(TOKENS)
    return path


def make(tokens: Path | None = None, anonymous: bool = True) -> Authenticators:
    settings = Authentication(anonymous_auth=anonymous, token_auth_file=str(tokens or ""))
    return Authenticators(settings, ClusterView())


def known(answer: Identity | asyncio.Future[Identity]) -> Identity:
    assert isinstance(answer, Identity)
    return answer


@pytest.mark.parametrize(
    ("authorization", "protocols", "user", "groups"),
    [
        (None, None, "system:anonymous", ("system:unauthenticated",)),
        (b"", None, "system:anonymous", ("system:unauthenticated",)),
        (b"Basic YWRtaW46YWRtaW4=", None, "system:anonymous", ("system:unauthenticated",)),
        (b"Negotiate x", None, "system:anonymous", ("system:unauthenticated",)),
        (b"Bearer", None, "system:anonymous", ("system:unauthenticated",)),
        (b"Bearer  admin-token", None, "system:anonymous", ("system:unauthenticated",)),
        (b"Bearer admin-token", None, "admin", ("system:masters", "system:authenticated")),
        (b"bearer reader-token", None, "reader", ("system:authenticated",)),
        (b"Bearer named-token junk", None, "carol", ("named", "devs", "system:authenticated")),
        (None, IN_PROTOCOL, "admin", ("system:masters", "system:authenticated")),
        (None, b"chat", "system:anonymous", ("system:unauthenticated",)),
        (b"Basic eDp5", IN_PROTOCOL, "admin", ("system:masters", "system:authenticated")),
        (b"Bearer wrong", IN_PROTOCOL, "admin", ("system:masters", "system:authenticated")),
        (b"Bearer reader-token", IN_PROTOCOL, "reader", ("system:authenticated",)),
    ],
)
def test_who(
    tokens: Path, authorization: bytes | None, protocols: bytes | None, user: str, groups: tuple[str, ...]
) -> None:
    identity = known(make(tokens).identify(authorization, None, protocols))
    assert (identity.user.name, identity.user.groups) == (user, groups)


@pytest.mark.parametrize(
    ("authorization", "protocols"),
    [
        (b"Bearer wrong", None),
        (b"Bearer admin-token2", None),
        (b"Bearer \xff\xfe", None),
        (b"Bearer a.b.c", None),
        (b"Bearer wrong", b"chat"),
        (None, PROTOCOL_PREFIX + b"d3Jvbmc, chat"),
        (None, PROTOCOL_PREFIX + b"YWRtaW4tdG9rZW4"),
        (b"Basic eDp5", PROTOCOL_PREFIX + b"d3Jvbmc, chat"),
    ],
)
def test_a_bad_credential_is_401_never_anonymous(
    tokens: Path, authorization: bytes | None, protocols: bytes | None
) -> None:
    with pytest.raises(Unauthorized) as refused:
        make(tokens).identify(authorization, None, protocols)
    assert refused.value.status()["message"] == "Unauthorized"


def test_a_token_is_bad_even_where_no_token_can_be_good() -> None:
    with pytest.raises(Unauthorized):
        make().identify(b"Bearer anything")


def test_the_extra_space_is_warned_of(tokens: Path) -> None:
    chain = make(tokens)
    assert known(chain.identify(b"Bearer  admin-token")).warning == EXTRA_SPACE_WARNING
    assert known(chain.identify(None)).warning is None
    assert known(chain.identify(b"Bearer  x", None, IN_PROTOCOL)).user.name == "admin"


def test_without_anonymous_nothing_offered_is_401(tokens: Path) -> None:
    chain = make(tokens, anonymous=False)
    for offered in (None, b"Basic eDp5", b"Bearer  admin-token"):
        with pytest.raises(Unauthorized):
            chain.identify(offered)
    assert known(chain.identify(b"Bearer admin-token")).user.name == "admin"


def test_a_certificate_comes_first_and_an_expired_one_is_an_error(tokens: Path) -> None:
    chain = make(tokens)
    good = Identity(User("jane"), "certificate", ambient=True)
    expired = Identity(User("jane"), "certificate", ambient=True, expires=1.0)
    assert chain.identify(b"Bearer wrong", good) is good
    assert chain.identify(None, good) is good
    assert known(chain.identify(b"Bearer reader-token", expired)).user.name == "reader"
    with pytest.raises(Unauthorized):
        chain.identify(None, expired)


def test_a_known_token_is_the_same_identity_every_time(tokens: Path) -> None:
    chain = make(tokens)
    first = chain.identify(b"Bearer admin-token")
    assert chain.identify(b"Bearer admin-token") is first
    assert chain.identify(b"bearer admin-token") is first
    assert chain.identify(None, None, IN_PROTOCOL) is first


def test_removed_and_changed_tokens_end_with_reload(tokens: Path) -> None:
    chain = make(tokens)
    admin, reader, carol = (known(chain.identify(b"Bearer %s-token" % n)) for n in (b"admin", b"reader", b"named"))
    tokens.write_text("admin-token,admin,u1,system:masters\nreader-token,reader,u2,more\n")
    chain.reload()
    assert (admin.valid, reader.valid, carol.valid) == (True, False, False)
    assert chain.identify(b"Bearer admin-token") is admin
    assert known(chain.identify(b"Bearer reader-token")).user.groups == ("more", "system:authenticated")
    with pytest.raises(Unauthorized):
        chain.identify(b"Bearer named-token")


def test_a_broken_file_changes_nothing_and_is_named_without_its_secrets(tokens: Path) -> None:
    chain = make(tokens)
    admin = known(chain.identify(b"Bearer admin-token"))
    tokens.write_text("sesame,onlytwo\n")
    with pytest.raises(ConfigurationError, match=r"^token file .*tokens\.csv: line 1: ") as broken:
        chain.reload()
    assert "sesame" not in str(broken.value)
    assert admin.valid
    assert chain.identify(b"Bearer admin-token") is admin


@pytest.mark.parametrize(
    "settings",
    [
        Authentication(token_auth_file="/nonexistent/tokens.csv"),
        Authentication(basic_auth_file="/nonexistent/users"),
        Authentication(service_account_key_files=("/nonexistent/key.pem",)),
        Authentication(service_account_key_files=("/dev/null",)),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(settings: Authentication) -> None:
    with pytest.raises(ConfigurationError, match=r"^[^\n]*(/nonexistent/|/dev/null)[^\n]*$"):
        Authenticators(settings, ClusterView())


def test_nothing_prints_a_token(tokens: Path) -> None:
    chain = make(tokens)
    identity = known(chain.identify(b"Bearer admin-token"))
    assert "admin-token" not in repr(identity)
    assert b"admin-token" not in identity.audit
    assert repr(identity) == "Identity('admin', 'token', valid=True)"


def test_the_audit_user_is_ready(tokens: Path) -> None:
    identity = known(make(tokens).identify(b"Bearer named-token"))
    assert identity.audit == b'{"username":"carol","uid":"u3","groups":["named","devs","system:authenticated"]}'
