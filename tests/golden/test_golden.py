"""What a real kube-apiserver answered, asked again of an embedded cluster made of real processes.

The backend gets an address in a network namespace of its own where that is possible (root); elsewhere it listens on a
loopback address of the cluster's pod range and the recorded address is replaced by that one throughout.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.testing.cluster import Cluster, accepts, self_signed, started, wait_until

pytestmark = [pytest.mark.golden, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
ADDRESS = "10.77.0.2"
CONTRACT = runpy.run_path(str(RECORDED / "contract.py"))
CASES = {case["name"]: case for case in json.loads((RECORDED / "cases.json").read_text())}
ANSWERS = json.loads((RECORDED / "answers.json").read_text())
DEVIATIONS = json.loads((HERE / "deviations.json").read_text())


class Backend:
    """The recorded cases' backend, in its own namespace when root: one that ends with the process, however it ends."""

    def __init__(self, directory: Path) -> None:
        certificate, key = self_signed(directory, "backend")
        separate = os.geteuid() == 0 and shutil.which("ip") is not None
        self.address = ADDRESS if separate else "127.64.200.2"
        argv = [sys.executable, str(RECORDED / "backend.py"), self.address, str(certificate), str(key)]
        if separate:
            waiting = [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "sh",
                "-c",
                'echo; read _; exec "$@"',
                "sh",
            ]
            argv = [*waiting, *argv]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if separate:
                self._connect()
            wait_until(self._listens, f"no backend at {self.address}")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        """A pair of interfaces between the process's namespace and ours, and then its start."""
        start, ready = self._process.stdin, self._process.stdout
        assert start is not None
        assert ready is not None
        assert ready.readline() == b"\n"
        space, link = f"/proc/{self._process.pid}/ns/net", f"pw{self._process.pid}"
        for command in (
            f"ip link add {link} type veth peer name eth0 netns {self._process.pid}",
            f"ip addr add 10.77.0.1/24 dev {link}",
            f"ip link set {link} up",
            f"nsenter --net={space} ip addr add {ADDRESS}/24 dev eth0",
            f"nsenter --net={space} ip link set eth0 up",
            f"nsenter --net={space} ip link set lo up",
        ):
            subprocess.run(command.split(), check=True)
        start.write(b"\n")
        start.flush()

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the backend ended: exit code {self._process.returncode}")
        return all(accepts(self.address, port) for port in (9200, 9300, 9443))

    def close(self) -> None:
        """Ends the process; its namespace and the interfaces go with it."""
        self._process.terminate()
        self._process.communicate(timeout=10)

    def localised(self, value: Any) -> Any:
        """A case or an answer with this backend's address in it."""
        return json.loads(json.dumps(value).replace(ADDRESS, self.address))


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    found = Backend(tmp_path_factory.mktemp("backend"))
    yield found
    found.close()


def _cluster(directory: Path, backend: Backend, controllers: str) -> Iterator[Cluster]:
    flags = (
        f"--token-auth-file={RECORDED / 'tokens.csv'}",
        f"--controllers={controllers}",
        "--service-account-issuer=https://kubernetes.default.svc",
    )
    with started(directory, *flags) as cluster:
        CONTRACT["setup"](cluster.server, "admin-token", backend.address)
        cluster.settle("/api/v1/namespaces/kube-system/services/https:elasticsearch-tls:/proxy/", "admin-token")
        yield cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Cluster]:
    yield from _cluster(tmp_path_factory.mktemp("golden"), backend, "*,-clusterrole-aggregation-controller")


@pytest.fixture(scope="module")
def aggregated(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Cluster]:
    yield from _cluster(tmp_path_factory.mktemp("aggregated"), backend, "*")


def differences(cluster: Cluster, backend: Backend, name: str) -> list[str]:
    """What is otherwise than recorded, as contract.py says it."""
    case = backend.localised(CASES[name])
    answer = CONTRACT["exchange"](cluster.server, case)
    found: list[str] = CONTRACT["differences"](backend.localised(ANSWERS[name]), answer, case.get("ignore", []))
    return found


@pytest.mark.parametrize("name", [name for name in CASES if name not in DEVIATIONS])
def test_answers_as_recorded(cluster: Cluster, backend: Backend, name: str) -> None:
    assert differences(cluster, backend, name) == []


@pytest.mark.parametrize("name", DEVIATIONS)
def test_differs_where_it_is_meant_to(cluster: Cluster, backend: Backend, name: str) -> None:
    assert differences(cluster, backend, name), f"{name} is as recorded: take it off the list"


@pytest.mark.parametrize("name", [n for n, why in DEVIATIONS.items() if "User-Agent" in why])
def test_the_websocket_cases_differ_in_the_user_agent_alone(cluster: Cluster, backend: Backend, name: str) -> None:
    case = dict(CASES[name])
    case["headers"] = [*case["headers"], ["User-Agent", "Go-http-client/1.1"]]
    answer = CONTRACT["exchange"](cluster.server, backend.localised(case))
    assert CONTRACT["differences"](backend.localised(ANSWERS[name]), answer, []) == []


def test_a_review_says_what_rbac_says(cluster: Cluster) -> None:
    answer = CONTRACT["exchange"](cluster.server, CASES["api/sar"])
    assert answer["status"] == 201
    assert answer["body"]["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "named/demo" of Role "named" to Group "named"',
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_edit_reaches_services_once_aggregated(aggregated: Cluster, method: str) -> None:
    assert CONTRACT["exchange"](aggregated.server, CASES[f"auth/editor-{method}"])["status"] == 200
    assert CONTRACT["exchange"](aggregated.server, CASES["auth/editor-OPTIONS"])["status"] == 403
