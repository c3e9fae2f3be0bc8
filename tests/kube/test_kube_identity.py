"""Users and the names that Kubernetes reserves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube import identity
from portway.kube.identity import User


def test_user_info_leaves_out_what_is_empty() -> None:
    assert identity.user_info(User("carol")) == {"username": "carol"}
    user = User("carol", "u3", ("named", "devs"), {"b": ("2",), "a": ("1", "x")})
    info = identity.user_info(user)
    assert info == {
        "username": "carol",
        "uid": "u3",
        "groups": ["named", "devs"],
        "extra": {"a": ["1", "x"], "b": ["2"]},
    }
    assert list(info["extra"]) == ["a", "b"]


def test_users_can_be_keys_whatever_their_extras() -> None:
    assert len({User("a", extra={"x": ("1",)}), User("a"), User("a")}) == 2


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        (User("carol", groups=("devs",)), ("devs", "system:authenticated")),
        (User("carol"), ("system:authenticated",)),
        (User("x", groups=("system:authenticated", "a")), ("system:authenticated", "a")),
        (User("x", groups=("system:unauthenticated",)), ("system:unauthenticated",)),
        (User("system:anonymous"), ()),
        (identity.ANONYMOUS_USER, ("system:unauthenticated",)),
    ],
)
def test_who_is_authenticated(user: User, groups: tuple[str, ...]) -> None:
    assert identity.with_authenticated(user).groups == groups


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("system:serviceaccount:ns:robot", ("ns", "robot")),
        ("system:serviceaccount:ns:", None),
        ("system:serviceaccount::robot", None),
        ("system:serviceaccount:ns", None),
        ("system:serviceaccount:ns:a:b", None),
        ("robot", None),
    ],
)
def test_which_users_are_service_accounts(name: str, account: tuple[str, str] | None) -> None:
    assert identity.split_service_account(name) == account


NAMES = st.text(alphabet="abc-.", min_size=1)


@given(NAMES, NAMES)
def test_service_account_names_come_apart_again(namespace: str, name: str) -> None:
    assert identity.split_service_account(identity.service_account_name(namespace, name)) == (namespace, name)
