"""Who am I, what may I, tokens, and refusals."""

import base64
import json
import re
from pathlib import Path

import pytest
import yaml

from portway.testing.cluster import Cluster
from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]


def bearer(kubectl: Kubectl, token: str, directory: Path) -> Kubectl:
    """The same kubectl with nothing but a token for a credential."""
    content = yaml.safe_load(kubectl.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    config = directory / "token.kubeconfig"
    config.write_text(yaml.safe_dump(content))
    return Kubectl(kubectl.binary, config, kubectl.directory, kubectl.namespace)


def grant(kubectl: Kubectl, *subject: str) -> None:
    """Pods may be read."""
    kubectl.ok("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl.ok("create", "rolebinding", "reader", "--role=reader", *subject)


def test_whoami(admin: Kubectl) -> None:
    rows = admin.rows("auth", "whoami")
    assert rows[:3] == [
        ["ATTRIBUTE", "VALUE"],
        ["Username", "admin"],
        ["Groups", "[system:masters system:authenticated]"],
    ]
    assert rows[3][0] == "Extra: authentication.kubernetes.io/credential-id"
    assert admin.rows("auth", "whoami", "--as=jane", "--as-group=staff") == [
        ["ATTRIBUTE", "VALUE"],
        ["Username", "jane"],
        ["Groups", "[staff system:authenticated]"],
    ]
    assert admin.json("auth", "whoami")["status"]["userInfo"]["username"] == "admin"


def test_can_i(kubectl: Kubectl) -> None:
    grant(kubectl, "--user=jane")
    assert kubectl.ok("auth", "can-i", "create", "pods") == "yes\n"
    assert kubectl.ok("auth", "can-i", "list", "pods", "--as=jane") == "yes\n"
    assert kubectl.ok("auth", "can-i", "get", "pods/web", "--as=jane") == "yes\n"
    assert kubectl.ok("auth", "can-i", "get", "/version", "--as=jane") == "yes\n"
    for question in (["delete", "pods"], ["get", "pods", "--subresource=log"], ["list", "pods", "-A"], ["get", "/x"]):
        denied = kubectl.run("auth", "can-i", *question, "--as=jane")
        assert (denied.code, denied.out) == (1, "no\n"), question
    quiet = kubectl.run("auth", "can-i", "delete", "pods", "--as=jane", "-q")
    assert (quiet.code, quiet.out) == (1, "")


def test_can_i_list(kubectl: Kubectl) -> None:
    grant(kubectl, "--user=jane")
    rows = kubectl.rows("auth", "can-i", "--list", "--as=jane")
    assert rows[0] == ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]
    assert ["pods", "[]", "[]", "[get list]"] in rows
    assert ["selfsubjectaccessreviews.authorization.k8s.io", "[]", "[]", "[create]"] in rows
    assert ["", "[/version]", "[]", "[get]"] in rows
    assert ["*.*", "[]", "[]", "[*]"] in kubectl.rows("auth", "can-i", "--list")


def test_token(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.ok("create", "serviceaccount", "robot")
    grant(kubectl, f"--serviceaccount={kubectl.namespace}:robot")
    token = kubectl.ok("create", "token", "robot", "--duration=1h").strip()
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == f"system:serviceaccount:{kubectl.namespace}:robot"
    assert claims["exp"] - claims["iat"] == 3600
    robot = bearer(kubectl, token, tmp_path)
    assert robot.ok("get", "pods", "-o", "name") == ""
    assert robot.rows("auth", "whoami")[1] == ["Username", claims["sub"]]
    assert robot.refused("get", "services") == (
        f'Error from server (Forbidden): services is forbidden: User "{claims["sub"]}" cannot list resource "services"'
        f' in API group "" in the namespace "{kubectl.namespace}"\n'
    )
    kubectl.ok("delete", "serviceaccount", "robot")
    unauthorized = "error: You must be logged in to the server (Unauthorized)\n"
    assert bearer(kubectl, "nonsense", tmp_path).refused("get", "pods").endswith(unauthorized)


def test_token_of_an_audience_and_of_a_pod(kubectl: Kubectl) -> None:
    spec = {"serviceAccountName": "default", "containers": [{"name": "web", "image": "nginx"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
    kubectl.ok("create", "-f", "-", stdin=pod)
    bound = ["--audience=vault", "--bound-object-kind=Pod", "--bound-object-name=web"]
    claims = json.loads(base64.urlsafe_b64decode(kubectl.ok("create", "token", "default", *bound).split(".")[1] + "=="))
    assert claims["aud"] == ["vault"]
    assert claims["kubernetes.io"]["pod"]["name"] == "web"
    assert kubectl.refused("create", "token", "nobody") == (
        'error: failed to create token: serviceaccounts "nobody" not found\n'
    )
    assert kubectl.refused("create", "token", "default", "--duration=1m") == (
        'error: failed to create token: TokenRequest.authentication.k8s.io "default" is invalid: '
        "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes\n"
    )


def test_refusals_by_role(kubectl: Kubectl) -> None:
    grant(kubectl, "--group=staff")
    staff = ("--as=jane", "--as-group=staff")
    where = f'in API group "" in the namespace "{kubectl.namespace}"\n'
    assert kubectl.ok("get", "pods", "-o", "name", *staff) == ""
    assert kubectl.refused("get", "pod", "web", "--as=jane") == (
        f'Error from server (Forbidden): pods "web" is forbidden: User "jane" cannot get resource "pods" {where}'
    )
    assert kubectl.refused("delete", "pod", "web", *staff) == (
        f'Error from server (Forbidden): pods "web" is forbidden: User "jane" cannot delete resource "pods" {where}'
    )
    assert kubectl.refused("get", "pods", "-A", *staff) == (
        'Error from server (Forbidden): pods is forbidden: User "jane" cannot list resource "pods"'
        ' in API group "" at the cluster scope\n'
    )
    created = kubectl.refused("create", "configmap", "x", *staff)
    assert created.endswith(f'User "jane" cannot create resource "configmaps" {where}')


def test_nobody_grants_more_than_they_have(kubectl: Kubectl) -> None:
    kubectl.ok("create", "role", "roles", "--verb=create", "--resource=roles,rolebindings")
    kubectl.ok("create", "rolebinding", "roles", "--role=roles", "--user=jane")
    refused = kubectl.refused("create", "role", "more", "--verb=get", "--resource=secrets", "--as=jane")
    assert 'user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions' in refused
    assert '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}' in refused
    bound = kubectl.refused("create", "rolebinding", "more", "--clusterrole=admin", "--user=jane", "--as=jane")
    assert "is attempting to grant RBAC permissions not currently held" in bound


def test_reconcile(kubectl: Kubectl) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    role = {**head, "metadata": {"name": "reader", "namespace": kubectl.namespace}, "rules": [rule]}
    for _ in range(2):
        said = kubectl.run("auth", "reconcile", "-f", "-", stdin=role)
        assert (said.code, said.out.splitlines()[0]) == (0, "role.rbac.authorization.k8s.io/reader reconciled")
    assert kubectl.json("get", "role", "reader")["rules"] == [rule]


def test_the_demo_user_by_password(kubectl: Kubectl, cluster: Cluster, tmp_path: Path) -> None:
    content = yaml.safe_load(kubectl.kubeconfig.read_text())
    content["users"][0]["user"] = {
        "username": "demo",
        "password": (cluster.data_dir / "demo-password").read_text().strip(),
    }
    config = tmp_path / "demo.kubeconfig"
    config.write_text(yaml.safe_dump(content))
    demo = Kubectl(kubectl.binary, config, kubectl.directory, kubectl.namespace)
    assert demo.rows("auth", "whoami")[1] == ["Username", "demo"]
    assert re.search(r"^hello\s", demo.ok("get", "services", "-n", "default"), re.MULTILINE)
    assert 'User "demo" cannot list resource "secrets"' in demo.refused("get", "secrets")
