"""`portway up --demo` as people use it: links, passwords, kubectl, our own commands, and pods that come and go."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster, free_port, wait_until
from portway.testing.demo import ELASTIC, HELLO, admin_token, ask, demo, get, is_ready, pod, portway, up

pytestmark = pytest.mark.timeout(120)


def test_every_link_that_is_printed_works_with_the_password_that_is_printed(shown: tuple[Cluster, str]) -> None:
    _, text = shown
    links = re.findall(r"^  (\w+) +(http://\S+/)$", text, re.MULTILINE)
    assert [title for title, _ in links] == ["Echo", "Hello", "Secure", "Dashboard", "Elasticsearch"]
    found = re.search(r"user +(\w+)\n  password +(\S+)", text)
    assert found is not None
    for _, link in links:
        status, _ = ask(link, user=f"{found[1]}:{found[2]}", Accept="text/html")
        assert status == 200, link
        assert ask(link, user=f"{found[1]}:wrong")[0] == 401
        assert ask(link, Accept="text/html")[0] == 401
    assert ask(links[0][1].partition("/api/")[0] + "/api/v1/secrets", user=f"{found[1]}:{found[2]}")[0] == 403


def test_the_kubeconfig_that_is_printed_is_the_one_that_works(shown: tuple[Cluster, str]) -> None:
    cluster, text = shown
    assert f"export KUBECONFIG={cluster.kubeconfig}\n" in text
    assert cluster.server in text
    assert text.rstrip().endswith("Ctrl+C stops it.")
    assert re.search(r"ready in \d+\.\d s", text)


@pytest.mark.kubectl
def test_cluster_info_is_kubectls_word_for_word(cluster: Cluster) -> None:
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert kubectl is not None
    for arguments in (["cluster-info"], ["cluster-info", "-n", "default"], ["cluster-info", "-n", "nowhere"]):
        theirs = subprocess.run(
            [kubectl, f"--kubeconfig={cluster.kubeconfig}", *arguments], capture_output=True, text=True, check=True
        )
        assert portway(cluster, *arguments).stdout == theirs.stdout


def test_cluster_info_tells_every_port_and_its_health(cluster: Cluster) -> None:
    done = portway(cluster, "cluster-info", "-A", "-o", "json")
    assert done.returncode == 0, done.stderr
    services = {one["name"]: one for one in json.loads(done.stdout)["services"]}
    assert services["hello"]["endpoints"]["total"] == 2
    for service in services.values():
        for port in service["ports"]:
            assert get(cluster, port["url"].removeprefix(cluster.server))[0] in (200, 426), port["url"]


def test_both_replicas_answer(cluster: Cluster) -> None:
    answers = {get(cluster, HELLO)[1] for _ in range(20)}
    assert answers == {"hello from hello-0\n", "hello from hello-1\n"}


def test_the_search_is_true_through_the_door(cluster: Cluster) -> None:
    status, health = get(cluster, f"{ELASTIC}/_cluster/health?pretty=true")
    assert (status, json.loads(health)["status"]) == (200, "green")
    hits = json.loads(get(cluster, f"{ELASTIC}/_search?q=user:kimchy&size=1000")[1])["hits"]
    assert hits["total"]["value"] == len(hits["hits"]) > 10
    assert {hit["_source"]["user"] for hit in hits["hits"]} == {"kimchy"}


def test_url_prints_what_can_be_fetched(cluster: Cluster) -> None:
    for arguments in (["hello"], ["hello:80"], ["secure"], ["elasticsearch-logging", "-n", "kube-system"]):
        done = portway(cluster, "url", *arguments)
        assert done.returncode == 0, done.stderr
        assert get(cluster, done.stdout.strip().removeprefix(cluster.server))[0] == 200
    plain = portway(cluster, "url", "hello", "--http").stdout.strip()
    assert plain.startswith("http://127.0.0.1:")
    assert ask(plain, token=admin_token(cluster))[0] == 200


def test_a_token_that_is_created_logs_in(cluster: Cluster) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    path = "/api/v1/namespaces/default/serviceaccounts"
    assert cluster.request("POST", path, admin_token(cluster), account)[0] == 201
    done = portway(cluster, "token", "create", "robot", "--duration", "20m")
    assert done.returncode == 0, done.stderr
    ca = cluster.data_dir / "pki" / "ca.crt"
    status, refused = ask(cluster.server + HELLO, token=done.stdout.strip(), ca=ca)
    assert status == 403
    assert "system:serviceaccount:default:robot" in refused
    assert portway(cluster, "token", "create", "nobody").returncode == 1


def test_users_come_and_go_while_it_runs(shown: tuple[Cluster, str]) -> None:
    cluster, text = shown
    link = re.search(r"Hello +(\S+)", text)
    assert link is not None
    where = ["--data-dir", str(cluster.data_dir)]

    def status(password: str) -> int:
        return ask(link[1], user=f"mara:{password}")[0]

    done = portway(cluster, "user", "add", "mara", "--group", "dev", "--password-stdin", *where, given="one\n")
    assert done.stdout == 'user "mara" added; the running portway has been told\n', done.stderr
    wait_until(lambda: status("one") == 403, "the new user cannot log in")
    assert portway(cluster, "user", "passwd", "mara", "--password-stdin", *where, given="two\n").returncode == 0
    wait_until(lambda: status("one") == 401, "the old password still works")
    assert status("two") == 403
    assert portway(cluster, "user", "remove", "mara", *where).returncode == 0
    wait_until(lambda: status("two") == 401, "the removed user still logs in")


def test_a_pod_that_dies_is_started_again_and_its_sibling_goes_on(cluster: Cluster) -> None:
    before = pod(cluster, "hello-0")
    pid = int(before["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        found = pod(cluster, "hello-0")
        assert get(cluster, HELLO)[0] == 200
        return is_ready(found) and bool(found["status"]["containerStatuses"][0]["restartCount"])

    wait_until(back, "the pod did not come back")
    after = pod(cluster, "hello-0")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137


def test_a_pod_that_is_deleted_is_replaced(cluster: Cluster) -> None:
    before = pod(cluster, "hello-1")["metadata"]["uid"]
    cluster.request("DELETE", "/api/v1/namespaces/default/pods/hello-1", admin_token(cluster))

    def replaced() -> bool:
        found = pod(cluster, "hello-1")
        return found["metadata"].get("uid", before) != before and is_ready(found)

    wait_until(replaced, "the pod was not replaced")
    assert pod(cluster, "hello-1")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_pod_that_only_says_it_runs_here_is_removed(cluster: Cluster) -> None:
    stray = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stray"},
        "spec": {"nodeName": "portway", "containers": [{"name": "x", "image": "x"}]},
    }
    assert cluster.request("POST", "/api/v1/namespaces/default/pods", admin_token(cluster), stray)[0] == 201
    wait_until(lambda: get(cluster, "/api/v1/namespaces/default/pods/stray")[0] == 404, "the stray pod is still there")


def test_the_node_lives_as_long_as_its_lease_says(cluster: Cluster) -> None:
    node = json.loads(get(cluster, "/api/v1/nodes/portway")[1])
    assert is_ready(node)
    lease = json.loads(get(cluster, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/portway")[1])
    assert lease["spec"]["holderIdentity"] == "portway"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lease["spec"]["renewTime"])


def test_a_second_one_on_the_same_directory_is_one_line(cluster: Cluster) -> None:
    done = up("--data-dir", str(cluster.data_dir), "--secure-port", str(free_port()))
    assert done.returncode == 1
    assert f"in use by another portway up (pid {cluster.process.pid})" in done.stderr
    assert done.stderr.count("\n") == 1
    assert get(cluster, HELLO)[0] == 200


def test_an_operators_user_may_have_any_name(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("t1,Jürgen,1\n", "utf-8")
    with demo(tmp_path, f"--token-auth-file={tokens}") as (_, text):
        assert "Elasticsearch" in text
