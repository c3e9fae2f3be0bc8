"""The authoriser's seam, on RBAC objects as a view holds them: decisions, reasons and equivalent names."""

from typing import Any

import pytest

from portway.gateway.authorization import RBACAuthorizer
from portway.kube.attributes import parse
from portway.kube.errors import ServiceUnavailable, forbidden
from portway.kube.identity import User
from portway.kube.rbac import RBAC

RULES: dict[str, list[dict[str, Any]]] = {
    "reader": [{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}],
    "named": [
        {
            "apiGroups": [""],
            "resources": ["services/proxy"],
            "resourceNames": ["web:http", "https:web:tls", "single"],
            "verbs": ["*"],
        }
    ],
}
SUBJECTS = {"reader": {"kind": "User", "name": "reader"}, "named": {"kind": "Group", "name": "named"}}
USERS = {
    "reader": User("reader", groups=("system:authenticated",)),
    "carol": User("carol", groups=("named", "devs", "system:authenticated")),
    "nobody": User("nobody", groups=("system:authenticated",)),
    "admin": User("admin", groups=("system:masters", "system:authenticated")),
    "anonymous": User("system:anonymous", groups=("system:unauthenticated",)),
}


@pytest.fixture
def authorizer() -> RBACAuthorizer:
    rbac = RBAC()
    group = "rbac.authorization.k8s.io"
    for name, rules in RULES.items():
        rbac.set(
            "Role", "demo", name, {"kind": "Role", "metadata": {"name": name, "namespace": "demo"}, "rules": rules}
        )
        binding = {
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "demo"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": group, **SUBJECTS[name]}],
        }
        rbac.set("RoleBinding", "demo", name, binding)
    return RBACAuthorizer(rbac)


@pytest.mark.parametrize(
    ("user", "method", "name", "names", "allowed"),
    [
        ("reader", "GET", "web:http", (), True),
        ("reader", "HEAD", "web:http", (), True),
        ("reader", "POST", "web:http", (), False),
        ("reader", "OPTIONS", "web:http", (), False),
        ("carol", "OPTIONS", "web:http", (), True),
        ("carol", "GET", "web", (), False),
        ("carol", "GET", "web:80", (), False),
        ("carol", "GET", "web:80", ("web:http", "http:web:http"), True),
        ("carol", "GET", "web:8080", ("web:admin",), False),
        ("nobody", "GET", "web:http", ("web:80",), False),
        ("anonymous", "GET", "web:http", (), False),
        ("admin", "DELETE", "anything", (), True),
    ],
)
def test_decisions(
    authorizer: RBACAuthorizer, user: str, method: str, name: str, names: tuple[str, ...], allowed: bool
) -> None:
    attributes = parse(method, f"/api/v1/namespaces/demo/services/{name}/proxy/a")
    assert authorizer.decide(USERS[user], attributes, names).allowed is allowed


def test_reasons_name_the_grant(authorizer: RBACAuthorizer) -> None:
    attributes = parse("GET", "/api/v1/namespaces/demo/services/web:http/proxy/a")
    decision = authorizer.decide(USERS["reader"], attributes)
    assert decision.reason == 'RBAC: allowed by RoleBinding "reader/demo" of Role "reader" to User "reader"'


@pytest.mark.parametrize(
    ("user", "method", "path", "message"),
    [
        (
            "anonymous",
            "GET",
            "/api/v1/namespaces/demo/services/web:http/proxy/a",
            (
                'services "web:http" is forbidden: User "system:anonymous" cannot get resource "services/proxy" '
                'in API group "" in the namespace "demo"'
            ),
        ),
        (
            "reader",
            "OPTIONS",
            "/api/v1/namespaces/demo/services/web:http/proxy/a",
            (
                'services "web:http" is forbidden: User "reader" cannot  resource "services/proxy" '
                'in API group "" in the namespace "demo"'
            ),
        ),
        (
            "nobody",
            "GET",
            "/api/v1/nodes/n1/proxy/a",
            (
                'nodes "n1" is forbidden: User "nobody" cannot get resource "nodes/proxy" in API group "" '
                "at the cluster scope"
            ),
        ),
    ],
)
def test_a_denial_in_upstreams_words(
    authorizer: RBACAuthorizer, user: str, method: str, path: str, message: str
) -> None:
    attributes = parse(method, path)
    decision = authorizer.decide(USERS[user], attributes)
    assert not decision.allowed
    assert forbidden(attributes, USERS[user], decision.reason).message == message


def test_roles_that_are_not_to_be_believed_decide_nothing_but_health(authorizer: RBACAuthorizer) -> None:
    """kube's AlwaysAllowPaths: a liveness probe must not restart the door for an outage of its cluster."""
    authorizer.suspended = "roles could not be followed for 61 s"
    for path in ("/livez", "/readyz", "/healthz"):
        assert authorizer.decide(USERS["nobody"], parse("GET", path)).allowed
    for path in ("/metrics", "/livez/../metrics", "/api/v1/pods"):
        with pytest.raises(ServiceUnavailable, match="could not be followed for 61 s"):
            authorizer.decide(USERS["nobody"], parse("GET", path))
