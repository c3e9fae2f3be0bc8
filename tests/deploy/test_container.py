"""The container file, without a container engine: hadolint reads it, and its steps are carried out one by one.

Each stage's root is an overlay over this machine's, in a mount namespace that ends with the command; the base image's
Python is a virtual environment. What is not tried so: that the base image exists, and is what it says.
The door then runs as a pod's container would: process 1, a user without a name, no capabilities, nothing writable but
/tmp.
"""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.testing.chart import ROOT, objects, of_kind
from portway.testing.cluster import Cluster, free_port, self_signed, wait_until
from portway.testing.demo import HELLO, admin_token
from portway.testing.deployed import applied, configured, kubeconfig, serving

BASE = "/usr/local/base"
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
UNSHARE = shutil.which("unshare")


def privileged() -> bool:
    """Whether this machine lets us have mount namespaces."""
    if os.geteuid() != 0 or UNSHARE is None:
        return False
    return subprocess.run([UNSHARE, "--mount", "true"], check=False, capture_output=True).returncode == 0


pytestmark = [pytest.mark.deploy, pytest.mark.timeout(400)]
as_root = pytest.mark.skipif(not privileged(), reason="mount namespaces are root's here")


@dataclass(frozen=True)
class Step:
    stage: int
    instruction: str
    value: str


def steps() -> list[Step]:
    from dockerfile_parse import DockerfileParser

    found, stage = [], -1
    for entry in DockerfileParser(fileobj=io.BytesIO(CONTAINERFILE.read_bytes())).structure:
        stage += entry["instruction"] == "FROM"
        if stage >= 0 and entry["instruction"] != "COMMENT":
            found.append(Step(stage, entry["instruction"], " ".join(entry["value"].split())))
    return found


def environment(stage: int) -> dict[str, str]:
    """What ENV says."""
    variables = {"PATH": f"{BASE}/bin:/usr/bin:/bin"}
    for step in steps():
        if (step.stage, step.instruction) == (stage, "ENV"):
            for assignment in shlex.split(step.value):
                name, _, value = assignment.partition("=")
                variables[name] = value.replace("$PATH", variables["PATH"])
    return variables


def last(instruction: str) -> str:
    return next(step.value for step in reversed(steps()) if step.instruction == instruction)


def test_hadolint_has_nothing_to_say() -> None:
    binary = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [binary, "--failure-threshold=style", CONTAINERFILE], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_in_the_context_and_nothing_else_is() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {
        source.removeprefix("./")
        for step in steps()
        if step.instruction == "COPY" and not step.value.startswith("--from")
        for source in step.value.split()[:-1]
    }
    assert sources == allowed
    assert "\n*\n" in (ROOT / ".dockerignore").read_text()


def test_it_runs_as_a_number_that_the_chart_says_too() -> None:
    (deployment,) = of_kind(objects(), "Deployment")
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert last("USER") == f"{context['runAsUser']}:{context['runAsGroup']}" == "65532:65532"
    assert (json.loads(last("ENTRYPOINT")), json.loads(last("CMD"))) == (["portway"], ["gateway"])
    assert deployment["spec"]["template"]["spec"]["containers"][0]["args"][0] == "gateway"


# Carrying it out.

PREPARE = """
set -eu
mount -t tmpfs tmpfs {work}
mkdir {work}/upper {work}/scratch {work}/root
mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/scratch {work}/root
mount --rbind /dev {work}/root/dev
mount -t proc proc {work}/root/proc
for directory in {parents}; do chmod o+x {work}/root$directory; done
chroot {work}/root {python} -m venv --clear {base}
"""


def prepared(work: Path) -> str:
    """A script that makes a root with Python in it, as the base image has it."""
    python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    parents = " ".join(str(parent) for parent in python.parents if str(parent) != "/")
    work.mkdir()
    return PREPARE.format(work=work, base=BASE, python=python, parents=parents)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/portway, as the first stage makes it."""
    directory = tmp_path_factory.mktemp("build")
    # A cache of downloads is no part of the image: let pip use this machine's.
    variables = {k: v for k, v in environment(0).items() if k != "PIP_NO_CACHE_DIR"}
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    root, script, workdir = directory / "work" / "root", [prepared(directory / "work")], "/"
    for step in (step for step in steps() if step.stage == 0):
        if step.instruction == "WORKDIR":
            workdir = step.value
            script.append(f"mkdir -p {root}{workdir}")
        elif step.instruction == "COPY":
            *sources, target = step.value.split()
            target = os.path.normpath(f"{root}{workdir}/{target}")
            for source in sources:
                to = f"{target}/{source}" if (ROOT / source).is_file() else target
                script.append(f"mkdir -p $(dirname {to}) && cp -rT {ROOT / source} {to}")
        elif step.instruction == "RUN":
            inside = shlex.quote(f"cd {workdir} && {step.value}")
            script.append(f"chroot {root} env {exports} /bin/sh -euc {inside}")
        else:
            assert step.instruction in ("FROM", "ENV")
    script.append(f"cp -r {root}/opt/portway {directory}/result")
    run = ["unshare", "--mount", "sh", "-c", "\n".join(script)]
    done = subprocess.run(run, check=False, capture_output=True, text=True, timeout=360)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "result"


@pytest.fixture
def inside(built: Path, tmp_path: Path) -> Iterator[list[str]]:
    """The beginning of a command line that runs what follows in the image, as a pod does: read-only, without rights."""
    copies = [step.value for step in steps() if step.stage == 1 and step.instruction == "COPY"]
    assert copies == ["--from=build /opt/portway /opt/portway"]
    work, user = tmp_path / "work", last("USER").split(":")
    root = work / "root"
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment(1).items())
    limits = "--clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
    script = f"""{prepared(work)}
mkdir -p {root}/opt {root}/etc/portway
cp -r {built} {root}/opt/portway
cp -r {tmp_path}/files/. {root}/etc/portway/
chown -R {user[0]}:{user[1]} {root}/etc/portway
mount -o remount,ro {root}
mount -t tmpfs -o size=16m,mode=1777 tmpfs {root}/tmp
exec chroot {root} setpriv --reuid={user[0]} --regid={user[1]} {limits} env -i {exports} "$@"
"""
    (tmp_path / "files").mkdir()
    yield ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]
    shutil.rmtree(tmp_path / "files")


@as_root
def test_the_steps_make_an_environment_that_runs(inside: list[str]) -> None:
    done = subprocess.run(
        [*inside, *json.loads(last("ENTRYPOINT")), "version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


@as_root
def test_the_result_has_no_pip_and_is_compiled(built: Path) -> None:
    assert not (built / "bin" / "pip").exists()
    packages = next(built.glob("lib/python3.*/site-packages"))
    assert not list(packages.glob("pip*"))
    assert not {"pytest", "hatchling", "mypy"} & {path.name for path in packages.iterdir()}
    assert list((packages / "portway" / "__pycache__").glob("*.pyc"))


@as_root
def test_where_it_runs_is_as_bare_as_a_pod(inside: list[str]) -> None:
    program = """
import os, pathlib
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
def writable(path):
    try:
        pathlib.Path(path, "x").touch()
        return True
    except OSError:
        return False
print(os.getpid(), os.getuid(), os.getgid(), status["CapEff"], status["CapBnd"], status["NoNewPrivs"],
      *map(writable, ("/", "/opt/portway", "/etc/portway", "/tmp")))
"""
    done = subprocess.run([*inside, "python", "-c", program], capture_output=True, text=True, check=False)
    none = "0" * 16
    assert done.stdout.split() == ["1", "65532", "65532", none, none, "1", "False", "False", "False", "True"], (
        done.stderr
    )


@as_root
def test_the_door_serves_there_and_stops_when_it_is_told(inside: list[str], cluster: Cluster, tmp_path: Path) -> None:
    found, files, port = objects(), tmp_path / "files", free_port()
    certificate, _ = self_signed(files, "tls")
    configured(found, files, Path("/etc/portway"), port)
    with applied(cluster, found):
        kubeconfig(cluster, files / "kubeconfig")
        flags = ["--config=/etc/portway/gateway.yaml", "--kubeconfig=/etc/portway/kubeconfig"]
        argv = [*inside, *json.loads(last("ENTRYPOINT")), *json.loads(last("CMD")), *flags]
        with serving(argv, files, port) as door:
            assert certificate == door.certificate
            (deployment,) = of_kind(found, "Deployment")
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = container[probe]["httpGet"]["path"]
                wait_until(lambda path=path: door.ask(path)[0] == 200, f"{probe}: {door.ask(path)}")
            assert door.ask(HELLO, admin_token(cluster))[0] == 200
            assert door.ask("/api")[0] == 401, "only the probes' paths are open to whoever says nothing"
            before_stop = container["lifecycle"]["preStop"]["exec"]["command"]
            assert before_stop[:2] == ["python", "-c"]
            first = int(Path(f"/proc/{door.process.pid}/task/{door.process.pid}/children").read_text().split()[0])
            os.kill(first, 15)
            assert door.process.wait(40) == 0
        assert "Traceback" not in door.log.read_text()
