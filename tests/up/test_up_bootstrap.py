"""First run, second run, and the files that an operator brings."""

import base64
import os
import platform
from pathlib import Path

import pytest
import yaml

from portway.kube import htpasswd
from portway.kube.tokenfile import parse_token_file
from portway.up import bootstrap, certificates, datadir, kubeconfig, users
from portway.up.bootstrap import Credentials
from portway.up.errors import UpError
from portway.up.settings import UpSettings, load


def settings_for(root: Path, **flags: str) -> UpSettings:
    return load({"data-dir": str(root)} | {name.replace("_", "-"): value for name, value in flags.items()})


def run(root: Path, **flags: str) -> Credentials:
    settings = settings_for(root, **flags)
    directory = datadir.prepare(root)
    datadir.clear_run(directory)
    return bootstrap.bootstrap(settings, directory)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_second_run_makes_nothing_new(tmp_path: Path) -> None:
    first = run(tmp_path, demo="true")
    before = contents(tmp_path)
    second = run(tmp_path, demo="true")
    assert contents(tmp_path) == before
    assert first == second
    assert len(first.demo_password) >= 12


def test_everything_is_for_the_owner_alone(tmp_path: Path) -> None:
    run(tmp_path, demo="true")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []


def test_the_demo_password_opens_and_the_admin_token_is_a_master(tmp_path: Path) -> None:
    made = run(tmp_path, demo="true")
    (entry,) = htpasswd.parse(made.htpasswd.read_text()).values()
    assert htpasswd.verify(entry.hash, made.demo_password)
    (admin,) = parse_token_file(made.tokens.read_text()).values()
    assert (admin.name, admin.groups) == ("admin", ("system:masters",))


def test_the_kubeconfig_has_what_kubectl_needs(tmp_path: Path) -> None:
    made = run(tmp_path, secure_port="7443", insecure_port="7080")
    content = yaml.safe_load(made.kubeconfig.read_bytes())
    cluster = content["clusters"][0]["cluster"]
    assert content["current-context"] == "portway"
    assert cluster["server"] == "https://127.0.0.1:7443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == (tmp_path / "pki" / "ca.crt").read_bytes()
    assert cluster["extensions"] == [{"name": kubeconfig.EXTENSION, "extension": {"server": "http://127.0.0.1:7080"}}]
    user = content["users"][0]["user"]
    assert certificates.signed_by(
        base64.b64decode(user["client-certificate-data"]), (tmp_path / "pki" / "ca.crt").read_bytes()
    )


def test_the_serving_certificate_is_for_the_advertised_address_and_for_kubernetes_own(tmp_path: Path) -> None:
    made = run(tmp_path, bind_address="0.0.0.0", advertise_address="192.0.2.7")
    names = ["192.0.2.7", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"]
    assert not certificates.needs_renewal(made.tls_cert.read_bytes(), names)
    assert certificates.needs_renewal(made.tls_cert.read_bytes(), ["0.0.0.0"])
    before = made.tls_cert.read_bytes()
    assert run(tmp_path, bind_address="0.0.0.0", advertise_address="192.0.2.7").tls_cert.read_bytes() == before
    assert run(tmp_path, bind_address="0.0.0.0", advertise_address="192.0.2.8").tls_cert.read_bytes() != before


def test_another_bind_address_makes_another_serving_certificate(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path / "pki")
    made = run(tmp_path, bind_address="127.0.0.9")
    changed = {Path(name).name for name, old in before.items() if contents(tmp_path / "pki")[name] != old}
    assert changed == {"apiserver.crt", "apiserver.key"}
    assert not certificates.needs_renewal(
        made.tls_cert.read_bytes(), ["127.0.0.9", "10.96.0.1", "kubernetes.default.svc"]
    )


def test_somebody_elses_kubeconfig_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "config"
    theirs.write_text("clusters: [{name: prod, cluster: {server: 'https://prod'}}]\n")
    with pytest.raises(UpError, match="holds other clusters and is left alone"):
        run(tmp_path / "data", kubeconfig=str(theirs))
    assert "prod" in theirs.read_text()


def test_an_empty_kubeconfig_and_our_own_are_written(tmp_path: Path) -> None:
    target = tmp_path / "new" / "config"
    run(tmp_path / "data", kubeconfig=str(target))
    run(tmp_path / "data", kubeconfig=str(target), secure_port="7443")
    assert yaml.safe_load(target.read_bytes())["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:7443"


def test_the_operators_tokens_and_authorities_join_ours_and_are_read_again(tmp_path: Path) -> None:
    tokens, authority = tmp_path / "tokens.csv", tmp_path / "their-ca.pem"
    tokens.write_text("t1,mara,1\n")
    authority.write_bytes(certificates.make_authority("theirs").certificate)
    flags = {"token_auth_file": str(tokens), "client_ca_file": str(authority)}
    made = run(tmp_path / "data", **flags)
    assert {user.name for user in parse_token_file(made.tokens.read_text()).values()} == {"admin", "mara"}
    assert made.client_ca.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    tokens.write_text("t2,yuki,2\n")
    bootstrap.join_trust(settings_for(tmp_path / "data", **flags), datadir.DataDir(tmp_path / "data"))
    assert {user.name for user in parse_token_file(made.tokens.read_text()).values()} == {"admin", "yuki"}


def test_a_file_that_is_gone_at_a_reload_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    tokens, authority = tmp_path / "tokens.csv", tmp_path / "their-ca.pem"
    tokens.write_text("t1,mara,1\n")
    authority.write_bytes(certificates.make_authority("theirs").certificate)
    flags = {"token_auth_file": str(tokens), "client_ca_file": str(authority)}
    made = run(tmp_path / "data", **flags)
    before = made.client_ca.read_bytes()
    settings, directory = settings_for(tmp_path / "data", **flags), datadir.DataDir(tmp_path / "data")
    authority.unlink()
    tokens.write_text("t2,yuki,2\n")
    (problem,) = bootstrap.join_trust(settings, directory)
    assert str(problem) == f"{authority}: No such file or directory"
    assert {user.name for user in parse_token_file(made.tokens.read_text()).values()} == {"admin", "yuki"}
    assert made.client_ca.read_bytes() == before


@pytest.mark.parametrize("name", ["admin-token.csv", "demo-password", "pki/sa.key", "pki/ca.crt", "htpasswd"])
def test_a_file_of_ours_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    run(tmp_path, demo="true")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(UpError, match=f"{tmp_path / name}: Is a directory$"):
        run(tmp_path, demo="true")


def test_a_demo_password_that_was_overwritten_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, demo="true")
    (tmp_path / "demo-password").write_bytes(b"\xff\n")
    made = run(tmp_path, demo="true")
    (entry,) = htpasswd.parse(made.htpasswd.read_text()).values()
    assert htpasswd.verify(entry.hash, made.demo_password)


@pytest.mark.parametrize("flag", ["audit_log_path", "access_log_path"])
def test_a_log_that_cannot_be_opened_is_one_line_and_its_directory_is_made(tmp_path: Path, flag: str) -> None:
    (tmp_path / "file").touch()
    for path, says in (("file/log", "File exists|Not a directory"), ("", "Is a directory")):
        with pytest.raises(UpError, match=f"^cannot write --{flag.replace('_', '-')} {tmp_path / path}: ({says})$"):
            run(tmp_path / "data", access_log="json", **{flag: str(tmp_path / path)})
    log = tmp_path / "made" / "log"
    run(tmp_path / "data", access_log="json", **{flag: str(log)})
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    log.write_text("kept\n")
    run(tmp_path / "data", access_log="json", **{flag: str(log)})
    assert log.read_text() == "kept\n"


def test_a_pipe_for_a_log_waits_for_its_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    run(tmp_path / "data", audit_log_path=str(tmp_path / "pipe"), access_log_path="-", access_log="json")


def test_the_operators_users_are_never_edited(tmp_path: Path) -> None:
    theirs = tmp_path / "htpasswd"
    theirs.write_text("# ours\n")
    made = run(tmp_path / "data", demo="true", basic_auth_file=str(theirs))
    assert made.demo_password == ""
    assert theirs.read_text() == "# ours\n"


def test_the_operators_certificate_is_served_and_trusted_when_it_can_be(tmp_path: Path) -> None:
    authority = certificates.make_authority("theirs")
    pair = certificates.make_server_certificate(authority, ["localhost"])
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(pair.certificate + authority.certificate)
    key.write_bytes(pair.key)
    made = run(tmp_path / "data", tls_cert_file=str(certificate), tls_private_key_file=str(key))
    cluster = yaml.safe_load(made.kubeconfig.read_bytes())["clusters"][0]["cluster"]
    assert base64.b64decode(cluster["certificate-authority-data"]) == authority.certificate
    certificate.write_bytes(pair.certificate)
    made = run(tmp_path / "data", tls_cert_file=str(certificate), tls_private_key_file=str(key))
    assert "certificate-authority-data" not in yaml.safe_load(made.kubeconfig.read_bytes())["clusters"][0]["cluster"]


@pytest.mark.parametrize("flag", ["client_ca_file", "token_auth_file", "basic_auth_file", "audit_policy_file"])
def test_a_file_that_cannot_be_read_is_named_with_its_flag(tmp_path: Path, flag: str) -> None:
    with pytest.raises(UpError, match=f"cannot read --{flag.replace('_', '-')} .*absent: No such file"):
        run(tmp_path, **{flag: str(tmp_path / "absent")})


@pytest.mark.parametrize(
    ("flag", "content", "says"),
    [
        ("client_ca_file", "nothing here", "holds no certificate"),
        ("token_auth_file", "only,two\n", "line 1: at least 3 columns"),
        ("token_auth_file", b"\xff\xfe", "not a text file"),
        ("basic_auth_file", "mara:plain\n", "line 1: the hash is neither bcrypt nor argon2"),
        ("audit_policy_file", "kind: Pod\n", "Policy"),
        ("service_account_signing_key_file", "none", "key"),
        ("service_account_key_file", "none", "key"),
        ("audit_policy_file", "[" * 5000, "nested too deeply"),
    ],
)
def test_a_file_that_holds_something_else_is_named_with_its_flag(
    tmp_path: Path, flag: str, content: str | bytes, says: str
) -> None:
    file = tmp_path / "given"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UpError, match=says) as caught:
        run(tmp_path / "data", **{flag: str(file)})
    message = str(caught.value)
    assert message.startswith(f"--{flag.replace('_', '-')}: {file}: ")
    assert message.count(str(file)) == 1
    assert "\n" not in message


def test_a_certificate_that_is_none_or_has_another_key_is_one_line(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_text("nonsense")
    key.write_text("nonsense")
    flags = {"tls_cert_file": str(certificate), "tls_private_key_file": str(key)}
    with pytest.raises(UpError, match="cannot be used") as caught:
        run(tmp_path / "data", **flags)
    assert "\n" not in str(caught.value)
    authority = certificates.make_authority("x")
    certificate.write_bytes(certificates.make_server_certificate(authority, ["localhost"]).certificate)
    key.write_bytes(certificates.make_server_certificate(authority, ["localhost"]).key)
    with pytest.raises(UpError, match="key values mismatch"):
        run(tmp_path / "data", **flags)


def test_users_are_put_replaced_and_removed_without_touching_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("# people\nold:$2y$05$abcdefghijklmnopqrstuv\n")
    users.put(file, "mara", "secret", ["dev", "ops"])
    users.put(file, "old", "new", [])
    lines = file.read_text().splitlines()
    assert lines[0] == "# people"
    assert [(entry.name, entry.groups) for entry in users.entries(file)] == [("old", ()), ("mara", ("dev", "ops"))]
    parsed = htpasswd.parse(file.read_text())
    assert htpasswd.verify(parsed["mara"].hash, "secret")
    users.remove(file, "mara")
    assert not users.has(file, "mara")
    with pytest.raises(UpError, match='no user "mara"'):
        users.remove(file, "mara")


@pytest.mark.parametrize("name", ["", "a:b", "#x", " x", "x\n", "system:admin"])
def test_names_that_the_file_cannot_carry_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UpError, match="cannot be a user name"):
        users.put(tmp_path / "htpasswd", name, "x", [])


def test_names_of_the_door_are_those_of_its_certificate_and_of_this_machine(tmp_path: Path) -> None:
    authority = certificates.make_authority("test")
    pair = certificates.make_server_certificate(authority, ["Door.Example", "*.apps.example", "192.0.2.1"])
    names = bootstrap.door_names(load({"data-dir": str(tmp_path)}), pair.certificate)
    here = platform.node().lower()
    assert {"door.example", "*.apps.example", "localhost", "kubernetes.default.svc", here} <= set(names)
    assert f"{here.partition('.')[0]}.local" in names
    assert bootstrap.door_names(load({"data-dir": str(tmp_path)}), authority.certificate)[0] == "localhost"
