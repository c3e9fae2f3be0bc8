"""`portway proxy` as a process in front of `portway up` as a cluster: kubectl proxy's flags and output."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from portway.client.permissions import VERBS
from portway.testing.cluster import Cluster, free_port, started, wait_until
from portway.testing.proxycommand import ProxyCommand, command, proxying, refused

pytestmark = pytest.mark.timeout(120)
V1 = "client.authentication.k8s.io/v1"
HELLO = "/api/v1/namespaces/default/services/hello/proxy/"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster"), "--demo", f"--insecure-port={free_port()}", workers=1) as made:
        token = (made.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
        for name in ("hello", "echo-ws"):
            made.settle(f"/api/v1/namespaces/default/services/{name}/proxy/", token)
        yield made


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[ProxyCommand]:
    with proxying(cluster.kubeconfig) as made:
        yield made


def names(listed: bytes) -> set[str]:
    return {item["metadata"]["name"] for item in json.loads(listed)["items"]}


def test_the_api_and_the_services(proxy: ProxyCommand) -> None:
    assert re.fullmatch(r"127\.0\.0\.1:\d+", proxy.name)
    code, _, body = proxy.get("/api/v1/namespaces")
    assert code == 200
    assert {"default", "kube-system"} <= names(body)
    by_path = proxy.get(HELLO)
    at_site = proxy.get("/", f"hello.default.localhost:{proxy.port}")
    assert (by_path[0], at_site[0]) == (200, 200)
    assert b"404 page not found" not in at_site[2]
    code, fields, _ = proxy.get(
        f"{HELLO}x?a=1", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document", Accept="text/html"
    )
    assert (code, fields["location"]) == (307, f"http://hello.default.localhost:{proxy.port}/x?a=1")
    code, _, body = proxy.get("/api/v1/namespaces/default/services/none/proxy/")
    assert (code, json.loads(body)["message"]) == (404, 'services "none" not found')
    assert proxy.get("/", "none.default.localhost")[0] == 404


def test_every_link_of_the_catalogue_leads_somewhere(proxy: ProxyCommand) -> None:
    def all_are_up() -> bool:
        found = json.loads(proxy.get("/portway/services")[2])["services"]
        return len(found) > 3 and all(s["endpoints"]["ready"] for s in found if s["name"] != "kubernetes")

    wait_until(all_are_up, "the demo's services are not in the catalogue")
    for service in json.loads(proxy.get("/portway/services")[2])["services"]:
        assert service["may"] == list(VERBS)
        for port in service["ports"]:
            if service["name"] == "kubernetes":
                assert "url" not in port, "the door does not lead to itself"
                continue
            host = port["url"].removeprefix("http://").removesuffix("/")
            assert host.endswith(f".localhost:{proxy.port}")
            if service["name"] != "echo-ws":
                assert proxy.get("/", host)[0] in (200, 301, 302, 303, 307, 308), host


def test_a_websocket_at_a_host_name(proxy: ProxyCommand) -> None:
    host = f"ws.echo-ws.default.localhost:{proxy.port}"
    for origin, status in (("http://evil.example", "403"), (f"http://{host}", "101")):
        with socket.create_connection(("127.0.0.1", proxy.port), 30) as peer:
            peer.sendall(
                f"GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
            )
            assert peer.recv(4096).decode().split(" ")[1] == status


def test_foreign_pages_and_names(proxy: ProxyCommand) -> None:
    assert proxy.get("/api/v1/secrets", "evil.example")[0] == 403
    assert proxy.get("/api/v1/secrets", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 403
    assert proxy.get("/api/v1/namespaces/default/pods/hello-0/exec?command=id", method="POST")[0] == 403


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_exit_code_0(cluster: Cluster, number: int) -> None:
    with proxying(cluster.kubeconfig) as proxy:
        assert proxy.get("/api")[0] == 200
        assert proxy.end(number) == (0, "", "")


def test_a_watch_that_goes_on_does_not_keep_it(cluster: Cluster) -> None:
    with proxying(cluster.kubeconfig) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 30) as peer:
        peer.sendall(b"GET /api/v1/namespaces?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert peer.recv(4096).startswith(b"HTTP/1.1 200 ")
        proxy.process.send_signal(signal.SIGINT)
        assert proxy.process.wait(15) == 0


def test_a_port_is_nobody_elses(cluster: Cluster) -> None:
    port = free_port()
    with proxying(cluster.kubeconfig, f"--port={port}") as first:
        assert first.name == f"127.0.0.1:{port}"
        for flag in ("--port", "-p"):
            code, err = refused(cluster.kubeconfig, flag, str(port))
            taken = f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another port or address"
            assert (code, err) == (1, f"portway: {taken}\n")
        assert first.get("/api")[0] == 200


def test_a_unix_socket(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with proxying(cluster.kubeconfig, f"--unix-socket={path}") as proxy:
        assert proxy.name == str(path)
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o600
        assert {"default"} <= names(proxy.get("/api/v1/namespaces")[2])
        code, err = refused(cluster.kubeconfig, "-u", str(path))
        assert code == 1
        assert err.startswith(f"portway: cannot listen on {path}: ")
        assert err.count("\n") == 1
        proxy.process.kill()
        proxy.process.wait()
    assert path.is_socket()
    with proxying(cluster.kubeconfig, "-u", str(path)) as proxy:
        assert proxy.get("/api")[0] == 200
        assert proxy.end() == (0, "", "")


def test_a_file_is_not_taken_for_a_stale_socket(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    assert refused(cluster.kubeconfig, "-u", str(path))[0] == 1
    assert path.read_text() == "mine"


def test_files(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a b.txt").write_text("hello")
    (tmp_path / "secret").write_text("secret")
    with proxying(cluster.kubeconfig, f"--www={tmp_path / 'www'}") as proxy:
        assert proxy.get("/static/a%20b.txt")[2] == b"hello"
        assert b'<a href="a%20b.txt">a b.txt</a>' in proxy.get("/static/")[2]
        assert proxy.get("/static")[0] == 301
        assert proxy.get("/static/../secret")[0] == 404
        assert proxy.get("/static/%2e%2e/secret")[0] == 404
        assert proxy.get("/static/", "evil.example")[0] == 403
        assert proxy.get("/static/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
        assert proxy.get("/api")[0] == 200
        assert proxy.get("/static/x", "hello.default.localhost")[2] != b"404 page not found\n"
    flags = ("-w", str(tmp_path / "www"), "-P", "my", "--api-prefix=/k8s", "--reject-methods=GET")
    with proxying(cluster.kubeconfig, *flags) as proxy:
        assert proxy.get("/my/a%20b.txt")[2] == b"hello"
        assert proxy.get("/k8s/api")[0] == 403
        assert proxy.get("/api")[::2] == (404, b"404 page not found\n")


def test_rules(cluster: Cluster) -> None:
    flags = ("--accept-paths=^/api/v1/namespaces/default,^/version$", "--accept-hosts=^me$,^127", "--reject-paths=")
    with proxying(cluster.kubeconfig, *flags) as proxy:
        assert proxy.get("/version", "me")[0] == 200
        assert proxy.get("/version", "127.9.9.9")[0] == 200
        assert proxy.get("/version", "localhost")[0] == 403
        assert proxy.get("/api/v1/namespaces/kube-system", "me")[0] == 403
        assert proxy.get("/", "hello.default.localhost")[0] == 200
        assert proxy.get("/", "dashboard.kube-system.localhost")[0] == 403
        code, _, body = proxy.get("/api/v1/namespaces/default/pods/none/exec", "me")
        assert b"--reject-paths" not in body
        assert code != 403


def test_the_filter_can_be_disabled(cluster: Cluster, tmp_path: Path) -> None:
    with proxying(cluster.kubeconfig, "--disable-filter") as proxy:
        assert proxy.get("/version", "evil.example")[0] == 200
        code, _, err = proxy.end()
        assert (code, err.count("\n")) == (0, 1)
        assert "vulnerable to XSRF" in err
    with proxying(cluster.kubeconfig, "--disable-filter", "-u", str(tmp_path / "s")) as proxy:
        assert proxy.end() == (0, "", "")


def test_another_address(cluster: Cluster) -> None:
    with proxying(cluster.kubeconfig, "--address=127.0.0.2") as proxy:
        assert proxy.name.startswith("127.0.0.2:")
        assert proxy.get("/version")[0] == 200
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return
    with proxying(cluster.kubeconfig, "--address=::1") as proxy:
        assert re.fullmatch(r"\[::1\]:\d+", proxy.name)
        assert proxy.get("/version", f"[::1]:{proxy.port}")[0] == 200


def test_a_cluster_that_does_not_answer_is_no_reason_not_to_start(cluster: Cluster) -> None:
    with proxying(cluster.kubeconfig, f"--server=https://127.0.0.1:{free_port()}") as proxy:
        code, _, body = proxy.get("/api")
        assert (code, json.loads(body)["reason"]) == (503, "ServiceUnavailable")
        assert "connection refused" in json.loads(body)["message"]
        code, _, _ = proxy.end()
        assert code == 0


def test_a_credential_that_the_cluster_does_not_take(cluster: Cluster, tmp_path: Path) -> None:
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": "wrong"}
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    with proxying(tmp_path / "config") as proxy:
        code, _, body = proxy.get("/api/v1/namespaces")
        assert (code, json.loads(body)["reason"]) == (401, "Unauthorized")


def test_a_credential_that_runs_out_is_renewed_although_only_services_are_asked_for(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Through the proxy verb a 401 may be a service's own: the plugin is asked once it is known to be the server's."""
    admin = (cluster.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
    account = "/api/v1/namespaces/default/serviceaccounts"
    assert cluster.request("POST", account, admin, {"metadata": {"name": "passing"}})[0] == 201
    _, answer = cluster.request("POST", f"{account}/passing/token", admin, {"spec": {"expirationSeconds": 3600}})
    subject = {"kind": "ServiceAccount", "name": "passing", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "passing"}, "subjects": [subject], "roleRef": role}
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert cluster.request("POST", bindings, admin, binding)[0] == 201

    def hand_out(token: str) -> None:
        status = {"token": token}
        credential = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
        (tmp_path / "credential").write_text(json.dumps(credential))

    content = yaml.safe_load(cluster.kubeconfig.read_text())
    plugin = {"apiVersion": V1, "command": "cat", "args": [str(tmp_path / "credential")], "interactiveMode": "Never"}
    content["users"][0]["user"] = {"exec": plugin}
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    token = json.loads(answer)["status"]["token"]
    hand_out(token)
    # Who follows the cluster and is forbidden to would try again at any time, and be the first to hear of a revocation.
    wait_until(lambda: cluster.request("GET", HELLO, token)[0] == 200, "the binding does not count")
    with proxying(tmp_path / "config", "--via=through") as proxy:
        wait_until(lambda: proxy.get(HELLO)[0] == 200, "the first credential is not taken")
        assert cluster.request("DELETE", f"{account}/passing", admin)[0] == 200
        hand_out(admin)
        wait_until(lambda: proxy.get(HELLO)[0] == 401, "what is revoked is still taken")
        wait_until(lambda: proxy.get(HELLO)[0] == 200, "the plugin is not asked again")


REFUSALS = [
    (("-u", "s", "--port", "1"), 2, "cannot set --unix-socket and --port at the same time; see `portway proxy --help`"),
    (("--unix-socket=s", "--port=0"), 2, "cannot set --unix-socket and --port at the same time"),
    (("--context", "nope"), 1, 'context "nope" does not exist; --kubeconfig or $KUBECONFIG names another file'),
    (("--kubeconfig", "/nope"), 1, "/nope: No such file or directory; --kubeconfig or $KUBECONFIG names another file"),
    (("--reject-paths", "("), 1, '"(" is not a regular expression: '),
    (("--accept-hosts", "^a$,*"), 1, '"*" is not a regular expression: '),
    (("--accept-paths", "a{1,2}("), 1, '"2}(" is not a regular expression: '),
    (("--address", "nope"), 1, '--address "nope" is not an IP address'),
    (("--address", "localhost"), 1, '--address "localhost" is not an IP address'),
    (("--address", "203.0.113.1"), 1, "cannot listen on 203.0.113.1 port 8001: Cannot assign requested address"),
    (("--www", "/nope"), 1, "--www /nope is not a directory"),
    (("--www", "/etc/hostname"), 1, "--www /etc/hostname is not a directory"),
    (("-u", "/nope/x"), 1, "cannot listen on /nope/x: No such file or directory; choose another path"),
    (("--port", "65536"), 2, "invalid value for '-p' / '--port'"),
    (("--port", "x"), 2, "invalid value for '-p' / '--port'"),
    (("--nope",), 2, "no such option"),
    (("x",), 2, "got unexpected extra argument (x)"),
    (("--server", "ftp://x"), 1, 'the server "ftp://x" is neither http nor https'),
]


@pytest.mark.parametrize(("flags", "code", "words"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_one_line(cluster: Cluster, flags: tuple[str, ...], code: int, words: str) -> None:
    found, err = refused(cluster.kubeconfig, *flags)
    assert err.startswith(f"portway: {words}")
    assert (found, err.count("\n")) == (code, 1)


def test_ctrl_c_while_it_starts_is_no_traceback(cluster: Cluster) -> None:
    with command(cluster.kubeconfig, "--port=0") as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    # Before Python itself is ready, its own handler, or none, is in charge.
    assert process.returncode in (0, 1, 130, -signal.SIGINT)
    if process.returncode in (0, 130):
        assert err in ("", "portway: interrupted\n")


@pytest.mark.kubectl
def test_every_flag_of_kubectl_proxy_is_there() -> None:
    from portway.testing.kubectl import binaries

    flag = re.compile(r"(?:-(\w), )?--([a-z-]+)[ =]")
    theirs = subprocess.run([binaries()[0], "proxy", "--help"], capture_output=True, text=True, check=True).stdout
    section = theirs.partition("Options:")[2].partition("Usage:")[0]
    wanted = {found for line in section.splitlines() for found in [flag.search(line)] if found}
    assert len(wanted) > 10
    argv = [sys.executable, "-m", "portway", "proxy", "--help"]
    ours = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    for found in wanted:
        assert f"--{found[2]}" in ours
        if found[1]:
            assert f"-{found[1]}, " in ours


def test_several_clusters_each_with_its_own_user(cluster: Cluster, tmp_path: Path) -> None:
    """Two contexts of one cluster: who a request is says which was used."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    admin = config["contexts"][0]
    config["contexts"].append({"name": "team/Dev", "context": {"cluster": admin["context"]["cluster"], "user": "dev"}})
    token = (cluster.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
    config["users"].append({"name": "dev", "user": {"token": token, "as": "jane"}})
    kubeconfig = tmp_path / "both"
    kubeconfig.write_text(yaml.safe_dump(config))
    with proxying(kubeconfig, "--contexts=all") as proxy:
        assert proxy.get("/api/v1/namespaces")[0] == 200
        assert proxy.get(f"/clusters/{admin['name']}/api/v1/namespaces")[0] == 200
        code, _, body = proxy.get("/clusters/team%2FDev/api/v1/namespaces")
        assert (code, 'User "jane" cannot list' in json.loads(body)["message"]) == (403, True)
        assert proxy.get("/clusters/none/api")[0] == 404
        code, fields, _ = proxy.get("/clusters/team%2FDev")
        assert (code, fields["location"]) == (301, "/clusters/team%2FDev/")
        assert proxy.get(f"/clusters/{admin['name']}{HELLO}")[0] == 200
        assert proxy.get("/", f"hello.default.{admin['name']}.localhost:{proxy.port}")[0] == 200
        assert proxy.get("/", f"hello.default.team-dev.localhost:{proxy.port}")[0] == 403
        rejected = proxy.get("/clusters/team%2FDev/api/v1/namespaces/default/pods/x/exec")
        assert (rejected[0], b"--reject-paths" in rejected[2]) == (403, True)
