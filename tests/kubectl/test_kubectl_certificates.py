"""Who somebody is, proven elsewhere and here: client certificates by the CSR API, tokens by the issuer's documents."""

import base64
import json
import os
import re
import ssl
import subprocess
from pathlib import Path

import jwt
import pytest
import yaml

from portway.testing.cluster import Cluster, wait_until
from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
SIGNER = "kubernetes.io/kube-apiserver-client"


def asked(directory: Path, name: str, subject: str) -> str:
    """The manifest of a request whose key openssl has made in `directory`."""
    key, csr = directory / "user.key", directory / "user.csr"
    command = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    argv = [*command.split(), "-subj", subject, "-keyout", str(key), "-out", str(csr)]
    subprocess.run(argv, check=True, capture_output=True)
    spec = {
        "request": base64.b64encode(csr.read_bytes()).decode(),
        "signerName": SIGNER,
        "expirationSeconds": 86400,
        "usages": ["client auth"],
    }
    head = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    return yaml.safe_dump({**head, "metadata": {"name": name}, "spec": spec})


def issued(kubectl: Kubectl, name: str) -> str:
    """The certificate, once there is one."""
    path = "jsonpath={.status.certificate}"
    wait_until(lambda: kubectl.ok("get", "csr", name, "-o", path), f"{name} was not signed")
    return base64.b64decode(kubectl.ok("get", "csr", name, "-o", path)).decode()


def test_an_approved_request_opens_the_door_as_its_user(kubectl: Kubectl, cluster: Cluster, tmp_path: Path) -> None:
    name = f"jane-{kubectl.namespace}"
    manifest = asked(tmp_path, name, f"/O=team-{kubectl.namespace}/CN={name}")
    assert kubectl.ok("apply", "-f", "-", stdin=manifest) == (
        f"certificatesigningrequest.certificates.k8s.io/{name} created\n"
    )
    header, row = kubectl.rows("get", "csr", name)
    assert header == ["NAME", "AGE", "SIGNERNAME", "REQUESTOR", "REQUESTEDDURATION", "CONDITION"]
    assert row[2:] == [SIGNER, "admin", "24h", "Pending"]
    assert kubectl.ok("certificate", "approve", name) == (
        f"certificatesigningrequest.certificates.k8s.io/{name} approved\n"
    )
    (tmp_path / "user.crt").write_text(issued(kubectl, name))
    assert kubectl.rows("get", "csr", name)[1][5] == "Approved,Issued"
    assert "Approved,Issued" in kubectl.ok("describe", "csr", name)

    config = tmp_path / "user.kubeconfig"
    config.touch()
    user = Kubectl(kubectl.binary, config, tmp_path)
    authority, crt, key = cluster.data_dir / "pki/ca.crt", tmp_path / "user.crt", tmp_path / "user.key"
    user.ok("config", "set-cluster", "c", f"--server={cluster.server}", f"--certificate-authority={authority}")
    user.ok("config", "set-credentials", name, f"--client-certificate={crt}", f"--client-key={key}")
    user.ok("config", "set-context", "x", "--cluster=c", f"--user={name}", f"--namespace={kubectl.namespace}")
    user.ok("config", "use-context", "x")
    assert f'User "{name}" cannot list resource "configmaps"' in user.refused("get", "configmaps")
    kubectl.ok("create", "rolebinding", "team", "--clusterrole=view", f"--group=team-{kubectl.namespace}")
    wait_until(lambda: user.run("get", "configmaps").code == 0, "the group's role did not count")
    assert "kube-root-ca.crt" in user.ok("get", "configmaps", "-o", "name")


def test_the_page_says_what_works(admin: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "kubectl").symlink_to(admin.binary)
    config = tmp_path / "config"
    config.write_text(admin.kubeconfig.read_text())
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "KUBECONFIG": str(config)}

    def run(text: str) -> None:
        subprocess.run(["bash", "-euc", text], check=True, capture_output=True, cwd=tmp_path, env=environment)

    page = (ROOT / "docs/certificates.md").read_text()
    block = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0]
    asking, _, taking = block.partition("# the user, a moment later\n")
    try:
        run(asking)
        issued(admin, "jane")
        run(taking)
        who = Kubectl(admin.binary, config, tmp_path)
        assert 'User "jane" cannot list resource "pods"' in who.refused("--context=jane", "get", "pods")
    finally:
        admin.ok("delete", "csr", "jane")


def test_a_denied_request_is_not_signed(kubectl: Kubectl, tmp_path: Path) -> None:
    name = f"joe-{kubectl.namespace}"
    kubectl.ok("apply", "-f", "-", stdin=asked(tmp_path, name, f"/CN={name}"))
    assert kubectl.ok("certificate", "deny", name) == f"certificatesigningrequest.certificates.k8s.io/{name} denied\n"
    assert kubectl.rows("get", "csr", name)[1][5] == "Denied"
    kubectl.ok("delete", "csr", name)


def test_members_of_system_masters_are_not_made_by_signing(kubectl: Kubectl, tmp_path: Path) -> None:
    manifest = asked(tmp_path, f"root-{kubectl.namespace}", "/O=system:masters/CN=root")
    complaint = kubectl.refused("create", "-f", "-", stdin=manifest)
    assert f"use of {SIGNER} signer with system:masters group is not allowed" in complaint


def test_a_token_is_verified_elsewhere_by_the_issuer_s_documents(kubectl: Kubectl, cluster: Cluster) -> None:
    kubectl.ok("create", "serviceaccount", "robot")
    token = kubectl.ok("create", "token", "robot", "--audience=vault", "--duration=15m").strip()
    own = kubectl.ok("create", "token", "default").strip()
    status, body = cluster.request("GET", "/.well-known/openid-configuration", own)
    assert status == 200
    found = json.loads(body)
    context = ssl.create_default_context(cafile=str(cluster.data_dir / "pki/ca.crt"))
    keys = jwt.PyJWKClient(found["jwks_uri"], headers={"Authorization": f"Bearer {own}"}, ssl_context=context)
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=found["id_token_signing_alg_values_supported"],
        audience="vault",
        issuer=found["issuer"],
    )
    assert claims["sub"] == f"system:serviceaccount:{kubectl.namespace}:robot"
    # The same token is no credential here: it was made for somebody else.
    assert cluster.request("GET", "/api/v1/namespaces", token)[0] == 401
    anonymous, _ = cluster.request("GET", "/openid/v1/jwks", "")
    assert anonymous in (401, 403)


def test_a_namespace_has_the_certificate_that_verifies_the_api(kubectl: Kubectl, cluster: Cluster) -> None:
    path = r"jsonpath={.data.ca\.crt}"
    wait_until(lambda: kubectl.run("get", "cm", "kube-root-ca.crt").code == 0, "no kube-root-ca.crt")
    assert kubectl.ok("get", "cm", "kube-root-ca.crt", "-o", path) == (cluster.data_dir / "pki/ca.crt").read_text()
    kubectl.ok("delete", "cm", "kube-root-ca.crt")
    wait_until(lambda: kubectl.run("get", "cm", "kube-root-ca.crt").code == 0, "kube-root-ca.crt did not come back")


def test_dependents_go_or_stay_as_the_delete_says(kubectl: Kubectl) -> None:
    owner = re.compile(r"owner-(\w+)")
    for cascade in ("background", "foreground", "orphan"):
        kubectl.ok("create", "configmap", f"owner-{cascade}")
        uid = kubectl.ok("get", "cm", f"owner-{cascade}", "-o", "jsonpath={.metadata.uid}")
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": f"owner-{cascade}", "uid": uid}
        metadata = {"name": f"leaf-{cascade}", "ownerReferences": [{**reference, "blockOwnerDeletion": True}]}
        kubectl.ok("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        assert owner.search(kubectl.ok("delete", "cm", f"owner-{cascade}", f"--cascade={cascade}"))
    for cascade in ("background", "foreground"):
        wait_until(lambda c=cascade: kubectl.run("get", "cm", f"leaf-{c}").code == 1, f"leaf-{cascade} stayed")
    left = "jsonpath={.metadata.ownerReferences}"
    wait_until(lambda: kubectl.ok("get", "cm", "leaf-orphan", "-o", left) == "", "the orphan kept its owner")
