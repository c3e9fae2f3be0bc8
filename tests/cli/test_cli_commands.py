"""Command lines and what they print, run in this process; the cluster is one small HTTP server."""

import contextlib
import fcntl
import http.server
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from portway import __version__
from portway.cli import COMMANDS, cluster_info, output, run, token, url
from portway.cli.errors import CliError
from portway.kube import htpasswd

Printed = tuple[int, str, str]


@pytest.fixture
def portway(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line: (exit code, standard output, standard error)."""

    def call(*arguments: str) -> Printed:
        code = run(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def service(name: str, *ports: dict[str, Any], namespace: str = "kube-system", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {k.replace("__", "/"): v for k, v in labels.items()}}
    return {"metadata": metadata, "spec": {"ports": list(ports)}, "status": {"loadBalancer": {}}}


@contextlib.contextmanager
def cluster(answers: dict[str, Any], tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """An API that answers GET and POST from a table; (kubeconfig, the requests it got)."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen.append(f"{self.command} {self.path} {self.rfile.read(length).decode()}".strip())
            found = answers.get(urlsplit(self.path).path)
            code = 404 if found is None else found.get("code", 200) if found.get("kind") == "Status" else 200
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not here"}
            body = json.dumps(found or missing).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        extension = {"name": "portway.dev/plain", "extension": {"server": "http://127.0.0.1:8080"}}
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "namespace": "team"}}],
                    "clusters": [{"name": "c", "cluster": {"server": address, "extensions": [extension]}}],
                }
            )
        )
        yield str(kubeconfig), seen
        server.shutdown()


def test_help_names_every_command_and_each_has_examples(portway: Any) -> None:
    code, text, _ = portway("--help")
    assert code == 0
    for name in COMMANDS:
        assert name in text
        code, help_text, _ = portway(name, "--help")
        assert code == 0
        if name not in ("token", "version"):
            assert "Examples:" in help_text, name


def test_version(portway: Any) -> None:
    assert portway("version")[1].startswith(f"portway {__version__} (Python ")
    assert json.loads(portway("version", "-o", "json")[1])["portway"] == __version__
    assert yaml.safe_load(portway("version", "-o", "yaml")[1])["portway"] == __version__


@pytest.mark.parametrize("library", ["click", "yaml"])
def test_ctrl_c_while_modules_load_is_one_line(tmp_path: Path, library: str) -> None:
    """`click` is loaded before there is a command, the other by the command `url`."""
    (tmp_path / f"{library}.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    argv = [sys.executable, "-m", "portway", "url", "x"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=50, check=False)
    # click ends the line on which the terminal shows ^C.
    assert (done.returncode, done.stdout, done.stderr.lstrip()) == (130, "", "portway: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["upp"], 'unknown command "upp"; did you mean "up"?'),
        (["frobnicate"], 'unknown command "frobnicate"'),
        (["up", "--secure-prot", "1"], "--secure-prot"),
        (["up", "--secure-port"], "requires an argument"),
        (["up", "surplus"], "unexpected extra argument"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["url"], "missing argument"),
        (["url", "a:b:c"], '"a:b:c" is not NAME or NAME:PORT'),
        (["token", "create", "x", "--duration", "soon"], '"soon" is not a time'),
        (["cluster-info", "-o", "xml"], "'xml' is not one of"),
        (["cluster-info", "-s", "https://127.0.0.1:99999"], '"https://127.0.0.1:99999" is not an address'),
        (["cluster-info", "-s", "https://[::1"], '"https://[::1" is not an address'),
        (["cluster-info", "-s", "https://"], '"https://" is not an address'),
        (["cluster-info", "-s", "http://127.0.0.1:1", "--token", "a\nb"], "a token is letters, digits"),
        (["user", "list", "--basic-auth-file", "~nobodyx/x"], '"~nobodyx/x" names a user without a home'),
        (["proxy", "--unix-socket", "~nobodyx/x"], '"~nobodyx/x" names a user without a home'),
        (["user", "list", "--data-dir", "~nobodyx/x"], '"~nobodyx/x" names a user without a home'),
        (["user", "list", "--data-dir", ""], "must not be empty"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_exit_code_2(portway: Any, arguments: list[str], says: str) -> None:
    code, out, err = portway(*arguments)
    assert code == 2
    assert says in err
    assert err.startswith("portway: ")
    assert err.count("\n") == 1
    assert "--help`" in err
    assert out == ""


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--config", "~nobodyx/x", '"~nobodyx/x" names a user without a home directory'),
        ("--config", "", "must not be empty"),
        ("--controllers", "nope", '"nope" is not in the list of known controllers: '),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_exit_code_2(portway: Any, flag: str, value: str, says: str) -> None:
    code, out, err = portway("up", flag, value)
    assert (code, out) == (2, "")
    assert err.startswith(f"portway: {flag}: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["user"], ["token"]])
def test_a_group_without_a_command_prints_its_help_as_it_is(portway: Any, group: list[str]) -> None:
    code, out, err = portway(*group)
    assert (code, out) == (2, "")
    assert err == portway(*group, "--help")[1]


@pytest.mark.parametrize("command", [["url", "x"], ["cluster-info"]])
def test_an_unknown_context_is_one_line(portway: Any, tmp_path: Path, command: list[str]) -> None:
    with cluster({}, tmp_path) as (kubeconfig, _):
        code, out, err = portway(*command, "--kubeconfig", kubeconfig, "--context", "nowhere")
    assert (code, out) == (1, "")
    assert 'context "nowhere" does not exist' in err
    assert err.count("\n") == 1


def test_a_cluster_that_is_away_is_one_line(portway: Any) -> None:
    code, out, err = portway("url", "x", "--server", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert "cannot reach http://127.0.0.1:1" in err
    assert err.count("\n") == 1


def test_a_kubeconfig_with_an_address_that_cannot_be_is_one_line(portway: Any, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "{current-context: c, contexts: [{name: c, context: {cluster: c}}],"
        " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:99999'}}]}"
    )
    code, out, err = portway("url", "x", "--kubeconfig", str(kubeconfig))
    assert (code, out) == (1, "")
    assert "https://127.0.0.1:99999" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("extension", ["text", None, [1]])
def test_a_plain_listener_of_another_shape_is_none(portway: Any, tmp_path: Path, extension: Any) -> None:
    hello = service("hello", {"name": "http", "port": 80}, namespace="team")
    with cluster({"/api/v1/namespaces/team/services/hello": hello}, tmp_path) as (kubeconfig, _):
        content = yaml.safe_load(Path(kubeconfig).read_text())
        content["clusters"][0]["cluster"]["extensions"][0]["extension"] = extension
        Path(kubeconfig).write_text(yaml.safe_dump(content))
        code, out, _ = portway("url", "hello", "--kubeconfig", kubeconfig)
        assert (code, out.endswith("/services/hello:http/proxy/\n")) == (0, True)
        assert "knows no plain listener" in portway("url", "hello", "--http", "--kubeconfig", kubeconfig)[2]


@pytest.mark.parametrize(
    ("name", "sent"),
    [("a\r\nX b", "a%0D%0AX%20b"), ("a/../b", "a%2F..%2Fb"), ("a?#", "a%3F%23"), ("\udcff", "%FF")],
)
def test_a_name_is_one_segment_whatever_it_holds(portway: Any, tmp_path: Path, name: str, sent: str) -> None:
    with cluster({}, tmp_path) as (kubeconfig, seen):
        for command in (
            ["url", name],
            ["token", "create", name],
            ["cluster-info", "-n", name],
            ["services", "-n", name],
        ):
            code, _, err = portway(*command, "--kubeconfig", kubeconfig)
            assert (code, err) == (1, "portway: not here\n")
    assert [request.split(" ")[1].partition("?")[0] for request in seen] == [
        f"/api/v1/namespaces/team/services/{sent}",
        f"/api/v1/namespaces/team/serviceaccounts/{sent}/token",
        f"/api/v1/namespaces/{sent}/services",
        f"/api/v1/namespaces/{sent}/services",
    ]


SERVICES: dict[str, Any] = {
    "kind": "ServiceList",
    "metadata": {},
    "items": [
        service("elasticsearch-logging", {"port": 9200, "protocol": "TCP"}, kubernetes__io="x"),
        service("kube-dns", {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "m", "port": 9153}),
        service("dash", {"name": "https", "port": 8443}),
        service("plain443", {"port": 443}),
        service("bare"),
    ],
}
SERVICES["items"][0]["metadata"]["labels"] = {"kubernetes.io/name": "Elasticsearch"}
BALANCED = service("lb", {"port": 80}, {"name": "b", "port": 81})
BALANCED["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}


def test_cluster_info_speaks_as_kubectl_does(portway: Any, tmp_path: Path) -> None:
    listed = SERVICES | {"items": [*SERVICES["items"], BALANCED]}
    with cluster({"/api/v1/namespaces/kube-system/services": listed}, tmp_path) as (kubeconfig, seen):
        code, out, _ = portway("cluster-info", "--kubeconfig", kubeconfig)
        server = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"]
    base = f"{server}/api/v1/namespaces/kube-system/services"
    assert code == 0
    assert out == (
        f"Kubernetes control plane is running at {server}\n"
        f"Elasticsearch is running at {base}/elasticsearch-logging/proxy\n"
        f"kube-dns is running at {base}/kube-dns:dns/proxy\n"
        f"dash is running at {base}/https:dash:https/proxy\n"
        f"plain443 is running at {base}/https:plain443:/proxy\n"
        f"bare is running at {base}/bare/proxy\n"
        "lb is running at http://192.0.2.7:80 http://192.0.2.7:81 \n"
        "\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n"
    )
    assert "labelSelector=kubernetes.io%2Fcluster-service%3Dtrue" in seen[0]


def test_cluster_info_that_is_refused_still_gives_the_hint_and_fails(portway: Any, tmp_path: Path) -> None:
    refused = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "services is forbidden"}
    with cluster({"/api/v1/namespaces/kube-system/services": refused}, tmp_path) as (kubeconfig, _):
        code, out, err = portway("cluster-info", "--kubeconfig", kubeconfig)
    assert code == 1
    assert out == "\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n"
    assert err == "portway: services is forbidden\n"


def slice_of(name: str, *ready: bool | None) -> dict[str, Any]:
    endpoints = [{"addresses": [f"127.70.0.{n}"], "conditions": {"ready": one}} for n, one in enumerate(ready)]
    labels = {"kubernetes.io/service-name": name}
    return {"metadata": {"name": f"{name}-x", "namespace": "kube-system", "labels": labels}, "endpoints": endpoints}


def test_cluster_info_wide_shows_every_port_and_its_health(portway: Any, tmp_path: Path) -> None:
    answers = {
        "/api/v1/services": SERVICES,
        "/apis/discovery.k8s.io/v1/endpointslices": {
            "metadata": {},
            "items": [slice_of("dash", True, False, None), slice_of("kube-dns", False)],
        },
    }
    with cluster(answers, tmp_path) as (kubeconfig, _):
        _, out, _ = portway("cluster-info", "-A", "-o", "wide", "--kubeconfig", kubeconfig)
        _, as_json, _ = portway("cluster-info", "-A", "-o", "json", "--kubeconfig", kubeconfig)
        _, as_yaml, _ = portway("cluster-info", "-A", "-o", "yaml", "--kubeconfig", kubeconfig)
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NAMESPACE", "NAME", "PORT", "READY", "URL"]
    assert rows[2][1:] == ["kube-dns", "dns:53/UDP", "0/1", "<none>"]
    assert rows[3][1:4] == ["kube-dns", "m:9153/TCP", "0/1"]
    assert rows[4][1:4] == ["dash", "https:8443/TCP", "2/3"]
    assert rows[4][4].endswith("/services/https:dash:https/proxy/")
    found = json.loads(as_json)
    assert found == yaml.safe_load(as_yaml)
    assert found["services"][2]["endpoints"] == {"ready": 2, "total": 3}


def test_an_address_in_two_slices_is_one_endpoint() -> None:
    one = SERVICES["items"][2]
    assert cluster_info.endpoints(one, [slice_of("dash", False), slice_of("dash", True), slice_of("other", True)]) == (
        1,
        1,
    )


@pytest.mark.parametrize(
    ("ports", "wanted", "expected"),
    [
        ([{"port": 9200}], "", "hello"),
        ([{"port": 9200}], "9200", "hello"),
        ([{"name": "http", "port": 80}], "", "hello:http"),
        ([{"name": "web", "port": 443}], "443", "https:hello:web"),
        ([{"port": 443}], "", "https:hello:"),
        ([{"name": "https", "port": 8443}], "https", "https:hello:https"),
        ([{"name": "x", "port": 8443, "appProtocol": "https"}], "", "https:hello:x"),
        ([{"name": "a", "port": 1}, {"name": "http", "port": 2}], "", "hello:http"),
        ([{"name": "a", "port": 1}, {"name": "b", "port": 80}], "", "hello:b"),
        ([{"name": "d", "port": 53, "protocol": "UDP"}, {"name": "a", "port": 1}], "", "hello:a"),
        ([{"name": "a", "port": 1}, {"name": "b", "port": 2}], "b", "hello:b"),
    ],
)
def test_url_spells_the_port_that_is_meant(ports: list[dict[str, Any]], wanted: str, expected: str) -> None:
    found = url.url("https://c", service("hello", *ports, namespace="team"), wanted)
    assert found == f"https://c/api/v1/namespaces/team/services/{expected}/proxy/"


@pytest.mark.parametrize(
    ("ports", "wanted", "says"),
    [
        ([{"name": "a", "port": 1}, {"name": "b", "port": 2}], "", "several ports: a, b; say which, as in hello:a"),
        ([{"name": "a", "port": 1}], "zz", "no port zz; it has a"),
        ([{"port": 53, "protocol": "UDP"}], "", "no TCP port"),
        ([], "", "no TCP port"),
    ],
)
def test_url_says_when_it_cannot_know(ports: list[dict[str, Any]], wanted: str, says: str) -> None:
    with pytest.raises(CliError, match=says):
        url.choose_port(service("hello", *ports), wanted)


def test_url_asks_the_cluster_and_knows_the_plain_listener(portway: Any, tmp_path: Path) -> None:
    hello = service("hello", {"name": "http", "port": 80}, namespace="team")
    with cluster({"/api/v1/namespaces/team/services/hello": hello}, tmp_path) as (kubeconfig, seen):
        code, out, _ = portway("url", "hello", "--http", "--kubeconfig", kubeconfig)
        assert (code, out) == (0, "http://127.0.0.1:8080/api/v1/namespaces/team/services/hello:http/proxy/\n")
        code, _, err = portway("url", "absent", "--kubeconfig", kubeconfig)
        assert (code, err) == (1, "portway: not here\n")
        server = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"]
        code, _, err = portway("url", "hello", "-n", "team", "--http", "--kubeconfig", "/dev/null", "--server", server)
        assert code == 1
        assert "--insecure-port 8080" in err
    assert seen[0] == "GET /api/v1/namespaces/team/services/hello"


def test_token_create_sends_what_was_said_and_prints_the_token(portway: Any, tmp_path: Path) -> None:
    answers = {"/api/v1/namespaces/ci/serviceaccounts/robot/token": {"status": {"token": "a.b.c"}}}
    with cluster(answers, tmp_path) as (kubeconfig, seen):
        code, out, _ = portway(
            "token", "create", "robot", "-n", "ci", "--duration", "1h30m", "--audience", "x", "--kubeconfig", kubeconfig
        )
    assert (code, out) == (0, "a.b.c\n")
    assert json.loads(seen[0].split(" ", 2)[2])["spec"] == {"audiences": ["x"], "expirationSeconds": 5400}


@pytest.mark.parametrize(("text", "expected"), [("", 0), ("600s", 600), ("600", 600), ("8h", 28800), ("1h30m5s", 5405)])
def test_durations(text: str, expected: int) -> None:
    assert token.seconds(text) == expected


def with_password(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_users_come_change_and_go(portway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "htpasswd"
    where = ["--basic-auth-file", str(file)]
    with_password(monkeypatch, "one\n")
    assert portway("user", "add", "mara", "--group", "dev", "--group", "ops", "--password-stdin", *where)[0] == 0
    assert htpasswd.verify(htpasswd.parse(file.read_text())["mara"].hash, "one")
    assert file.stat().st_mode & 0o077 == 0
    with_password(monkeypatch, "two\n")
    code, _, err = portway("user", "add", "mara", "--password-stdin", *where)
    assert code == 1
    assert "exists already" in err
    assert portway("user", "passwd", "mara", "--password-stdin", *where)[0] == 0
    entry = htpasswd.parse(file.read_text())["mara"]
    assert htpasswd.verify(entry.hash, "two")
    assert entry.groups == ("dev", "ops")
    code, out, _ = portway("user", "list", *where)
    assert [line.split() for line in out.splitlines()] == [["NAME", "GROUPS", "HASH"], ["mara", "dev,ops", "bcrypt"]]
    assert portway("user", "list", "-o", "name", *where)[1] == "mara\n"
    assert json.loads(portway("user", "list", "-o", "json", *where)[1])[0]["groups"] == ["dev", "ops"]
    assert portway("user", "remove", "mara", *where)[0] == 0
    assert portway("user", "remove", "mara", *where)[0] == 1
    assert portway("user", "passwd", "mara", "--password-stdin", *where)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "password", "says"),
    [
        (["user", "add", "a:b", "--password-stdin"], "x\n", "cannot be a user name: printable"),
        (
            ["user", "add", "system:x", "--password-stdin"],
            "x\n",
            "cannot be a user name: system: belongs to Kubernetes",
        ),
        (["user", "add", "a", "--password-stdin"], "\udcff\n", "the password is not text (UTF-8)"),
        (["user", "add", "a", "--group", "x,y", "--password-stdin"], "x\n", "cannot be a group"),
        (["user", "add", "a", "--password-stdin"], "\n", "the password is empty"),
        (["user", "add", "a", "--password-stdin"], "x" * 100, "longer than 72 bytes"),
        (["user", "add", "a"], "x\n", "no terminal to ask"),
    ],
)
def test_users_that_cannot_be_are_one_line(
    portway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], password: str, says: str
) -> None:
    with_password(monkeypatch, password)
    code, _, err = portway(*arguments, "--basic-auth-file", str(tmp_path / "htpasswd"))
    assert code == 1
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "htpasswd").exists()


def test_a_password_that_is_no_text_is_one_line_without_it(
    portway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"secret\xff\n"), encoding="utf-8"))
    code, _, err = portway("user", "add", "a", "--password-stdin", "--basic-auth-file", str(tmp_path / "htpasswd"))
    assert (code, err) == (1, "portway: the password is not text (UTF-8)\n")


def test_a_cluster_that_has_just_ended_need_not_be_told(portway: Any, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    (tmp_path / "htpasswd").write_text("mara:x\n")
    with (tmp_path / "lock").open("w") as lock:
        lock.write(str(ended.pid))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = portway("user", "remove", "mara", "--data-dir", str(tmp_path))
    assert done == (0, 'user "mara" removed\n', "")


def test_a_data_directory_that_is_not_there_is_one_line(portway: Any, tmp_path: Path) -> None:
    code, _, err = portway("user", "list", "--data-dir", str(tmp_path / "absent"))
    assert code == 1
    assert "`portway up` makes it" in err


def test_tables_align_and_end_without_spaces() -> None:
    assert output.as_table(("A", "LONG"), [("xyz", ""), ("", "q")]) == "A     LONG\nxyz\n      q"
