"""Go's clients and their default content type: kubectl's typed commands, and Traefik's informers on an Ingress."""

import re
import subprocess
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portway.testing.cluster import free_port, started, wait_until
from portway.testing.kubectl import Kubectl
from portway.testing.wiretap import Tap, wiretap

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

BINARY = "application/vnd.kubernetes.protobuf"
SINCE = (1, 32)
"""From this version on kubectl's typed clients speak protobuf."""
HEALTH = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_cluster/health"


def headers_of(kubectl: Kubectl, *argv: str) -> tuple[set[str], set[str]]:
    """What it said that it sends and what it got, as Content-Types, from its most talkative log."""
    result = kubectl.run(*argv, "-v=9")
    assert result.code == 0, result.err
    sent = set(re.findall(r'-H "Content-Type: ([^"]*)"', result.err))
    got = set(re.findall(r"^.*?\s{2,}Content-Type: (\S+)$", result.err, re.MULTILINE))
    return sent, got


@pytest.mark.parametrize(
    "argv",
    [
        ("create", "token", "default"),
        ("create", "configmap", "made", "--from-literal=a=b"),
        ("create", "service", "clusterip", "made", "--tcp=80"),
        ("auth", "can-i", "--list"),
    ],
    ids=lambda argv: "-".join(argv[:2]),
)
def test_typed_commands_send_and_get_protobuf(kubectl: Kubectl, argv: tuple[str, ...]) -> None:
    sent, got = headers_of(kubectl, *argv)
    spoken = BINARY if kubectl.version >= SINCE else "application/json"
    assert sent == {spoken}
    assert spoken in got
    assert BINARY not in got or kubectl.version >= SINCE


def test_typed_reads_get_protobuf_and_print_the_same(kubectl: Kubectl) -> None:
    kubectl.ok("create", "service", "clusterip", "web", "--tcp=80:8080")
    _, got = headers_of(kubectl, "describe", "service", "web")
    assert (BINARY in got) is (kubectl.version >= SINCE)
    shown = kubectl.ok("describe", "service", "web")
    assert re.search(r"^Port:\s+80-8080\s+80/TCP$", shown, re.MULTILINE)
    assert re.search(r"^TargetPort:\s+8080/TCP$", shown, re.MULTILINE)
    assert re.search(r"^Selector:\s+app=web$", shown, re.MULTILINE)
    missing = kubectl.run("create", "token", "nobody")
    assert missing.err == 'error: failed to create token: serviceaccounts "nobody" not found\n'


@contextmanager
def traefik(directory: Path, tap: Tap, token: str) -> Iterator[int]:
    """Traefik as the ingress controller of a cluster behind a tap; gives the port that it serves on."""
    port = free_port()
    argv = [
        str(Path(sysconfig.get_path("scripts")) / "traefik"),
        f"--entrypoints.web.address=127.0.0.1:{port}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        f"--providers.kubernetesingress.endpoint=http://127.0.0.1:{tap.port}",
        f"--providers.kubernetesingress.token={token}",
        "--providers.kubernetesingress.throttleduration=50ms",
    ]
    with (
        (directory / "traefik.log").open("w") as log,
        subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield port
        finally:
            process.terminate()


def status_of(port: int) -> int:
    """What Traefik answers for the Ingress's host; 0 while it doesn't listen."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/_cluster/health", headers={"Host": "search.test"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_informers_follow_the_cluster_in_protobuf(tmp_path: Path) -> None:
    ingresses = "/apis/networking.k8s.io/v1/namespaces/kube-system/ingresses"
    service = {"name": "elasticsearch-logging", "port": {"number": 9200}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": {"service": service}}]
    # Without a class it would be given the cluster's default one, which is the door's.
    metadata = {"name": "search", "annotations": {"kubernetes.io/ingress.class": "traefik"}}
    ingress = {"metadata": metadata, "spec": {"rules": [{"host": "search.test", "http": {"paths": paths}}]}}
    insecure = free_port()
    with (
        started(tmp_path, "--demo", f"--insecure-port={insecure}", workers=1) as cluster,
        wiretap(("127.0.0.1", insecure)) as tap,
    ):
        token = (cluster.data_dir / "admin-token.csv").read_text().split(",", 1)[0]
        cluster.settle(HEALTH, token)
        with traefik(tmp_path, tap, token) as port:
            wait_until(lambda: status_of(port) == 404, "traefik did not start")
            assert cluster.request("POST", ingresses, token, ingress)[0] == 201
            wait_until(lambda: status_of(port) == 200, "the Ingress is not served")
            assert cluster.request("DELETE", f"{ingresses}/search", token)[0] == 200
            wait_until(lambda: status_of(port) == 404, "the Ingress is served after its end")
        assert watched(tap) == {f"{BINARY};stream=watch"}


def watched(tap: Tap) -> set[str]:
    """The Content-Types of all answers, of which there must have been some."""
    found = re.findall(rb"(?i)\r\ncontent-type: ([^\r]*)", tap.answered)
    assert len(found) >= 5, tap.answered[:1000]
    return {value.decode() for value in found}
