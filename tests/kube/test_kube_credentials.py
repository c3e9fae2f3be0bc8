"""Token files and password files: what they say, and errors that say where but not what."""

import itertools

import bcrypt
import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from portway.kube import htpasswd
from portway.kube.htpasswd import Entry, HtpasswdError
from portway.kube.identity import User
from portway.kube.tokenfile import TokenFileError, parse_token_file


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("", {}),
        ("\n\n", {}),
        ("t,admin,u1\n", {"t": User("admin", "u1")}),
        ("t,admin,u1", {"t": User("admin", "u1")}),
        ('t,carol,u3,"named,devs"\r\n', {"t": User("carol", "u3", ("named", "devs"))}),
        ("t,carol,u3,named\n", {"t": User("carol", "u3", ("named",))}),
        ("t,carol,u3,\n", {"t": User("carol", "u3")}),
        ('t,carol,u3,",a,"\n', {"t": User("carol", "u3", ("a",))}),
        ("t,carol,u3,a,more,columns\n", {"t": User("carol", "u3", ("a",))}),
        ('"t""1","ca,rol",\n', {'t"1': User("ca,rol")}),
        (",nobody,u0\nt,a,1\nt,b,2\n", {"t": User("b", "2")}),
        ('t,"two\nlines",u1\n', {"t": User("two\nlines", "u1")}),
    ],
)
def test_token_files(text: str, users: dict[str, User]) -> None:
    assert parse_token_file(text) == users


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,a,1\nsecret,b\n", "line 2: at least 3 columns are needed (token, user name, user uid), found 2"),
        ("\n\nsecret\n", "line 3: at least 3 columns are needed (token, user name, user uid), found 1"),
        ('t,a,1\n"secret,b,2\n', "line 2: unexpected end of data"),
        ('"secret"x,b,2\n', "line 1: ',' expected after '\"'"),
    ],
)
def test_token_file_errors_name_the_line_only(text: str, message: str) -> None:
    with pytest.raises(TokenFileError) as raised:
        parse_token_file(text)
    assert str(raised.value) == message
    assert raised.value.__cause__ is None


@given(st.text(alphabet='ab,"\n\r\0 ') | st.text())
def test_token_files_raise_their_own_error_only(text: str) -> None:
    try:
        users = parse_token_file(text)
    except TokenFileError:
        return
    assert "" not in users


BCRYPT = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
ARGON2 = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("correct horse")


def test_password_files() -> None:
    text = f"# who\n\nalice:{BCRYPT}\r\nbob:{ARGON2}:devs, ops,\n  carol:{BCRYPT}:  \n"
    assert htpasswd.parse(text) == {
        "alice": Entry(BCRYPT),
        "bob": Entry(ARGON2, ("devs", "ops")),
        "carol": Entry(BCRYPT),
    }


def test_a_groups_name_may_have_colons() -> None:
    assert htpasswd.parse(f"a:{BCRYPT}:system:masters,dev") == {"a": Entry(BCRYPT, ("system:masters", "dev"))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice", "line 1: not of the form user:hash or user:hash:group1,group2"),
        (f":{BCRYPT}", "line 1: not of the form user:hash or user:hash:group1,group2"),
        (f"a:{BCRYPT}\na:{BCRYPT}", "line 2: the user occurs twice"),
        ("a:secret", "line 1: the hash is neither bcrypt nor argon2 (htpasswd -B makes bcrypt hashes)"),
        ("a:$apr1$x$y", "line 1: the hash is neither bcrypt nor argon2 (htpasswd -B makes bcrypt hashes)"),
        ("a:{SHA}x", "line 1: the hash is neither bcrypt nor argon2 (htpasswd -B makes bcrypt hashes)"),
    ],
    ids=itertools.count(),
)
def test_password_file_errors_name_the_line_only(text: str, message: str) -> None:
    with pytest.raises(HtpasswdError) as raised:
        htpasswd.parse(text)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "hashed",
    [BCRYPT, ARGON2, BCRYPT.replace("$2b$", "$2y$"), BCRYPT.replace("$2b$", "$2a$")],
    ids=["2b", "argon2", "2y", "2a"],
)
def test_the_password_and_no_other_verifies(hashed: str) -> None:
    assert htpasswd.verify(hashed, "correct horse")
    for wrong in ("", "correct", "correct horse ", "Correct horse", "correct horse\0", "\ud800"):
        assert not htpasswd.verify(hashed, wrong)


@pytest.mark.parametrize("hashed", ["", "plain", "$2b$", "$2b$04$short", "$argon2id$", "$argon2id$v=19$m=x", "$2y$é"])
def test_a_broken_hash_verifies_nothing(hashed: str) -> None:
    assert not htpasswd.verify(hashed, "correct horse")


def test_a_password_that_is_not_utf_8_verifies_by_its_bytes() -> None:
    secret = "pässword".encode("latin-1")
    hashed = bcrypt.hashpw(secret, bcrypt.gensalt(4)).decode()
    assert htpasswd.verify(hashed, secret.decode("utf-8", "surrogateescape"))
    assert not htpasswd.verify(hashed, "pässword")


def test_a_long_password_verifies_by_what_bcrypt_sees() -> None:
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert htpasswd.verify(hashed, "x" * 100)
    assert not htpasswd.verify(hashed, "x" * 71)


def test_new_hashes_verify_and_are_salted() -> None:
    one, other = htpasswd.hash_password("pässword", 4), htpasswd.hash_password("pässword", 4)
    assert one != other
    assert htpasswd.verify(one, "pässword")
    assert htpasswd.parse(f"u:{one}") == {"u": Entry(one)}


@pytest.mark.parametrize("password", ["", "x" * 73, "é" * 37, "a\0b"])
def test_what_bcrypt_would_cut_short_is_not_hashed(password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        htpasswd.hash_password(password, 4)


@given(st.text(alphabet="ab:$2y\n# ,") | st.text())
def test_password_files_raise_their_own_error_only(text: str) -> None:
    try:
        entries = htpasswd.parse(text)
    except HtpasswdError:
        return
    assert "" not in entries
