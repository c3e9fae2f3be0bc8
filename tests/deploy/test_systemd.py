"""The systemd unit: systemd itself finds no fault with it, and its command line starts a door that heeds ExecReload."""

import configparser
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from portway.door.settings import GATEWAY
from portway.testing.chart import ROOT, objects
from portway.testing.cluster import Cluster, free_port, self_signed, wait_until
from portway.testing.demo import HELLO, admin_token
from portway.testing.deployed import applied, configured, kubeconfig, serving

UNIT = ROOT / "deploy" / "systemd" / "portway-gateway.service"
EXPOSED = 20
"""Tenths; systemd calls less than 2.0 OK. 10 would need a filter on addresses, which cannot know the cluster's."""
PR_SET_MDWE = 65
MDWE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit("no MDWE")
os.execv(sys.argv[1], sys.argv[1:])
"""

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(120)]
with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def service() -> dict[str, str]:
    """The [Service] section; of a key that stands there twice, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])


@with_systemd
def test_systemd_understands_all_of_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    installed = shlex.split(service()["ExecStart"])[0]
    copy.write_text(UNIT.read_text().replace(installed, sys.executable))  # it looks whether the program is there
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@with_systemd
def test_the_service_is_hardly_exposed() -> None:
    argv = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSED}", "--no-pager", str(UNIT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_flags_and_credentials_are_ones_that_exist() -> None:
    _, command, *rest = shlex.split(service()["ExecStart"])
    assert command == "gateway"
    flags = dict(zip(rest[::2], rest[1::2], strict=True))
    assert {flag.removeprefix("--") for flag in flags} - {"config"} <= GATEWAY.by_name.keys()
    copied = re.findall(r"^LoadCredential=([^:]+):", UNIT.read_text(), re.MULTILINE)
    assert {value.removeprefix("%d/") for value in flags.values() if value.startswith("%d/")} == {*copied}


def mdwe() -> bool:
    """Whether the kernel can refuse memory that is written and executed, as MemoryDenyWriteExecute does."""
    return bool(ctypes.CDLL(None).prctl(PR_SET_MDWE + 1, 0, 0, 0, 0) >= 0)


def test_its_command_line_serves_and_reloads(cluster: Cluster, tmp_path: Path) -> None:
    found = objects({"config": {"token-auth-file": str(tmp_path / "tokens.csv")}})
    port, settings = free_port(), tmp_path / "gateway.yaml"
    self_signed(tmp_path, "tls")
    configured(found, tmp_path, tmp_path, port)
    mine = {k: v for k, v in yaml.safe_load(settings.read_text()).items() if not k.startswith("tls-")}
    settings.write_text(yaml.safe_dump(mine))
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('first-token-of-somebody,ada,1,"system:masters"\n')
    line = service()["ExecStart"].replace("%d", str(tmp_path)).replace("/etc/portway/gateway.yaml", str(settings))
    program = Path(sys.executable).parent / "portway"
    argv = [str(program), *shlex.split(line)[1:]]
    with applied(cluster, found):
        kubeconfig(cluster, tmp_path / "kubeconfig")
        before = [sys.executable, "-c", MDWE] if mdwe() else []
        with serving([*before, *argv], tmp_path, port) as door:
            assert door.ask(HELLO, admin_token(cluster))[0] == 200
            assert door.ask(HELLO, "first-token-of-somebody")[0] == 200
            tokens.write_text('second-token-of-somebody,ada,1,"system:masters"\n')
            assert service()["ExecReload"] == "/bin/kill -HUP $MAINPID"
            os.kill(door.process.pid, signal.SIGHUP)
            wait_until(lambda: door.ask(HELLO, "second-token-of-somebody")[0] == 200, "the token is not known")
            assert door.ask(HELLO, "first-token-of-somebody")[0] == 401


def test_what_ends_it_by_itself_counts_as_a_failure_and_not_for_ever() -> None:
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.read_string(UNIT.read_text())
    attempts, seconds = int(parser["Unit"]["StartLimitBurst"]), int(parser["Unit"]["StartLimitIntervalSec"])
    assert service()["Restart"] == "on-failure"
    assert attempts * int(service()["RestartSec"]) < seconds
