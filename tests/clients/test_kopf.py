"""A kopf operator on built-in kinds (`published.py`), as a process of its own, through outages of everything."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.testing import clientlab
from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import admin_token, child

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

OPERATOR = Path(__file__).parent / "published.py"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of these tests' own: its processes are killed."""
    with started(tmp_path_factory.mktemp("cluster"), "--default-watch-cache-size=20", workers=1) as made:
        yield made


class Services:
    """What a user of the operator does, and what they see of it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._token = cluster, admin_token(cluster)
        self._path = f"/api/v1/namespaces/{namespace}"

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        status, answer = self._cluster.request(method, f"{self._path}/{path}", self._token, body, **headers)
        assert status in (200, 201, 202), answer
        return json.loads(answer)

    def make(self, name: str, *ports: int, **labels: str) -> None:
        meta = {"name": name, "labels": labels or {"publish": "yes"}}
        self.send("POST", "services", {"metadata": meta, "spec": {"ports": _ports(ports)}})

    def move(self, name: str, *ports: int) -> None:
        self.send("PATCH", f"services/{name}", {"spec": {"ports": _ports(ports)}}, **MERGE)

    def delete(self, name: str) -> None:
        self.send("DELETE", f"services/{name}")

    def published(self) -> dict[str, str]:
        """Service → the ports that the operator wrote down."""
        items = self.send("GET", "configmaps")["items"]
        named = {each["metadata"]["name"]: each for each in items}
        return {
            name.removeprefix("where-"): each["data"]["ports"]
            for name, each in named.items()
            if name.startswith("where-")
        }

    def left(self) -> set[str]:
        """Services whose end the operator saw."""
        names = [each["metadata"]["name"] for each in self.send("GET", "configmaps")["items"]]
        return {name.removeprefix("left-") for name in names if name.startswith("left-")}

    def events(self) -> set[tuple[str, str]]:
        """(kind/name, reason)."""
        found = [(each["involvedObject"], each["reason"]) for each in self.send("GET", "events")["items"]]
        return {(f"{of['kind']}/{of['name']}", reason) for of, reason in found}

    def names(self) -> set[str]:
        return {each["metadata"]["name"] for each in self.send("GET", "services")["items"]}


def _ports(ports: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{"name": f"p{port}", "port": port} for port in ports]


@contextmanager
def operating(configuration: Path, namespace: str, log: Path) -> Iterator[None]:
    """The operator, told to stop at the end of the block: it ends by itself, with 0."""
    argv = [sys.executable, "-m", "kopf", "run", str(OPERATOR), f"--namespace={namespace}", "--standalone"]
    environment = os.environ | {"KUBECONFIG": str(configuration)}
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    except BaseException as error:
        error.add_note(log.read_text())
        raise
    finally:
        process.terminate()
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert code == 0, log.read_text()


def killed(cluster: Cluster, module: str) -> None:
    """Kills a child of `up`; the API answers again when this returns."""
    pid = child(cluster, module)
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        try:
            answers = cluster.request("GET", "/api/v1/namespaces/default", admin_token(cluster))[0] == 200
            return child(cluster, module) != pid and answers
        except (OSError, LookupError):
            return False

    wait_until(replaced, f"{module} was not started again", 90)


def test_an_operator_keeps_its_promises(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    services = Services(cluster, namespace)
    services.make("early", 80)
    services.make("private", 80, publish="no")

    def shows(after: str, **wanted: str) -> None:
        wait_until(lambda: services.published() == wanted, f"after {after}: not {wanted}", 60)

    with clientlab.wire(cluster) as way:
        login = clientlab.exec_kubeconfig(cluster, tmp_path, server=way.server, namespace=namespace)
        with operating(login.path, namespace, tmp_path / "operator.log"):
            shows("its start", early="80")
            services.make("late", 80, 443)
            shows("a creation", early="80", late="80,443")
            services.move("early", 81)
            shows("a change", early="81", late="80,443")
            note = services.send("GET", "services/late")["metadata"]["annotations"]["example.com/published"]
            assert note == "2"
            assert way.cut() >= 1
            services.move("early", 82)
            shows("a cut", early="82", late="80,443")
            with way.held():
                services.make("meanwhile", 90)
                services.move("early", 83)
                for port in range(1, 42):  # more than the server's history
                    services.move("private", port)
            shows("the history's passing", early="83", late="80,443", meanwhile="90")
            killed(cluster, "gateway.worker")
            services.move("meanwhile", 91)
            shows("the worker's end", early="83", late="80,443", meanwhile="91")
            killed(cluster, "up.control")
            services.move("late", 444)
            shows("the API server's end", early="83", late="444", meanwhile="91")
            services.delete("late")
            wait_until(lambda: services.left() == {"late"}, "its end was not seen")
            wait_until(lambda: "late" not in services.names(), "the operator holds it")
            wait_until(lambda: ("Service/early", "Published") in services.events(), "no event")
    assert login.runs >= 1
    # What belongs to a service goes with it.
    shows("a deletion", early="83", meanwhile="91")
