"""The API server behind the door stops, dies and comes back: what is known goes on for a while, and says so."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import admin_token, descendants
from portway.testing.recording import Backend, backend
from portway.testing.teamdoor import (
    ROLES,
    account,
    ask,
    bind,
    door_account,
    gateway,
    make,
    pod_addresses,
    readiness,
    token,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SERVICE = "/api/v1/namespaces/default/services/web/proxy/"
OTHER = "/api/v1/namespaces/default/services/web:80/proxy/other"
SECRETS = "/api/v1/namespaces/default/secrets"
TTL, GRACE = 1, 8
SLACK = 4
"""Seconds that a silent API is waited for, and a busy machine may be late."""
FLAGS = (
    "--via=direct",
    f"--outage-grace={GRACE}",
    f"--authentication-token-webhook-cache-ttl={TTL}",
    f"--authorization-webhook-cache-authorized-ttl={TTL}",
    f"--authorization-webhook-cache-unauthorized-ttl={TTL}",
)
SEES = [{"apiGroups": [""], "resources": ["services/proxy", "secrets"], "verbs": ["get", "list"]}]


@dataclass
class Behind:
    """The cluster, which can be stopped, killed and started again; and a backend, which lives on."""

    cluster: Cluster
    web: Backend
    directory: Path

    def processes(self) -> list[int]:
        return [self.cluster.process.pid, *descendants(self.cluster.process.pid)]

    def pause(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.cluster.process.wait()

    def start(self) -> None:
        with self.cluster.output.open("ab") as log:
            process = subprocess.Popen(self.cluster.process.args, stdout=log, stderr=subprocess.STDOUT)
        was = self.cluster
        self.cluster = Cluster(was.server, was.kubeconfig, was.data_dir, process, was.output)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp("outages")
    with started(directory, "--demo", "--insecure-port=0", workers=1) as cluster:
        bind(cluster, "sees", SEES, account("ann"))
        token(cluster, "ann")
        with backend(pod_addresses(cluster, "hello-0")) as web:
            spec = {"selector": {"app.kubernetes.io/name": "hello"}, "ports": [{"port": 80, "targetPort": web.port}]}
            make(cluster, "/api/v1/namespaces/default/services", "web", spec=spec)
            found = Behind(cluster, web, directory)
            try:
                yield found
            finally:
                found.resume()
                found.cluster.process.terminate()
                found.cluster.process.wait(40)


@dataclass(frozen=True)
class Guest:
    door: Cluster
    bearer: str

    def status(self, target: str = SERVICE, bearer: str | None = None) -> int:
        return int(ask(self.door, "GET", target, self.bearer if bearer is None else bearer)[0][":status"])


@pytest.fixture
def guest(behind: Behind, tmp_path: Path) -> Iterator[Guest]:
    kubeconfig = door_account(behind.cluster, tmp_path)
    with gateway(tmp_path / "door", kubeconfig, *FLAGS) as door:
        found = Guest(door, token(behind.cluster, "ann"))
        wait_until(lambda: found.status() == 200, "not reachable")
        yield found


def lasts(guest: Guest, away: Callable[[], None]) -> tuple[float, list[str]]:
    """(seconds from the outage until somebody known is let in for the last time, what /readyz said meanwhile)"""
    assert guest.status() == 200
    away()
    began, last, said = time.monotonic(), 0.0, []
    while (status := guest.status()) == 200:
        last = time.monotonic() - began
        assert last < TTL + GRACE + SLACK, "an old answer counts for ever"
        said.append(readiness(guest.door)[1])
    assert status == 503
    return last, said


def api_answers(behind: Behind) -> bool:
    try:
        return behind.cluster.request("GET", "/readyz", "")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_is_known_goes_on_for_the_grace(behind: Behind, guest: Guest, how: str) -> None:
    workers = descendants(guest.door.process.pid)
    assert guest.status(SECRETS) == 200
    stranger = token(behind.cluster, "stranger")
    lasted, said = lasts(guest, behind.pause if how == "stopped" else behind.kill)
    print(f"\nAPI server {how}: somebody known went on for {lasted:.1f} s (grace {GRACE} s, time {TTL} s)")
    assert lasted >= GRACE - 2
    # An outage denies: nobody new gets in, nobody is told that a good token is wrong, and nobody is let through.
    assert guest.status(bearer=stranger) == 503
    assert guest.status() == 503
    assert guest.status(SECRETS) == 503
    assert guest.status("/livez", "") == 200
    code, text = readiness(guest.door)
    assert code == 500
    assert "TokenReviews are not answered for" in text
    assert "SubjectAccessReviews are not answered for" in text
    assert any("not answered" in one for one in said)
    if how == "stopped":
        behind.resume()
    else:
        assert "[-]api failed: the API server has not answered for" in text
        behind.start()
        wait_until(lambda: api_answers(behind), "the API server does not start")
    began = time.monotonic()
    wait_until(lambda: guest.status() == 200, "it does not recover")
    serves = time.monotonic() - began
    wait_until(lambda: readiness(guest.door)[0] == 200, "health does not recover", 60)
    print(f"served again {serves:.1f} s, well again {time.monotonic() - began:.1f} s after the API server was back")
    assert guest.status(SECRETS) == 200
    assert guest.status(bearer=stranger) == 403
    assert descendants(guest.door.process.pid) == workers


def test_a_short_outage_is_nobodys_who_was_there(behind: Behind, guest: Guest) -> None:
    """Known routes, unexpired decisions, kept connections: not one request is lost in an outage within the grace."""
    began = time.monotonic()
    behind.kill()
    codes = set()
    while time.monotonic() - began < GRACE / 2:
        codes.add(guest.status())
    behind.start()
    wait_until(lambda: guest.status(SECRETS) == 200, "no API again")
    codes.add(guest.status())
    assert codes == {200}


def test_what_was_taken_back_in_an_outage_is_gone_after_it(behind: Behind, guest: Guest) -> None:
    bind(behind.cluster, "briefly", SEES, account("brief"))
    brief = token(behind.cluster, "brief")
    wait_until(lambda: guest.status(bearer=brief) == 200, "the right is not known")
    workers = descendants(guest.door.process.pid)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/briefly"
    assert behind.cluster.request("DELETE", path, admin_token(behind.cluster))[0] == 200
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: guest.status(bearer=brief) == 403, "a right that is gone still counts")


def test_the_doors_own_credential_is_refused(behind: Behind, tmp_path: Path) -> None:
    """Then nothing is known to be wrong with anybody's token: 503, never 401."""
    kubeconfig = door_account(behind.cluster, tmp_path, name="fired")
    with gateway(tmp_path / "door", kubeconfig, *FLAGS) as door:
        guest = Guest(door, token(behind.cluster, "ann"))
        wait_until(lambda: guest.status() == 200, "not reachable")
        path = "/api/v1/namespaces/portway-door/serviceaccounts/fired"
        assert behind.cluster.request("DELETE", path, admin_token(behind.cluster))[0] == 200
        codes: list[int] = []

        def refused() -> bool:
            codes.append(guest.status(SECRETS))
            return guest.status() == 503

        wait_until(refused, "the API's refusal of the door changes nothing")
        assert set(codes) <= {200, 503}
        assert guest.status("/livez", "") == 200
        assert "let the door ask" in readiness(door)[1] or "Unauthorized" in readiness(door)[1]


def test_a_401_that_is_for_the_door_is_no_callers(behind: Behind, tmp_path: Path) -> None:
    """The decision is still known, so the request goes to the API server, which refuses the door."""
    kubeconfig = door_account(behind.cluster, tmp_path, name="retired")
    with gateway(tmp_path / "door", kubeconfig, "--via=direct") as door:
        guest = Guest(door, token(behind.cluster, "ann"))
        wait_until(lambda: guest.status(SECRETS) == 200, "not reachable")
        path = "/api/v1/namespaces/portway-door/serviceaccounts/retired"
        assert behind.cluster.request("DELETE", path, admin_token(behind.cluster))[0] == 200
        codes: list[int] = []

        def refused() -> bool:
            codes.append(guest.status(SECRETS))
            return codes[-1] != 200

        wait_until(refused, "the API's refusal of the door changes nothing")
        fields, body = ask(door, "GET", SECRETS, guest.bearer)
        assert (codes[-1], fields[":status"], fields["retry-after"]) == (503, "503", "1")
        assert b"the API server refuses the door's own credential" in body


# RBAC on the view


def test_roles_that_cannot_be_read_authorise_nobody(behind: Behind, tmp_path: Path) -> None:
    kubeconfig = door_account(behind.cluster, tmp_path, name="blind")
    flags = (*FLAGS, "--authorization-mode=RBAC")
    with gateway(tmp_path / "door", kubeconfig, *flags, ready=lambda status: status in (200, 403, 500, 503)) as door:
        guest = Guest(door, token(behind.cluster, "ann"))
        wait_until(lambda: guest.status() == 503, "roles that can't be read let somebody in, or deny for ever")
        _, body = ask(door, "GET", SERVICE, guest.bearer)
        assert b"roles may not be read" in body
        for bearer in ("", guest.bearer):
            assert guest.status("/livez", bearer) == 200, "whoever watches over the door must not kill it for that"
        bind(behind.cluster, "portway:reads", [ROLES], account("blind", "portway-door"))
        wait_until(lambda: guest.status() == 200, "roles that may be read now are not")
        assert guest.status(bearer=token(behind.cluster, "stranger")) == 403


def test_roles_that_cannot_be_followed_count_for_the_grace(behind: Behind, tmp_path: Path) -> None:
    kubeconfig = door_account(behind.cluster, tmp_path, ROLES, name="reader")
    with gateway(tmp_path / "door", kubeconfig, *FLAGS, "--authorization-mode=RBAC") as door:
        guest = Guest(door, token(behind.cluster, "ann"))
        wait_until(lambda: guest.status() == 200, "not reachable")
        workers = descendants(door.process.pid)
        lasted, _ = lasts(guest, behind.kill)
        assert lasted >= GRACE - 2
        assert b"roles could not be followed" in ask(door, "GET", SERVICE, guest.bearer)[1]
        assert guest.status("/livez", "") == 200, "whoever watches over the door must not kill it for that"
        assert readiness(door)[0] == 500
        behind.start()
        wait_until(lambda: guest.status() == 200, "it does not recover")
        wait_until(lambda: readiness(door)[0] == 200, "health does not recover")
        assert descendants(door.process.pid) == workers
